"""The hidden-Markov language: entropy between rigorous bounds, and a loss without label noise."""

import itertools
import math

import numpy as np
import pytest
import torch

from workbench.probes import Probe
from workbench.probes.tasks.hidden_markov import HiddenMarkovLanguage
from workbench.testing.tasks import TaskContract

CPU = torch.device("cpu")
SMALL = HiddenMarkovLanguage(vocab=3, states=2, tau=1.0, s=0.5, memory=1.5, seed=1)


def following(language, prefix):
    """Probabilities of the next token by a sum over all paths of hidden states."""
    pi, p, q = language.stationary, language.transition, language.emission
    total = np.zeros(language.vocab)
    for path in itertools.product(range(language.states), repeat=len(prefix) + 1):
        weight = pi[path[0]]
        for t, token in enumerate(prefix):
            weight *= q[path[t], token] * p[path[t], path[t + 1]]
        total += weight * q[path[-1]]
    return total / total.sum()


class TestHiddenMarkov(TaskContract):
    probe = Probe(
        task="hidden_markov", vocab=6, states=3, context=8, width=8, batch_tokens=256, tokens=1024, evals=2, tau=1.5
    )
    members = ({}, {"seed": 1}, {"seed": 2, "tau": 1.0, "s": 0.5, "memory": 2.0, "language_seed": 3})
    refused = (
        ({"states": 100, "memory": 2.0}, "states.memory"),
        ({"memory": -1.0}, "memory"),
        ({"vocab": 1}, "vocab"),
    )
    apart = {"context": 32}
    learns, trivial = {"tokens": 2**16, "lr": 0.02, "states": 2, "memory": 3.0, "width": 16}, 1.5

    def optimal(self, data, probes):
        languages = [probe.task_settings.language() for probe in probes]

        def predict(x):
            x = x.expand(len(probes), -1, -1)
            rows = [
                [[following(one, row[: t + 1]) for t in range(len(row))] for row in member]
                for one, member in zip(languages, x.tolist(), strict=True)
            ]
            return torch.tensor(np.array(rows)).log().float()

        data.heldout, data.beliefs = data.heldout[:, :10, :6], data.beliefs[:, :10, :5]  # paths are many
        data.weights = data.weights[:, :10, :5] / data.weights[:, :10, :5].sum((1, 2), keepdim=True)
        probabilities = predict(data.heldout[..., :-1]).double().exp()
        entropies = -(probabilities * probabilities.log()).sum(-1)
        return predict, (entropies * data.weights).sum((1, 2)).tolist()


def test_beliefs_against_all_paths():
    language = HiddenMarkovLanguage(vocab=4, states=3, tau=1.5, s=1.0, memory=1.0, seed=0)
    tokens = np.random.default_rng(0).integers(0, 4, (5, 6))
    exact = language.beliefs(tokens) @ language.emission
    for row, text in zip(exact, tokens.tolist(), strict=True):
        for t in range(6):
            assert row[t] == pytest.approx(following(language, text[: t + 1]), abs=1e-13)


def test_the_bracket_against_all_texts_and_paths():
    language, n = SMALL, 4
    probability = {
        (first, text): sum(
            language.stationary[first]
            * math.prod(language.emission[state, token] for state, token in zip(path, text, strict=True))
            * math.prod(language.transition[i, j] for i, j in itertools.pairwise(path))
            for path in ((first, *rest) for rest in itertools.product(range(2), repeat=len(text) - 1))
        )
        for length in (n - 1, n)
        for text in itertools.product(range(3), repeat=length)
        for first in range(2)
    }

    def entropy(length, known):
        groups = {}
        for (first, text), p in probability.items():
            if len(text) == length:
                groups[(first, text) if known else text] = groups.get((first, text) if known else text, 0) + p
        return -sum(p * math.log(p) for p in groups.values())

    low, high = language.bracket(n)
    assert high == pytest.approx(entropy(n, False) - entropy(n - 1, False), abs=1e-12)
    assert low == pytest.approx(entropy(n, True) - entropy(n - 1, True), abs=1e-12)


