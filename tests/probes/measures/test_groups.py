"""Losses of groups against the same predictions sorted by hand, and the promise that a stack changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.probes.stacks import stack
from workbench.probes import Probe
from workbench.probes.measures.base import find_measure
from workbench.probes.trainer import train

RUN = {"model": "mlp", "width": 8, "depth": 1, "batch_tokens": 16, "tokens": 16 * 4, "evals": 1}
CASES = {
    "mixture": Probe(
        task="gaussian_mixture", classes=24, dimension=24, train_size=90, test_size=96, label_noise=0.4, **RUN
    ),
    "few_classes": Probe(task="gaussian_mixture", classes=3, dimension=4, train_size=64, test_size=60, **RUN),
    "digits": Probe(task="digits", train_size=64, **RUN),
    "xor": Probe(task="xor_clusters", dimension=20, signal=4.0, train_size=50, test_size=100, label_noise=0.3, **RUN),
    "parity": Probe(task="parity", bits=8, relevant=2, subtasks=70, test_size=700, **RUN),
    "one_parity": Probe(task="parity", bits=8, relevant=2, test_size=700, **RUN),
    "modular": Probe(task="modular_arithmetic", modulus=7, corruption=0.4, form="one_hot", **RUN),
}
NAMES = {
    "mixture": {f"class_{k}" for k in range(24)} | {"train_clean", "train_noisy"},
    "few_classes": set(),  # the evaluation itself reports them
    "digits": {f"class_{k}" for k in range(10)},
    "xor": {f"cluster_{k}" for k in range(4)} | {"train_clean", "train_noisy"},
    "parity": {f"subtask_{k}" for k in range(1, 65)},
    "one_parity": set(),
    "modular": {"train_clean", "corrected"},
}


def measured(probes):
    return find_measure("group_loss")(stack(probes))


def losses_of(out, labels):
    """Cross-entropies [n] of outputs [n, K], by numpy."""
    out = out.double().numpy()
    return np.log(np.exp(out).sum(1)) - out[np.arange(len(out)), labels]


@pytest.mark.parametrize("name", CASES)
def test_groups_are_those_that_are_known_and_no_neighbour_changes_them(name):
    probe = CASES[name]
    probes = [probe, probe.replace(seed=3), probe.replace(seed=4, lr=0.1)]
    together = measured(probes)
    assert set(together) == {f"loss.{group}" for group in NAMES[name]}
    assert not set(together) & set(stack(probes).evaluate())
    for index, one in enumerate(probes):
        assert {k: float(v[0]) for k, v in measured([one]).items()} == {k: float(v[index]) for k, v in together.items()}
    assert all(v.dtype == torch.float64 and bool(v.isfinite().all()) for v in together.values())


@pytest.mark.parametrize("name", ["mixture", "digits"])
def test_classes_by_hand(name):
    ensemble = stack([CASES[name]])
    x, y = ensemble.data.test_inputs, ensemble.data.test_targets[0].numpy()
    losses = losses_of(ensemble.predict(x)[0], y)
    for k in np.unique(y):
        assert float(measured([CASES[name]])[f"loss.class_{k}"]) == pytest.approx(losses[y == k].mean(), rel=1e-5)


def test_clusters_are_told_apart_by_the_nearest_mean():
    ensemble = stack([CASES["xor"].replace(signal=12.0)])
    data = ensemble.data
    mu = data.means[0].double()
    x = data.test_inputs[0].double()
    nearest = torch.cdist(x, torch.stack([mu[0], -mu[0], mu[1], -mu[1]])).argmin(1).numpy()  # 12 deviations apart
    losses = losses_of(ensemble.predict(data.test_inputs)[0], data.test_targets[0].numpy())
    found = find_measure("group_loss")(ensemble)
    for k in range(4):
        assert float(found[f"loss.cluster_{k}"]) == pytest.approx(losses[nearest == k].mean(), rel=1e-5)


def test_noisy_labels_are_those_that_differ_from_the_clean_set():
    probe = CASES["xor"]
    ensemble, clean = stack([probe]), stack([probe.replace(label_noise=0.0)]).data
    n = probe.train_size
    labels = ensemble.data.targets[0, :n]
    wrong = (labels != clean.targets[0, :n]).numpy()
    assert 0 < wrong.sum() < n
    losses = losses_of(ensemble.predict(ensemble.data.inputs)[0, :n], labels.numpy())
    found = find_measure("group_loss")(ensemble)
    assert float(found["loss.train_noisy"]) == pytest.approx(losses[wrong].mean(), rel=1e-5)
    assert float(found["loss.train_clean"]) == pytest.approx(losses[~wrong].mean(), rel=1e-5)


def test_a_subtask_is_told_by_its_control_bit():
    ensemble = stack([CASES["parity"]])
    x = ensemble.data.test_inputs
    losses = losses_of(ensemble.predict(x)[0], ensemble.data.test_targets[0].numpy())
    found = find_measure("group_loss")(ensemble)
    for rank in (1, 2, 64):
        chosen = x[0, :, rank - 1].numpy() == 1
        assert float(found[f"loss.subtask_{rank}"]) == pytest.approx(losses[chosen].mean(), rel=1e-5)


def test_pairs_with_wrong_labels_are_scored_against_the_truth():
    probe = CASES["modular"].replace(operation="add")
    ensemble = stack([probe])
    p, data = probe.modulus, ensemble.data
    pairs = np.arange(p * p)
    losses = losses_of(ensemble.predict(data.inputs(torch.from_numpy(pairs))[None])[0], (pairs // p + pairs % p) % p)
    wrong, train_set = data.wrong[0].numpy(), data.train[0].numpy()
    found = find_measure("group_loss")(ensemble)
    assert float(found["loss.corrected"]) == pytest.approx(losses[wrong].mean(), rel=1e-5)
    assert float(found["loss.train_clean"]) == pytest.approx(losses[train_set & ~wrong].mean(), rel=1e-5)


def test_rows_say_how_often_finite_data_were_seen():
    probe = CASES["xor"].replace(tokens=16 * 10, train_size=40)
    (result,) = train([probe], "cpu")
    assert (result.row()["unique_tokens"], result.row()["epochs"]) == (40, 4.0)
    looks = iter(range(1000))
    (part,) = train([probe.replace(tokens=16 * 1000)], "cpu", should_stop=lambda: next(looks) >= 1)
    assert part.row()["epochs"] == part.row()["tokens"] / 40 < 400
    (fresh,) = train([CASES["parity"]], "cpu")
    assert "unique_tokens" not in fresh.row()
