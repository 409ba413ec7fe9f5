"""Modular arithmetic: right tables, honest groups, and grokking's two forms."""

import math

import numpy as np
import pytest
import torch

from workbench.probes import Probe
from workbench.probes.functional import log_stablemax, stablemax_error
from workbench.probes.tasks.modular_arithmetic import OPERATIONS, operation_table
from workbench.testing.tasks import TaskContract

CPU = torch.device("cpu")
TOKENS = Probe(task="modular_arithmetic", modulus=7, width=8, batch_tokens=8, tokens=32, evals=2)


def one_hot(labels, classes):
    return torch.nn.functional.one_hot(labels.clamp_min(0), classes).float()


class TestTokens(TaskContract):
    probe = TOKENS
    members = (
        {},
        {"seed": 1},
        {"seed": 2, "train_fraction": 0.7, "corruption": 0.25, "split_seed": 3},
        {"operation": "divide"},
    )
    refused = (
        ({"operation": "power"}, "add, subtract"),
        ({"operation": "divide", "modulus": 9}, "prime"),
        ({"train_fraction": 0.0}, "at least one"),
        ({"train_fraction": 1.0}, "at least one"),
        ({"corruption": 1.5}, "corruption"),
        ({"modulus": 2.5}, "whole"),
        ({"form": "words"}, "one_hot"),
    )
    # a pair that is left out is still found, by arithmetic alone
    learns = {"modulus": 11, "train_fraction": 0.8, "width": 32, "tokens": 88 * 400, "batch_tokens": 88, "lr": 0.01,
              "weight_decay": 1.0, "schedule": "constant"}  # fmt: skip
    trivial = math.log(11) - 0.5

    def test_evaluation_shows_nothing_that_is_trained_on(self):
        for probe in self.stack:  # members split differently, so each for itself
            data = self.build([probe])
            assert not bool((data.train & data.test).any())
            tested = {tuple(row) for row in data.inputs(torch.nonzero(data.test[0])[:, 0]).tolist()}
            seen = set()
            for step in range(20):
                x, _ = data.batch(*(rows[0] for rows in data.block(step, 1)))
                seen |= {tuple(row.flatten().tolist()) for row in x[0]}
            assert tested and seen and not tested & seen

    def optimal(self, data, probes):
        truth = data.truth
        return lambda x: 40.0 * one_hot(truth, 7)[:, :, None].expand(-1, -1, 3, -1), [0.0] * len(probes)


class TestOneHot(TestTokens):
    # Gromov's network: quadratic, two layers, no biases, squared loss
    probe = TOKENS.replace(
        model="mlp", form="one_hot", objective="squared", width=16, depth=1, activation="quadratic", biases=False
    )
    learns = {"modulus": 11, "train_fraction": 0.8, "width": 128, "tokens": 97 * 800, "batch_tokens": 97, "lr": 0.005,
              "weight_decay": 1.0, "schedule": "constant"}  # fmt: skip
    trivial = 0.5  # zeros cost 1, and equal guesses 10/11

    def optimal(self, data, probes):
        return lambda x: one_hot(data.truth, 7), [0.0] * len(probes)

    def test_a_bad_answer_costs_what_it_should(self):
        data = self.build(self.stack)
        wrong = data.evaluate(lambda x: one_hot((data.truth + 1) % 7, 7))
        assert wrong["loss"].tolist() == [2.0] * 4
        assert wrong["accuracy"].tolist() == [0.0] * 4


class TestStableMax(TestOneHot):
    # Prieto et al.: cross-entropy with a function of the logits that 32 bits can hold
    probe = TestOneHot.probe.replace(objective="stablemax")
    trivial = math.log(11) - 0.5

    def optimal(self, data, probes):
        return lambda x: 1e12 * (2 * one_hot(data.truth, 7) - 1), [0.0] * len(probes)

    def test_a_bad_answer_costs_what_it_should(self):
        data = self.build(self.stack)
        wrong = data.evaluate(lambda x: one_hot((data.truth + 1) % 7, 7))  # s is 2 once and 1 six times
        assert wrong["loss"].tolist() == pytest.approx([math.log(8)] * 4)


def test_stablemax_by_its_definition_and_its_slope_by_differences():
    z = torch.tensor([-1e6, -30.0, -0.5, 0.0, 0.25, 40.0, 1e6], dtype=torch.float64, requires_grad=True)
    s = [1 / (1 - v) if v < 0 else v + 1 for v in z.tolist()]
    found = log_stablemax(z)
    assert found.tolist() == pytest.approx([math.log(v / sum(s)) for v in s])
    assert torch.autograd.gradcheck(lambda x: log_stablemax(x / 1e3), z.detach().requires_grad_())
    error = stablemax_error(torch.eye(7)[None], z.detach().float().expand(1, 7, 7), torch.arange(7)[None])
    assert error.tolist() == pytest.approx([-found.mean().item()], rel=1e-6)
    assert float(stablemax_error(torch.eye(7)[None], 200 * torch.eye(7)[None], torch.arange(7)[None])) > 0.02, (
        "softmax would call this 0"
    )