def test_bounds_close_in_on_the_entropy_rate():
    ends = [SMALL.bracket(n) for n in (1, 2, 4, 8, 11)]
    assert all(low <= high for low, high in ends)
    lows, highs = zip(*ends, strict=True)
    assert list(lows) == sorted(lows)
    assert list(highs) == sorted(highs, reverse=True)
    assert highs[0] == pytest.approx(SMALL.unigram_entropy, abs=1e-12)
    low, high = ends[-1]
    assert high - low < 1e-3
    assert SMALL.entropy_error < 3e-3
    assert low - 4 * SMALL.entropy_error < SMALL.entropy < high + 4 * SMALL.entropy_error
    with pytest.raises(ValueError, match="small languages"):
        SMALL.bracket(40)


@pytest.mark.parametrize("seed", range(4))
def test_the_stated_error_is_honest(seed):
    language = HiddenMarkovLanguage(vocab=2, states=3, tau=2.0, s=0.5, memory=0.5, seed=seed)
    low, high = language.bracket(18)
    assert high - low < 1e-4
    assert abs(language.entropy - (low + high) / 2) < 4 * language.entropy_error < 0.01


def test_states_that_emit_alike_have_the_entropy_of_frequencies():
    language = HiddenMarkovLanguage(vocab=8, states=1, tau=1.0, s=1.0, memory=1.0, seed=0)
    assert language.entropy == pytest.approx(language.unigram_entropy, abs=1e-12)
    assert HiddenMarkovLanguage(5, 4, 0.0, 1.0, 1.0, 0).entropy == pytest.approx(math.log(5), abs=1e-12)


def test_sampled_texts_follow_the_language():
    probe = TestHiddenMarkov.probe
    data = probe.task_settings.build([probe], CPU)
    language = probe.task_settings.language()
    tokens = data.block(0, 200)[0].reshape(-1, 9).numpy()
    for t in (0, 7):  # pairs at the beginning and the end of a text: the chain is stationary
        pairs = np.zeros((6, 6))
        np.add.at(pairs, (tokens[:, t], tokens[:, t + 1]), 1)
        first = language.stationary[:, None, None] * language.emission[:, :, None]  # [state, token, 1]
        expected = np.einsum("sxo,st,ty->xy", first, language.transition, language.emission) * len(tokens)
        chi2 = ((pairs - expected) ** 2 / expected).sum()
        assert abs(chi2 - 35) < 5 * math.sqrt(70)


def test_states_last_a_power_law_of_times():
    language = HiddenMarkovLanguage(vocab=4, states=50, tau=1.0, s=1.0, memory=1.0, seed=0)
    stay = np.diag(language.transition)
    jump = np.diag(language._drawn[0])
    assert 1 - stay == pytest.approx(np.arange(1, 51) ** -1.0 * (1 - jump), rel=1e-12)
    assert language.stationary @ language.transition == pytest.approx(language.stationary, abs=1e-14)


def test_longer_contexts_are_worth_something_and_the_floor_is_the_populations():
    probe = TestHiddenMarkov.probe.replace(states=16, context=64, memory=1.5, tokens=2048, batch_tokens=512)
    data = probe.task_settings.build([probe], CPU)
    language = probe.task_settings.language()
    assert language.entropy < float(data.optimal) < language.unigram_entropy
    assert data.facts(0)["optimal_loss"] == float(data.optimal)
    # the same mean over positions 1 ... 64, from eight thousand independent texts and without weights
    rng = np.random.default_rng(0)
    n, state = 8_000, rng.choice(16, 8_000, p=language.stationary)
    belief, entropies = np.tile(language.stationary, (n, 1)), []
    for _ in range(64):
        token = (np.cumsum(language.emission[state], 1) < rng.random((n, 1))).sum(1)
        state = (np.cumsum(language.transition[state], 1) < rng.random((n, 1))).sum(1)
        belief = belief * language.emission[:, token].T
        belief = belief / belief.sum(1, keepdims=True) @ language.transition
        p = belief @ language.emission
        entropies.append(-(p * np.log(p)).sum(1))
    by_position = np.mean(entropies, 1)
    assert by_position[:4].mean() > by_position[32:].mean() + 0.01
    assert float(data.optimal) == pytest.approx(by_position.mean(), abs=0.006)
