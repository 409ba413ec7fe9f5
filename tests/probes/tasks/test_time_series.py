"""Time series: what a family is, what the noise is, and a floor that is the noise alone."""

import math

import numpy as np
import pytest
import torch

from workbench.probes import Probe
from workbench.probes.tasks.random import stream_key
from workbench.probes.tasks.time_series import FAMILIES, series
from workbench.testing.tasks import TaskContract

CPU = torch.device("cpu")
TINY = Probe(task="time_series", context=16, width=8, batch_tokens=64, tokens=256, evals=2)


def drawn(n, length, trend, noise, kept, terms, family):
    keys, shapes = (torch.tensor(stream_key(seed, 9)).expand(n) for seed in (0, 1))
    settings = torch.tensor([[trend, noise, kept]], dtype=torch.float64).expand(n, 3)
    values, expected = series(keys, shapes, torch.arange(n), settings, length, terms, FAMILIES[family])
    return values.double().numpy(), expected.numpy()


class TestTimeSeries(TaskContract):
    probe = TINY
    members = ({}, {"seed": 1}, {"seed": 2, "trend": 0.5, "noise": 0.1, "autoregression": -0.3})
    refused = (({"noise": -1.0}, "noise"), ({"autoregression": 1.0}, "autoregression"), ({"context": 0}, "context"))
    # the mean square of the values; the last value again costs less, so a model must look at them
    learns, trivial = {"tokens": 2**16, "batch_tokens": 512, "lr": 0.01, "width": 16}, 0.6

    def optimal(self, data, probes):
        held = {}
        for values, expected in data.heldout.values():
            for g in range(len(values)):
                for row, answer in zip(values[g, :, :-1], expected[g], strict=True):
                    held[row.numpy().tobytes()] = answer

        def predict(x):
            rows = [torch.stack([held[row.numpy().tobytes()] for row in part[..., 0].contiguous()]) for part in x]
            return torch.stack(rows)[..., None].expand(len(probes), -1, -1, -1).float()

        return predict, [probe.noise**2 for probe in probes]


def test_without_noise_a_series_is_a_line_and_harmonics():
    values, expected = drawn(200, 65, 1.0, 0.0, 0.5, 0, "sines")
    assert np.abs(np.diff(values, 2)).max() < 1e-6
    assert np.std(np.diff(values)[:, 0]) * 65 == pytest.approx(1.0, abs=5 / math.sqrt(2 * 200))
    assert values[:, 1:] == pytest.approx(expected[:, 1:], abs=1e-6)
    # one sine obeys x[t + 1] + x[t - 1] = 2 cos(2 pi / period) x[t]; the periods are those of the family
    for family, (low, high) in {"sines": (8, 128), "faster": (3, 8)}.items():
        values, _ = drawn(400, 65, 0.0, 0.0, 0.5, 1, family)
        inner = values[:, 1:-1]
        slope = ((values[:, 2:] + values[:, :-2]) * inner).sum(1) / (inner**2).sum(1)
        residual = values[:, 2:] + values[:, :-2] - slope[:, None] * inner
        assert np.abs(residual).max() < 2e-3  # 2^16 phases a turn
        period = 2 * np.pi / np.arccos(np.clip(slope / 2, -1, 1))
        assert low * 0.98 < period.min() < low * 1.1 and high / 1.1 < period.max() < high * 1.02
        assert np.mean(np.log(period)) == pytest.approx((math.log(low) + math.log(high)) / 2, abs=0.15)


def test_waveforms_have_the_same_power_and_trends_their_factor():
    for family in ("sines", "sawtooth"):
        values, _ = drawn(4000, 129, 0.0, 0.0, 0.0, 1, family)
        assert np.mean(values**2) == pytest.approx(0.5, abs=0.04)
    rise = [np.std(np.ptp(drawn(2000, 33, 1.0, 0.0, 0.0, 0, family)[0], axis=1)) for family in ("sines", "steeper")]
    assert rise[1] / rise[0] == pytest.approx(4.0, rel=1e-5)


def test_noise_is_autoregressive_and_stationary():
    values, expected = drawn(4000, 33, 0.0, 0.3, 0.8, 0, "sines")
    spread = 0.3 / math.sqrt(1 - 0.64)
    for t in (0, 1, 32):
        assert np.std(values[:, t]) == pytest.approx(spread, rel=5 / math.sqrt(2 * 4000))
    assert np.corrcoef(values[:, 10], values[:, 12])[0, 1] == pytest.approx(0.64, abs=0.05)
    assert expected[:, 1:] == pytest.approx(0.8 * values[:, :-1], abs=1e-6)
    new = (values - expected)[:, 1:]
    assert np.mean(new**2) == pytest.approx(0.09, rel=5 / math.sqrt(new.size / 2))
    assert abs(np.corrcoef(new[:, 5], values[:, 5])[0, 1]) < 5 / math.sqrt(4000)


def test_loss_of_predictors_that_can_be_worked_out():
    probe = TINY.replace(terms=0, trend=0.0)
    data = probe.task_settings.build([probe], CPU)
    silent = data.evaluate(lambda x: torch.zeros_like(x))
    # zero is off by the stationary spread, sampled: 1024 texts of 16 correlated values
    assert float(silent["loss"]) == pytest.approx(0.09 / (1 - 0.25), abs=0.004)
    best = data.evaluate(lambda x: 0.5 * x)
    assert all(float(value) == pytest.approx(0.09, abs=1e-6) for value in best.values())
    full = TINY.task_settings.build([TINY], CPU)
    last = full.evaluate(lambda x: x)  # the last value again
    assert float(last["loss"]) < float(last["loss_faster"])
    others = ("loss_faster", "loss_sawtooth", "loss_steeper")
    mean = sum(float(last[name]) for name in others) / 3
    assert float(last["loss_out_of_distribution"]) == pytest.approx(mean, rel=1e-12)
