"""The hash generator against the published algorithm; alias tables against the probabilities they stand for."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.probes.tasks.alias import ONE, alias_tables, quantized, table_probabilities
from workbench.probes.tasks.random import hash_counters, mix, stream_key

MASK = 2**64 - 1


def splitmix_finalizer(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def test_known_answer_of_splitmix64():
    # First output of SplitMix64 seeded with 0, as in the reference implementations.
    state = torch.tensor(0x9E3779B97F4A7C15 - 2**64)
    assert int(mix(state)) & MASK == 0xE220A8397B1DCDAF


@settings(max_examples=200, deadline=None)
@given(st.integers(0, MASK))
def test_mix_is_unsigned_arithmetic_on_signed_words(x):
    signed = x - 2**64 if x >= 2**63 else x
    assert int(mix(torch.tensor(signed, dtype=torch.int64))) & MASK == splitmix_finalizer(x)


def test_bits_are_balanced_and_uncorrelated():
    bits = hash_counters(torch.tensor(stream_key(7, 0)), torch.arange(2000)[:, None], torch.arange(50))
    ones = torch.stack([(bits >> k) & 1 for k in range(64)]).double().flatten(1)  # [64, 100_000]
    sigma = 0.5 / ones.shape[1] ** 0.5
    assert (ones.mean(1) - 0.5).abs().max() < 5 * sigma
    centred = ones - ones.mean(1, keepdim=True)
    correlation = centred @ centred.T / ones.shape[1] / 0.25
    assert (correlation - torch.eye(64)).abs().max() < 6 / ones.shape[1] ** 0.5


def test_streams_have_different_keys():
    keys = {stream_key(seed, purpose) for seed in range(500) for purpose in range(4)}
    assert len(keys) == 2000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(0, 6))
def test_alias_tables_hold_exactly_their_probabilities(seed, v, spread):
    p = np.exp(spread * np.random.default_rng(seed).standard_normal((5, v)))
    p /= p.sum(1, keepdims=True)
    threshold, alias = alias_tables(p)
    assert ((threshold >= 0) & (threshold <= ONE)).all()
    recovered = table_probabilities(threshold, alias)
    assert (recovered == quantized(p)).all()
    assert (recovered.sum(1) == v * ONE).all()
    assert np.abs(recovered / (v * ONE) - p).max() <= 1.01 / ONE


def test_alias_tables_of_edge_cases():
    p = np.array([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0.5, 0.5]])
    recovered = table_probabilities(*alias_tables(p)) / (4 * ONE)
    assert (recovered == p).all()
