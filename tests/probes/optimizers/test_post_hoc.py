"""Averages reconstructed after training against averages followed during it."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from tests.probes.stacks import stack
from workbench.probes import Probe
from workbench.probes.measures.base import find_measure
from workbench.probes.optimizers.post_hoc import WIDEST, gamma_of, profile, reconstruct, reconstruction, width_of
from workbench.probes.trainer import eval_steps, train

WIDTHS = (0.05, 0.1)
TINY = Probe(
    vocab=19, width=6, depth=1, heads=3, context=7, batch_tokens=35, tokens=35 * 120, evals=12, lr=0.02,
    eval_spacing="linear", ema_profiles=WIDTHS,
)  # fmt: skip


@pytest.mark.parametrize("gamma", [0.0, 0.5, 6.94, 16.97, 100.0])
def test_width_is_the_standard_deviation_of_the_profile(gamma):
    def moment(k):
        return integrate.quad(lambda x: x**k * (gamma + 1) * x**gamma, 0, 1)[0]

    assert width_of(gamma) == pytest.approx(math.sqrt(moment(2) - moment(1) ** 2), rel=1e-6)
    assert gamma_of(width_of(gamma)) == pytest.approx(gamma, abs=1e-6)


def test_published_pairs_of_width_and_gamma():
    # Karras et al. 2024, section 3.1: sigma_rel of 0.05 and 0.10 are gamma of 16.97 and 6.94
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert gamma_of(0.10) == pytest.approx(6.94, abs=0.005)
    assert width_of(0.0) == pytest.approx(WIDEST)
    for wrong in (0.0, -0.1, 0.3):
        with pytest.raises(ValueError, match="is not a width"):
            gamma_of(wrong)


def followed(weights, gamma):
    """The recursion of the paper in float64: a <- b a + (1 - b) w with b = (1 - 1/t)^(gamma + 1)."""
    average = np.zeros_like(weights[0])
    for t, w in enumerate(weights, start=1):
        b = (1 - 1 / t) ** (gamma + 1)
        average = b * average + (1 - b) * w
    return average


def test_the_profile_is_the_recursion():
    for gamma in (0.0, 2.5, 16.97):
        one_hot = np.eye(30)  # step s as its own direction: the average's entries are its weights
        np.testing.assert_allclose(profile(gamma, 30, 30), followed(one_hot, gamma), atol=1e-14)
        assert profile(gamma, 20, 30).sum() == pytest.approx(1)
        assert not profile(gamma, 20, 30)[20:].any()


@pytest.fixture(scope="module")
def trained():
    probes = [TINY, TINY.replace(seed=1, lr=0.05)]
    ensemble = stack(probes)
    path = []
    for step in range(1, TINY.steps + 1):
        ensemble.advance(step)
        path.append(ensemble.weights.data.double().numpy().copy())
    return probes, ensemble, path


def test_stored_averages_are_the_followed_ones(trained):
    _, ensemble, path = trained
    kept = ensemble.optimizer.post_hoc
    assert kept.points == eval_steps(TINY)[1:]
    for place, at in enumerate(kept.points):
        for k, width in enumerate(WIDTHS):
            expected = followed(path[:at], gamma_of(width))
            np.testing.assert_allclose(kept.slots["snapshots"][:, place, k].numpy(), expected, atol=2e-6)


@pytest.mark.parametrize(("width", "limit"), [(0.05, 1e-6), (0.1, 1e-6), (0.07, 0.01), (0.15, 0.01), (0.2, 0.02)])
def test_an_average_nobody_kept_is_reconstructed(trained, width, limit):
    _, ensemble, path = trained
    kept = ensemble.optimizer.post_hoc
    got, left = reconstruct(kept.slots["snapshots"], WIDTHS, kept.points, width, TINY.steps)
    expected = followed(path, gamma_of(width))
    # in units of how far the weights travelled over the average's reach
    reach = np.linalg.norm(path[-1] - path[TINY.steps // 2])
    assert np.linalg.norm(got.numpy() - expected) < max(limit, 1e-5) * reach
    assert left < 0.15
    # and far better than the nearest kept one taken for it
    if width not in WIDTHS:
        nearest = kept.slots["averages"][:, 0 if width < 0.075 else 1].numpy()
        assert np.linalg.norm(got.numpy() - expected) < 0.1 * np.linalg.norm(nearest - expected)


def test_the_mixture_sums_to_one_and_looks_at_no_future():
    gammas, points = [gamma_of(w) for w in WIDTHS], [10, 20, 40, 80]
    mixture, _ = reconstruction(gammas, points, gamma_of(0.08), 40)
    assert mixture.shape == (4, 2)
    assert not mixture[3].any()
    assert mixture.sum() == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="no average was stored up to step 5"):
        reconstruction(gammas, points, 1.0, 5)


def test_the_loss_at_a_width_is_the_loss_of_that_average(trained):
    _, ensemble, path = trained
    columns = find_measure("ema_widths")(ensemble)
    flat = torch.tensor(followed(path, gamma_of(0.1)), dtype=torch.float32)
    expected = ensemble.data.evaluate(lambda x: ensemble.predict(x, flat))["loss"]
    torch.testing.assert_close(columns["loss_ema.0.1"], expected, rtol=0, atol=1e-5)
    assert columns["loss_ema.0.25"].isfinite().all()


def test_profiles_change_no_training_and_survive_a_stop(tmp_path):
    plain = train([TINY.replace(ema_profiles=())], "cpu")[0]
    probe = TINY.replace(measure=["ema_widths"])
    whole = train([probe], "cpu")[0]
    assert torch.equal(plain.weights, whole.weights)
    looks = iter(range(1000))
    part = train([probe], "cpu", should_stop=lambda: next(looks) >= 3)[0]
    assert 0 < part.state.step < probe.steps
    part.state.write(tmp_path)
    again = train([probe], "cpu", states=[type(part.state).read(tmp_path)])[0]
    assert again.records[-1]["loss_ema.0.2"] == whole.records[-1]["loss_ema.0.2"]


def test_bad_widths_are_refused():
    with pytest.raises(ValueError, match=r"outside 0.001 to 0.2886"):
        TINY.replace(ema_profiles=(0.5,))
    with pytest.raises(TypeError, match="not a list of widths"):
        TINY.replace(ema_profiles="wide")
    assert Probe.from_json(TINY.to_json()) == TINY
    assert "ema_profiles" not in Probe().to_dict()


def test_a_finished_run_gives_any_average_afterwards(trained):
    _, ensemble, path = trained
    whole = train([TINY, TINY.replace(seed=1, lr=0.05)], "cpu")
    size = ensemble.weights.size
    for member, result in enumerate(whole):
        assert result.snapshots.shape == (len(eval_steps(TINY)) - 1, len(WIDTHS), size)
        got, left = result.averaged(0.15)
        expected = followed(path, gamma_of(0.15))[member, :size]
        reach = np.linalg.norm((path[-1] - path[TINY.steps // 2])[member])
        assert np.linalg.norm(got.numpy() - expected) < 0.02 * reach
        assert left < 0.15
    with pytest.raises(ValueError, match="kept no averages"):
        train([TINY.replace(ema_profiles=())], "cpu")[0].averaged(0.1)
