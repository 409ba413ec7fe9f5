"""The random hierarchy: its grammar, its entropy and its conditional distributions, against all sentences."""

import itertools
import math

import numpy as np
import pytest
import torch

from workbench.probes import Probe
from workbench.probes.tasks.context_free import ContextFreeLanguage
from workbench.testing.tasks import TaskContract

CPU = torch.device("cpu")
LANGUAGES = [
    ContextFreeLanguage(vocab=3, branching=2, levels=2, rules=2, zipf=0.0, seed=0),
    ContextFreeLanguage(vocab=2, branching=3, levels=2, rules=2, zipf=1.5, seed=3),
    ContextFreeLanguage(vocab=2, branching=2, levels=3, rules=2, zipf=0.7, seed=1),
    ContextFreeLanguage(vocab=5, branching=4, levels=1, rules=7, zipf=1.0, seed=2),
]


def every_sentence(language):
    """{sentence: probability}, by writing out all trees."""
    p = language.rule_probabilities

    def grown(symbols, level):
        if level == language.levels:
            return {symbols: 1.0}
        found = {}
        for choices in itertools.product(range(language.rules), repeat=len(symbols)):
            children = tuple(
                int(c)
                for symbol, rule in zip(symbols, choices, strict=True)
                for c in language.tuples[level, symbol, rule]
            )
            weight = math.prod(p[rule] for rule in choices)
            for sentence, q in grown(children, level + 1).items():
                found[sentence] = found.get(sentence, 0.0) + weight * q
        return found

    total = {}
    for root in range(language.vocab):
        for sentence, q in grown((root,), 0).items():
            total[sentence] = total.get(sentence, 0.0) + q / language.vocab
    return total


class TestContextFree(TaskContract):
    probe = Probe(task="context_free", vocab=4, levels=3, rules=3, width=8, batch_tokens=256, tokens=1024, evals=2)
    members = ({}, {"seed": 1}, {"seed": 2, "zipf": 1.0, "language_seed": 3})
    refused = (
        ({"rules": 5}, "rules"),
        ({"levels": 12, "branching": 3}, "at most 4096"),
        ({"vocab": 1024, "branching": 4, "levels": 2}, "tuples"),
        ({"zipf": -1.0}, "zipf"),
        ({"batch_tokens": 252}, "batch_tokens"),
    )
    apart = {"levels": 5, "tokens": 2048}
    learns, trivial = {"tokens": 2**16, "lr": 0.02, "width": 16, "rules": 1}, 0.8 * math.log(4)

    def optimal(self, data, probes):
        exact = [probe.task_settings.language().next_token(held.numpy())
                 for probe, held in zip(probes, data.heldout, strict=True)]  # fmt: skip
        logp = torch.tensor(np.array(exact)).clamp_min(1e-30).log().float()

        def predict(x):  # which sentences these are, found again by their tokens
            rows = [{row.tobytes(): i for i, row in enumerate(held[:, :-1].numpy())} for held in data.heldout]
            place = [[rows[g][row.numpy().tobytes()] for row in part[:, 1:]] for g, part in enumerate(x)]
            return torch.stack([logp[g][torch.tensor(p)] for g, p in enumerate(place)])

        # chain rule: minus log-probability of a sentence is the sum over its tokens, here in expectation
        p = np.array(exact)
        return predict, (-(p * np.log(np.maximum(p, 1e-300))).sum(-1).mean((1, 2))).tolist()


@pytest.mark.parametrize("language", LANGUAGES)
def test_entropy_and_conditionals_against_all_sentences(language):
    table = every_sentence(language)
    assert sum(table.values()) == pytest.approx(1.0, abs=1e-12)
    entropy = -sum(p * math.log(p) for p in table.values())
    assert language.entropy == pytest.approx(entropy / language.length, rel=1e-12)
    some = list(table)[:: max(1, len(table) // 40)]
    exact = language.next_token(np.array(some))
    for sentence, rows in zip(some, exact, strict=True):
        for t, row in enumerate(rows):
            expected = np.zeros(language.vocab)
            for other, p in table.items():
                if other[:t] == sentence[:t]:
                    expected[other[t]] += p
            assert row == pytest.approx(expected / expected.sum(), abs=1e-12)


def test_no_tuple_belongs_to_two_symbols():
    for language in LANGUAGES:
        for table in language.tuples.reshape(language.levels, -1, language.branching):
            assert len({tuple(row) for row in table.tolist()}) == language.vocab * language.rules
    with pytest.raises(ValueError, match="not of this language"):
        outside = set(itertools.product(range(3), repeat=4)) - set(every_sentence(LANGUAGES[0]))
        LANGUAGES[0].next_token(np.array(sorted(outside)[:1]))


def test_sampled_sentences_have_their_probabilities():
    probe = TestContextFree.probe.replace(vocab=3, levels=2, rules=2, zipf=1.0)
    data = probe.task_settings.build([probe], CPU)
    table = every_sentence(probe.task_settings.language())
    drawn = [tuple(row) for row in data.block(0, 200)[0].reshape(-1, 4).tolist()]
    counts = dict.fromkeys(table, 0)
    for sentence in drawn:
        counts[sentence] += 1
    chi2 = sum((counts[one] - p * len(drawn)) ** 2 / (p * len(drawn)) for one, p in table.items())
    freedom = len(table) - 1
    assert abs(chi2 - freedom) < 5 * math.sqrt(2 * freedom)


def test_the_floor_on_heldout_sentences_is_the_entropy():
    probe = TestContextFree.probe.replace(levels=4, zipf=1.0)
    data = probe.task_settings.build([probe], CPU)
    assert float(data.optimal) == pytest.approx(probe.task_settings.language().entropy, abs=0.01)
    assert data.facts(0)["entropy"] == probe.task_settings.language().entropy
    # minus log-probability of the sampled sentences themselves is another estimate of the same
    truth = data.truth[0].double().gather(-1, data.heldout[0][..., None])
    assert float(-truth.log().mean()) == pytest.approx(float(data.optimal), abs=0.02)
