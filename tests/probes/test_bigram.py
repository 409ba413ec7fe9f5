"""The power-law bigram language: exact facts, honest samples, and an evaluation without label noise."""

import math

import numpy as np
import pytest
import torch

from workbench.probes import Probe
from workbench.probes.tasks.bigram import BigramData, BigramLanguage

CPU = torch.device("cpu")
SMALL = Probe(vocab=16, context=32, batch_tokens=1024)


def test_rows_are_distributions_and_pi_is_stationary():
    language = BigramLanguage(64, 1.5, 1.0, 3)
    p, pi = language.transition, language.stationary
    assert np.abs(p.sum(1) - 1).max() < 1e-12
    assert np.abs(pi @ p - pi).max() < 1e-15
    # the same pi from iteration instead of from the linear system
    assert np.abs(np.linalg.matrix_power(p, 200)[0] - pi).max() < 1e-12


def test_entropies_against_sums_over_pairs():
    language = BigramLanguage(32, 1.5, 1.0, 0)
    p, pi = language.transition, language.stationary
    pair = pi[:, None] * p
    joint = -sum(x * math.log(x) for x in pair.ravel())
    single = -sum(x * math.log(x) for x in pi)
    assert language.entropy == pytest.approx(joint - single, abs=1e-12)  # H(X, Y) - H(X)
    assert language.unigram_entropy == pytest.approx(single, abs=1e-12)
    assert language.entropy < language.unigram_entropy < language.uniform_entropy == math.log(32)


def test_singular_values_are_the_power_law():
    language = BigramLanguage(64, 1.5, 0.75, 5)
    singular = np.linalg.svd(language.logits, compute_uv=False)
    assert singular == pytest.approx(1.5 * 64 * np.arange(1, 65) ** -0.75, rel=1e-6)


def test_no_signal_is_uniform_noise():
    language = BigramLanguage(16, 0.0, 1.0, 0)
    assert language.entropy == pytest.approx(math.log(16), abs=1e-12)


def test_a_language_with_dead_tokens_is_refused():
    with pytest.raises(ValueError, match="lower tau"):
        BigramLanguage(64, 4.0, 0.0, 0).stationary  # noqa: B018


def test_sampled_pairs_follow_p():
    task = BigramData([SMALL], CPU)
    language = task.languages[0]
    tokens = task.block(0, 400)[0].reshape(-1, 33).numpy()
    pairs = np.zeros((16, 16))
    np.add.at(pairs, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    # Chi-square of each row given its count: Markov pairs are independent given the current token.
    expected = pairs.sum(1, keepdims=True) * language.transition
    chi2 = ((pairs - expected) ** 2 / expected).sum()
    freedom = 16 * 15
    assert abs(chi2 - freedom) < 5 * math.sqrt(2 * freedom)
    first = np.bincount(tokens[:, 0], minlength=16)
    expected = len(tokens) * language.stationary
    assert ((first - expected) ** 2 / expected).sum() < 15 + 5 * math.sqrt(30)


def test_blocks_do_not_depend_on_chunks_or_neighbours():
    members = [SMALL.replace(seed=4), SMALL.replace(seed=9, tau=1.0), SMALL.replace(seed=4, width=8)]
    stack = BigramData(members, CPU)
    whole = stack.block(0, 6)[0]
    assert whole.shape == (6, 3, 32, 33)
    assert torch.equal(whole, torch.cat([stack.block(0, 1)[0], stack.block(1, 3)[0], stack.block(4, 2)[0]]))
    for index, member in enumerate(members):
        assert torch.equal(BigramData([member], CPU).block(0, 6)[0][:, 0], whole[:, index])
    assert torch.equal(whole[:, 0], whole[:, 2])  # same seed, same text
    assert not torch.equal(whole[:, 0], whole[:, 1])


def test_the_training_stream_is_pinned():
    # Stored results name only the seed; the same seed must keep meaning the same text.
    assert BigramData([SMALL], CPU).block(0, 1)[0][0, 0, 0, :12].tolist() == [2, 14, 7, 14, 10, 4, 14, 7, 2, 10, 13, 0]


def test_evaluation_text_is_not_training_text():
    task = BigramData([SMALL], CPU)
    train = {tuple(row) for row in task.block(0, 20)[0].reshape(-1, 33).tolist()}
    assert not train & {tuple(row) for row in task.heldout[0].tolist()}


@pytest.mark.parametrize("vocab", [16, 256])
def test_loss_of_known_models(vocab):
    probes = [SMALL.replace(vocab=vocab), SMALL.replace(vocab=vocab, language_seed=1)]
    task = BigramData(probes, CPU)
    entropies = [language.entropy for language in task.languages]
    logp = torch.stack([torch.tensor(language.log_transition) for language in task.languages]).float()
    member = torch.arange(2)[:, None, None]
    exact = task.evaluate(lambda x: logp[member, x] + 3.0)["loss"]
    assert exact.tolist() == pytest.approx(entropies, abs=1e-6)
    uniform = task.evaluate(lambda x: torch.zeros(2, *x.shape[1:], vocab))
    assert uniform["loss"].tolist() == pytest.approx([math.log(vocab)] * 2, abs=1e-6)
    assert uniform["loss_sampled"].tolist() == pytest.approx([math.log(vocab)] * 2, abs=1e-6)
    unigram = torch.tensor(np.stack([language.stationary for language in task.languages])).log().float()
    known = task.evaluate(lambda x: unigram[:, None, None].expand(2, *x.shape[1:], vocab))["loss"]
    assert known.tolist() == pytest.approx([language.unigram_entropy for language in task.languages], abs=1e-6)


def test_loss_of_a_wrong_model_is_the_exact_cross_entropy():
    task = BigramData([SMALL], CPU)
    language = task.languages[0]
    logits = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    q = torch.log_softmax(logits.double(), -1).numpy()
    truth = -(language.stationary @ (language.transition * q).sum(1))
    metrics = task.evaluate(lambda x: logits[x])
    assert float(metrics["loss"]) == pytest.approx(truth, abs=1e-6)
    # the ordinary estimate agrees within its sampling error, some 1.5 nats / sqrt(512 tokens)
    assert float(metrics["loss_sampled"]) == pytest.approx(truth, abs=0.3)


def test_tokens_that_heldout_text_misses_still_count():
    task = BigramData([SMALL], CPU)
    logp = torch.tensor(task.languages[0].log_transition).float()
    task.heldout = task.heldout.masked_fill(task.heldout == 3, 4)
    assert float(task.evaluate(lambda x: logp[x])["loss"]) == pytest.approx(task.languages[0].entropy, abs=1e-6)
