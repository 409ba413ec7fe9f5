"""Laws of whole loss curves: against their written-out sums, their invariances and an exactly solvable model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.fits.fit import fit
from workbench.laws import get
from workbench.laws.schedules.annealing import Annealing
from workbench.laws.schedules.multi_power import MultiPower
from workbench.laws.schedules.schedule import DECAYS, Schedule
from workbench.testing.laws import LawContract

T = 2000
BOUND = (
    Schedule.constant(T, 3e-3, warmup=100),
    Schedule.cosine(T, 3e-3, 3e-4, warmup=100),
    Schedule.two_stage(T, 3e-3, 6e-4, 900, warmup=100),
    Schedule.wsd(T, 3e-3, 600, 1e-4, warmup=100),
)
MULTI = {"L_0": 2.8, "A": 0.6, "alpha": 0.5, "B": 45.0, "C": 1.2, "beta": 0.6, "gamma": 0.65}
ANNEALING = {"L_0": 2.8, "A": 0.6, "alpha": 0.5, "C": 0.3, "tau": 80.0}


class _Bound(LawContract):
    @pytest.fixture
    def subject(self):
        return get(self.law).bind(BOUND, ratio=2)  # coarse blocks are a law of their own, and quick

    def test_does_not_depend_on_the_unit_of_the_loss(self, subject, points):
        """As in the contract, but without the thousand refits behind the interval of a prediction."""
        y = subject.predict(self.truth, points) * np.exp(np.random.default_rng(3).normal(0, 1e-3, points["t"].size))
        nats, bits = (
            fit(self.frame(subject, points, y * u), subject, objective="log-mse").theta for u in (1.0, 1 / np.log(2))
        )
        in_nats, in_bits = subject.predict(nats, points), subject.predict(bits, points)
        np.testing.assert_allclose(in_bits * np.log(2), in_nats, rtol=1e-5)


class TestMultiPower(_Bound):
    law, truth, noise = "multi_power", MULTI, 0.0003
    grid = {"t": np.unique(np.geomspace(100, T, 20).astype(int)).astype(float), "j": np.arange(1.0, 5.0)}


class TestAnnealing(_Bound):
    law, truth = "annealing", ANNEALING
    grid = TestMultiPower.grid


class TestAnnealingSize(_Bound):
    law, truth = "annealing_size", ANNEALING | {"B": 500.0, "beta": 0.35}
    grid = {
        "t": np.unique(np.geomspace(100, T, 12).astype(int)).astype(float),
        "j": np.arange(1.0, 5.0),
        "N": np.array([1e7, 3e7, 1e8, 1e9]),
    }


def written_out(law: str, schedule: Schedule, t: int, p: dict[str, float]) -> float:
    """The published sums, term by term."""
    eta = np.r_[0.0 if schedule.warmup else schedule.rates[0], schedule.rates]  # eta[i] is the rate of step i
    value = p["L_0"] + p["A"] * eta[1 : t + 1].sum() ** -p["alpha"]
    if law == "multi_power":
        for k in range(1, t + 1):
            x = p["C"] * eta[k] ** -p["gamma"] * eta[k : t + 1].sum()
            value -= p["B"] * (eta[k - 1] - eta[k]) * (1 - (1 + x) ** -p["beta"])
        return value
    decay, momentum, area = np.exp(-1 / p["tau"]), 0.0, 0.0
    for i in range(1, t + 1):  # S_2 as a sum over i of a momentum of the falls
        momentum = decay * momentum + eta[i - 1] - eta[i]
        area += momentum
    return value - p["C"] * area


@pytest.mark.parametrize("law, truth", [("multi_power", MULTI), ("annealing", ANNEALING)])
@pytest.mark.parametrize("schedule", BOUND, ids=lambda s: s.name)
def test_sum_over_every_change_is_the_published_one(law, truth, schedule):
    steps = np.array([1.0, 7, 99, 100, 101, 450, 899, 900, 1399, 1403, T])
    exact = get(law).bind([schedule], ratio=1).predict(truth, {"t": steps, "j": np.ones(steps.size)})
    np.testing.assert_allclose(exact, [written_out(law, schedule, int(t), truth) for t in steps], rtol=1e-11)


LONG = (
    Schedule.cosine(30_000, 3e-4, 3e-5, warmup=2160, name="cosine"),
    Schedule.wsd(24_000, 3e-4, 4000, 3e-5, shape="exponential", warmup=2160, name="wsd"),
    Schedule.wsd(24_000, 3e-4, 4000, 0.0, name="to zero"),
    Schedule("waves", 3e-4 * (1.1 + np.sin(np.arange(20_000) / 1000))),
)


@pytest.mark.parametrize("shape", [(0.1, 0.2, 0.9), (2.0, 0.6, 0.64), (30.0, 1.5, 0.3)])
@pytest.mark.parametrize("schedule", LONG, ids=lambda s: s.name)
def test_blocks_are_close_to_the_exact_sum_and_closer_when_finer(schedule, shape):
    theta = MULTI | {"L_0": 0.0, "A": 0.0, "B": 1.0} | dict(zip(("C", "beta", "gamma"), shape, strict=True))
    t = np.unique(np.linspace(2, schedule.steps, 60).astype(int)).astype(float)
    x = {"t": t, "j": np.ones(t.size)}
    blocks, exact = (get("multi_power").bind([schedule], r).predict(theta, x) for r in (1.5, 1))
    # Rises and falls partly cancel in the sum itself, so the scale of the error is that of all changes together.
    scale = np.abs(schedule.drops).sum()
    assert np.abs(blocks - exact).max() < 2e-3 * scale
    finer = get("multi_power").bind([schedule], 1.2).predict(theta, x)
    assert np.abs(finer - exact).max() < 0.5 * np.abs(blocks - exact).max()


@pytest.mark.parametrize("tau", [3.0, 300.0, 30_000.0])
@pytest.mark.parametrize("schedule", LONG, ids=lambda s: s.name)
def test_blocks_of_the_annealing_area(schedule, tau):
    theta = {"L_0": 0.0, "A": 0.0, "alpha": 1.0, "C": 1.0, "tau": tau}
    t = np.unique(np.linspace(2, schedule.steps, 60).astype(int)).astype(float)
    x = {"t": t, "j": np.ones(t.size)}
    blocks, exact = (get("annealing").bind([schedule], r).predict(theta, x) for r in (1.5, 1))
    memory = min(tau, schedule.steps)  # no change can do more than its size times this
    assert np.abs(blocks - exact).max() < 5e-3 * np.abs(schedule.drops).sum() * memory


@pytest.mark.parametrize("name", ["multi_power", "annealing"])
def test_constant_rate_gives_a_pure_power_law(name):
    truth = MULTI if name == "multi_power" else ANNEALING
    t = np.array([1.0, 10, 500, 1000])
    value = get(name).bind([Schedule.constant(1000, 0.02)]).predict(truth, {"t": t, "j": np.ones(4)})
    np.testing.assert_allclose(value, truth["L_0"] + truth["A"] * (0.02 * t) ** -truth["alpha"], rtol=1e-12)


@pytest.mark.parametrize("name, truth", [("multi_power", MULTI), ("annealing", ANNEALING)])
def test_splitting_a_piece_of_constant_rate_changes_nothing(name, truth):
    whole = Schedule.piecewise([(600, 1e-3), (400, 2e-4)], warmup=50, name="whole")
    split = Schedule.piecewise([(100, 1e-3), (500, 1e-3), (1, 2e-4), (399, 2e-4)], warmup=50, name="split")
    law = get(name).bind([whole, split])
    t = np.arange(1.0, 1051)
    one, other = (law.predict(truth, {"t": t, "j": np.full(t.size, j)}) for j in (1.0, 2.0))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name, truth", [("multi_power", MULTI), ("annealing", ANNEALING)])
def test_effects_have_the_published_signs(name, truth):
    """Just after a fall the loss is below that at a constant rate; the deeper the fall, the lower."""
    deeper = [Schedule.two_stage(1000, 3e-3, second, 800, name=f"{second}") for second in (2e-3, 1e-3, 3e-4)]
    law = get(name).bind([Schedule.constant(1000, 3e-3), *deeper])
    at = {"t": np.full(4, 880.0), "j": np.arange(1.0, 5)}
    assert (np.diff(law.predict(truth, at)) < 0).all()
    before = {"t": np.full(4, 799.0), "j": np.arange(1.0, 5)}
    assert np.ptp(law.predict(truth, before)) == 0  # the future has no effect
    t = np.arange(1.0, 800)
    assert (np.diff(law.predict(truth, {"t": t, "j": np.ones(t.size)})) < 0).all()
    more = law.predict(truth | ({"B": 60.0} if name == "multi_power" else {"C": 0.5}), at)
    assert (more[1:] < law.predict(truth, at)[1:]).all()


def test_a_rise_undoes_a_fall():
    """Down and up again: long after, what remains is the power law in a slightly smaller area."""
    there = Schedule.piecewise([(200, 1e-2), (1, 9e-3), (20_000, 1e-2)])
    value = get("multi_power").bind([there]).predict(MULTI, {"t": np.array([20_201.0]), "j": np.ones(1)})
    power = MULTI["L_0"] + MULTI["A"] * there.areas[-1] ** -MULTI["alpha"]
    assert value[0] == pytest.approx(power, abs=MULTI["B"] * 1e-3 * 0.02)


def test_a_law_without_schedules_says_what_to_do():
    for name in ("multi_power", "annealing", "annealing_size"):
        law = get(name)
        with pytest.raises(ValueError, match="bind"):
            law.predict(np.ones(len(law.symbols)), {"t": 1.0, "j": 1.0, "N": 1.0})
        assert law.family == "schedules" and law.latex in repr(law)


@pytest.mark.parametrize(
    "t, j, match",
    [(2001.0, 1.0, "steps 1 to 2000"), (0.0, 1.0, "outside"), (5.0, 5.0, "no number 5"), (5.0, 0.5, "no number 0.5")],
)
def test_points_outside_are_refused(t, j, match):
    with pytest.raises(ValueError, match=match):
        MultiPower(BOUND).predict(MULTI, {"t": np.array([t]), "j": np.array([j])})


def test_binding_checks_what_it_gets():
    with pytest.raises(TypeError, match="Schedule"):
        MultiPower([3])
    with pytest.raises(ValueError, match="two schedules"):
        MultiPower([BOUND[0], BOUND[0]])
    with pytest.raises(ValueError, match="ratio"):
        MultiPower(BOUND, 0.5)
    assert MultiPower(BOUND).number("cosine") == 2
    with pytest.raises(ValueError, match="it has constant, cosine"):
        MultiPower(BOUND).number("sine")


def test_memory_is_the_time_of_lambda():
    assert np.exp(-1 / Annealing.memory(0.999)) == pytest.approx(0.999, rel=1e-12)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Annealing.memory(1.0)


def test_schedules_have_the_shapes_of_their_names():
    warm = Schedule.constant(1000, 0.3, warmup=100)
    assert warm.areas[100] == pytest.approx(0.3 * 101 / 2) and warm.areas[-1] == pytest.approx(0.3 * (101 / 2 + 900))
    assert warm.drops[:100] == pytest.approx(-0.003) and not warm.drops[100:].any()
    cosine = Schedule.cosine(1000, 1.0, 0.1, warmup=100)
    assert cosine.rates[[99, 549, 999]] == pytest.approx([1.0, 0.55, 0.1])
    wsd = Schedule.wsd(1000, 1.0, 0.25, 0.01, shape="exponential")
    assert (wsd.rates[:750] == 1).all() and wsd.rates[[874, 999]] == pytest.approx([0.1, 0.01])
    assert Schedule.two_stage(10, 1.0, 0.5, 4).rates.tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    for shape in DECAYS:
        rates = Schedule.wsd(500, 2.0, 200, 0.2, shape=shape, warmup=30).rates
        assert (np.diff(rates[30:]) <= 1e-15).all() and rates[299] == 2.0 and rates[-1] == pytest.approx(0.2)
    assert Schedule.cosine(1000, 1.0).area(10.5) == pytest.approx(
        Schedule.cosine(1000, 1.0).rates[:10].sum() + 0.5, rel=1e-3
    )


def test_a_schedule_is_a_value():
    one, other = (Schedule.cosine(100, 1.0, warmup=5) for _ in range(2))
    assert one == other and hash(one) == hash(other) and one != Schedule.cosine(100, 1.0)
    with pytest.raises(ValueError):
        one.rates[0] = 3.0


@pytest.mark.parametrize("every", [1, 13, 100])
def test_schedule_is_read_off_a_log(every):
    exact = Schedule.cosine(5000, 3e-3, 3e-4, warmup=400)
    log = exact.frame(np.arange(401, 5001, every))
    read = Schedule.from_frame(log, warmup=400)
    np.testing.assert_allclose(read.rates, exact.rates[: read.steps], atol=3e-3 * 1e-3)
    assert read.warmup == 400 and read.areas[-1] == pytest.approx(exact.areas[read.steps], rel=1e-4)


def test_a_jump_in_a_log_stays_a_jump():
    log = Schedule.two_stage(2000, 1.0, 0.2, 800).frame(np.r_[np.arange(50, 800, 64), 800, np.arange(864, 2001, 64)])
    assert np.count_nonzero(Schedule.from_frame(log).drops) == 1
    assert Schedule.from_frame(log).rates[[798, 799]].tolist() == [1.0, 0.2]


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: Schedule("a", [1.0, np.nan]), "step 2"),
        (lambda: Schedule("a", [1.0, -1.0]), "0 or more"),
        (lambda: Schedule("a", []), "shape"),
        (lambda: Schedule("a", ["x"]), "numbers"),
        (lambda: Schedule("a", [0.0, 1.0]), "begin above 0"),
        (lambda: Schedule("", [1.0]), "name"),
        (lambda: Schedule("a", [1.0], warmup=3), "between 0 and 1"),
        (lambda: Schedule.constant(10.5, 1.0), "whole number"),
        (lambda: Schedule.constant(10, -1.0), "positive number"),
        (lambda: Schedule.wsd(10, 1.0, 9, warmup=5), "do not fit"),
        (lambda: Schedule.wsd(10, 1.0, 5, shape="square"), "choose one of"),
        (lambda: Schedule.wsd(10, 1.0, 5, 0.0, shape="exponential"), "never reaches 0"),
        (lambda: Schedule.piecewise([]), "at least one"),
        (lambda: Schedule.from_frame(pd.DataFrame({"step": [1]})), "no column 'lr'"),
        (lambda: Schedule.from_frame(pd.DataFrame({"step": [1], "lr": [np.nan]})), "no row"),
        (lambda: Schedule.constant(10, 1.0).frame([11]), "steps 1 to 10"),
    ],
)
def test_bad_schedules_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