@pytest.mark.parametrize("p", [2, 7, 13])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_tables_by_schoolbook_arithmetic(operation, p):
    table = operation_table(operation, p).reshape(p, p)
    for a in range(p):
        for b in range(p):
            expected = {
                "add": (a + b) % p, "subtract": (a - b) % p, "multiply": a * b % p,
                "square_add": (a**2 + b**2) % p, "square_mixed": (a**2 + a * b + b**2) % p,
                "cube_mixed": (a**3 + a * b) % p,
            }  # fmt: skip
            if operation == "divide":
                assert table[a, b] == -1 if b == 0 else table[a, b] * b % p == a
            else:
                assert table[a, b] == expected[operation]


def test_groups_have_their_sizes_and_wrong_labels_are_wrong():
    probes = [
        TOKENS.replace(modulus=31, train_fraction=fraction, corruption=share, split_seed=seed)
        for fraction, share, seed in ((0.5, 0.2, 0), (0.3, 0.2, 0), (0.7, 0.0, 1), (0.5, 1.0, 2))
    ]
    data = probes[0].task_settings.build(probes, CPU)
    for index, (fraction, share) in enumerate(((0.5, 0.2), (0.3, 0.2), (0.7, 0.0), (0.5, 1.0))):
        size = round(fraction * 961)
        assert int(data.train[index].sum()) == size == data.facts(index)["train_pairs"]
        assert int(data.wrong[index].sum()) == round(share * size)
        assert torch.equal(data.labels[index] != data.truth[index], data.wrong[index])
        assert bool((data.wrong[index] <= data.train[index]).all())
    assert bool((data.train[1] <= data.train[0]).all())  # of two fractions the smaller set lies in the larger
    shift = (data.labels[3] - data.truth[3])[data.wrong[3]] % 31
    counts = torch.bincount(shift, minlength=31)[1:].double()  # every wrong label is as likely as any other
    expected = counts.sum() / 30
    assert abs(float(((counts - expected) ** 2 / expected).sum()) - 29) < 5 * math.sqrt(58)


def test_a_full_batch_is_the_training_set_and_smaller_ones_cover_it():
    full = TOKENS.replace(batch_tokens=24, tokens=240)
    assert full.task_settings.train_size == 24  # half of 49, rounded to even
    data = full.task_settings.build([full], CPU)
    pairs = data.block(0, 3)[0]
    train_pairs = torch.nonzero(data.train[0])[:, 0]
    assert all(torch.equal(pairs[step, 0], train_pairs) for step in range(3))
    part = full.replace(batch_tokens=8)
    pairs = part.task_settings.build([part], CPU).block(0, 6)[0][:, 0]
    assert torch.equal(pairs[:3].flatten().sort().values, train_pairs)
    assert torch.equal(pairs[3:].flatten().sort().values, train_pairs)
    assert not torch.equal(pairs[:3], pairs[3:])


def test_memorizing_and_seeing_through_are_told_apart():
    probe = TOKENS.replace(modulus=11, corruption=0.25)
    data = probe.task_settings.build([probe, probe.replace(corruption=0.0)], CPU)
    memorized = data.evaluate(lambda x: 30.0 * one_hot(data.labels, 11)[:, :, None].expand(-1, -1, 3, -1))
    right = data.evaluate(lambda x: 30.0 * one_hot(data.truth, 11)[:, :, None].expand(-1, -1, 3, -1))
    share = 15 / 60
    for metrics, train, wrong, corrected in ((memorized, 1.0, 1.0, 0.0), (right, 1 - share, 0.0, 1.0)):
        assert float(metrics["accuracy"][0]) == 1.0
        assert float(metrics["accuracy_train"][0]) == pytest.approx(train)
        assert float(metrics["accuracy_corrupted"][0]) == wrong
        assert float(metrics["accuracy_corrected"][0]) == corrected
        assert math.isnan(float(metrics["accuracy_corrupted"][1]))
    assert float(right["loss_train"][0]) == pytest.approx(share * 30, rel=1e-6)  # 30 nats lost on each wrong label


def test_chunks_of_pairs_are_put_together_right():
    probe = TOKENS.replace(modulus=67)  # more pairs than one chunk holds
    data = probe.task_settings.build([probe], CPU)
    logits = torch.randn(67, 67, 67, generator=torch.Generator().manual_seed(0))
    chunks = []
    metrics = data.evaluate(lambda x: chunks.append(1) or logits[x[..., 0], x[..., 1]])
    logp = torch.log_softmax(logits.double(), -1).view(67 * 67, 67).numpy()
    pairs = np.flatnonzero(data.test[0].numpy())
    assert len(chunks) > 1
    expected = -logp[pairs, operation_table("add", 67)[pairs]].mean()
    assert float(metrics["loss"][0]) == pytest.approx(expected, abs=1e-6)
