"""Laws of repeated, filtered, generated and chosen data: the contract, published values, and small experiments."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.spatial import cKDTree

import workbench
from workbench.laws import get
from workbench.laws.data.intrinsic_dimension import two_nearest_neighbours
from workbench.laws.data.pruning import frontier
from workbench.laws.data.quality import best_mixture, mixture
from workbench.laws.data.repeated import PUBLISHED, effective
from workbench.laws.data.transport import between_sizes, sliced_distance
from workbench.testing.laws import LawContract

NDU = {"N": np.geomspace(1e7, 1e10, 5), "D": np.geomspace(1e9, 1e12, 6), "U": np.geomspace(1e8, 1e11, 5)}


class TestRepeatedData(LawContract):
    law, grid = "repeated_data", NDU
    truth = PUBLISHED | {"alpha": 0.34, "beta": 0.37}


class TestRepeatedTokens(LawContract):
    law, grid = "repeated_tokens", NDU
    truth = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.34, "beta": 0.37, "R_D": 15.4}


class TestQualityPool(LawContract):
    law = "quality_pool"
    truth = {"E": 0.1, "D_1": 4e6, "b": 0.16, "tau": 6.7}  # Goyal et al. 2024, best tenth of T-MARS
    grid = {"D": np.geomspace(3e6, 6e8, 24), "U": np.array([12.8e6, 51.2e6])}


class TestTailCut(LawContract):
    law, truth = "tail_cut", {"E": 0.5, "A": 30.0, "B": 8.0, "beta": 1.6}
    grid = {"T": np.geomspace(1e4, 1e9, 8), "k": np.geomspace(10, 1e5, 7)}


class TestLossOfScaling(LawContract):
    law, truth = "loss_of_scaling", {"E": 1.7, "A": 400.0, "B": 90.0, "c": 0.33}
    grid = {"T": np.geomspace(1e6, 1e10, 6), "T_0": np.geomspace(1e6, 1e9, 4), "n": np.array([0.0, 1.0, 2.0, 5.0])}


class TestReplaceOrAccumulate(LawContract):
    law, truth = "replace_or_accumulate", {"E": 0.2, "S": 1.3, "d": 40.0, "p": 0.7}
    grid = {"T": np.geomspace(60, 2000, 6), "n": np.array([0.0, 1.0, 3.0, 7.0, 15.0])}


class TestTransport(LawContract):
    law, truth = "transport", {"a_0": 6.0, "a_1": 1.5, "b_0": -0.2, "b_1": -0.05}
    grid = {"W": np.linspace(0, 3, 6), "n": np.geomspace(1e3, 1e6, 4)}


class TestPruning(LawContract):
    law, truth = "pruning", {"E": 0.02, "A": 0.5, "s": 3e3, "alpha": 1.4}
    grid = {"n": np.geomspace(1e2, 1e7, 40)}


class TestIntrinsicDimension(LawContract):
    law, truth = "intrinsic_dimension", {"E": 0.05, "K": 2.0, "d": 6.0}
    grid = {"n": np.geomspace(1e2, 1e7, 60)}


def test_published_value_of_repeated_tokens():
    """Muennighoff et al. 2023: four epochs are nearly as good as fresh tokens, 16 still help, 40 hardly."""
    epochs = np.array([1.0, 4.0, 16.0, 40.0, 1e4])
    worth = effective(epochs, 1.0, PUBLISHED["R_D"])
    by_hand = 1 + 15.387756 * (1 - np.exp(-(epochs - 1) / 15.387756))
    np.testing.assert_allclose(worth, by_hand, rtol=1e-12)
    assert list(np.round(worth / epochs, 2)) == [1.0, 0.93, 0.66, 0.38, 0.0]
    assert worth[-1] == pytest.approx(16.387756, rel=1e-6), "no repetition is worth more than 1 + R_D passes"
    # value of one more pass, relative to fresh data: 1 - 1/e lost after R_D repetitions
    step = 1e-4
    slope = (effective(16.387756 + step, 1.0, 15.387756) - effective(16.387756 - step, 1.0, 15.387756)) / (2 * step)
    assert slope == pytest.approx(np.exp(-1), rel=1e-6)


def test_published_loss_after_four_epochs():
    """Their 8.7B model on 178B tokens ends 0.5 % higher with 44B unique tokens than with fresh ones (section 6)."""
    law = get("repeated_data")
    x = {"N": np.full(2, 8.7e9), "D": np.full(2, 178e9), "U": np.array([178e9, 44e9])}
    fresh, repeated = law.predict(PUBLISHED, x)
    assert 0.002 < repeated / fresh - 1 < 0.01


def test_repeated_data_contains_chinchilla():
    """One epoch of a model no larger than compute-optimal is Chinchilla's law; U_N is 0.051 U as printed."""
    law, p = get("repeated_data"), PUBLISHED
    D = np.geomspace(1e9, 1e12, 7)
    N = 0.05 * D  # just below 0.051 U
    core = {k: p[k] for k in ("E", "A", "B", "alpha", "beta")}
    same = get("chinchilla").predict(core, {"N": N, "D": D})
    np.testing.assert_allclose(law.predict(p, {"N": N, "D": D, "U": D}), same, rtol=1e-12)
    larger = law.predict(p, {"N": 4 * N, "D": D, "U": D})
    assert (larger > get("chinchilla").predict(core, {"N": 4 * N, "D": D})).all()
    # more unique tokens than seen is one epoch
    np.testing.assert_array_equal(
        law.predict(p, {"N": N, "D": D, "U": 9 * D}), law.predict(p, {"N": N, "D": D, "U": D})
    )


#: Goyal et al. 2024: deciles of a 128M pool by T-MARS score, error on ImageNet, as their repository prints them.
DECILES = {
    "sizes": [12.8e6] * 4,
    "b": [0.16, 0.125, 0.1, 0.085],
    "tau": [6.7272727, 8.5454545, 5.2727273, 2.2727273],
    "D_1": 1e5 / 0.025,
    "E": 0.1,
}


def by_epochs(seen: float, pools: int) -> float:
    """Their recursion, epoch by epoch: utility is the mean over pools, each half-life times the number of pools."""
    per_epoch, loss, k = 12.8e6 * pools, None, 0
    while k * per_epoch < seen:
        utility = np.mean([DECILES["b"][i] * 0.5 ** (k / (DECILES["tau"][i] * pools)) for i in range(pools)])
        upto, before = min((k + 1) * per_epoch, seen), k * per_epoch
        loss = (upto / DECILES["D_1"]) ** -utility if k == 0 else loss * (upto / before) ** -utility
        k += 1
    return loss + DECILES["E"]


@pytest.mark.parametrize("seen", [5e6, 12.8e6, 32e6, 100e6, 640e6])
def test_mixture_of_pools_against_the_recursion(seen):
    for pools in (1, 2, 4):
        chosen = {k: v[:pools] if isinstance(v, list) else v for k, v in DECILES.items()}
        assert mixture(seen, **chosen)[0] == pytest.approx(by_epochs(seen, pools), rel=1e-12)
    alone = get("quality_pool").predict(
        {"E": 0.1, "D_1": 4e6, "b": 0.16, "tau": 6.7272727}, {"D": np.array([seen]), "U": np.array([12.8e6])}
    )
    assert alone[0] == pytest.approx(by_epochs(seen, 1), rel=1e-12)


def test_the_best_filter_depends_on_the_budget():
    """Published deciles: the best tenth wins at 32M and 64M samples seen, more pools win from 128M on."""
    table = best_mixture([32e6, 64e6, 128e6, 640e6, 5e9], **DECILES)
    assert list(table["best"][:2]) == [1, 1]
    assert (table["best"][2:] >= 2).all() and table["best"].is_monotonic_increasing
    assert table["best"].iloc[-1] > table["best"].iloc[2], "and still more of them at the largest budget"
    # ranks by utility, whatever the order given
    shuffled = {k: [v[i] for i in (2, 0, 3, 1)] if isinstance(v, list) else v for k, v in DECILES.items()}
    pd.testing.assert_frame_equal(best_mixture([32e6, 640e6], **shuffled), best_mixture([32e6, 640e6], **DECILES))
    with pytest.raises(ValueError, match="one of each for every pool"):
        mixture(1e6, [1e6, 1e6], [0.1], [3.0], 1e6, 0.1)
    with pytest.raises(ValueError, match="tau holds -3"):
        mixture(1e6, [1e6], [0.1], [-3.0], 1e6, 0.1)


def test_single_pools_fitted_apart_predict_the_mixture():
    """Two pools fitted from their own noisy runs, E and D_1 held: the mixture is forecast within a percent."""
    rng = np.random.default_rng(0)
    fits = []
    for b, tau in ((0.16, 6.7), (0.1, 5.3)):
        D = np.geomspace(4e6, 4e8, 30)
        y = get("quality_pool").predict({"E": 0.1, "D_1": 4e6, "b": b, "tau": tau}, {"D": D, "U": np.full(30, 12.8e6)})
        runs = pd.DataFrame({"tokens": D, "unique_tokens": 12.8e6, "loss": y * np.exp(rng.normal(0, 0.003, 30))})
        fits.append(workbench.fit(runs, "quality_pool", fixed={"E": 0.1, "D_1": 4e6}).params)
    budget = np.array([2e7, 1e8, 5e8])
    said = mixture(budget, [12.8e6] * 2, [f["b"] for f in fits], [f["tau"] for f in fits], 4e6, 0.1)
    truth = mixture(budget, [12.8e6] * 2, [0.16, 0.1], [6.7, 5.3], 4e6, 0.1)
    np.testing.assert_allclose(said, truth, rtol=0.01)


def missing_mass(p: np.ndarray, tokens: np.ndarray, cut: int | None = None) -> np.ndarray:
    """Error of a learner that knows exactly what it has seen, in a world with probabilities p."""
    seen = p[:cut] / p[:cut].sum()
    unseen = [(p[:cut] * np.exp(t * np.log1p(-np.minimum(seen, 1 - 1e-12)))).sum() for t in tokens]
    return np.array(unseen) + (p[cut:].sum() if cut else 0.0)


def test_exponents_of_the_cut_tail():
    """A memorising learner in a Zipf world: T^-(beta-1)/beta before the floor, k^-(beta-1) at the floor."""
    zipf = 1.6
    p = np.arange(1, 1_000_001.0) ** -zipf
    p /= p.sum() + 1e6 ** (1 - zipf) / (zipf - 1)  # the rest of the tail, which nobody ever sees
    tokens = np.geomspace(1e2, 1e5, 6)
    slope = np.polyfit(np.log(tokens), np.log(missing_mass(p, tokens)), 1)[0]
    assert slope == pytest.approx(-(zipf - 1) / zipf, rel=0.02)
    cuts = np.array([10, 100, 1000])
    floor = 1 - np.array([p[:k].sum() for k in cuts])
    reached = np.array([missing_mass(p, np.array([1e9]), k)[0] + (1 - p.sum()) for k in cuts])
    np.testing.assert_allclose(reached, floor, rtol=1e-3)
    assert np.polyfit(np.log(cuts), np.log(floor), 1)[0] == pytest.approx(-(zipf - 1), rel=0.03)
    # the law on all of it, crossover included, finds the Zipf exponent
    grid = [(t, k, missing_mass(p, np.array([t]), k)[0]) for k in (30, 300, 3000) for t in np.geomspace(1e2, 1e6, 7)]
    runs = pd.DataFrame(grid, columns=["tokens", "vocab", "loss"])
    fitted = workbench.fit(runs, "tail_cut", fixed={"E": 0.0}, objective="log-mse")
    assert fitted.params["beta"] == pytest.approx(zipf, abs=0.1)


def test_generations_that_only_resample_lose_mass_slower_than_in_proportion():
    """What the docstring of `LossOfScaling` says: about n^c, below n times the first generation's loss."""
    zipf, generations, repeats = 1.6, 16, 60
    rng = np.random.default_rng(0)
    p = np.arange(1, 50_001.0) ** -zipf
    p /= p.sum()
    missing = np.zeros(generations)
    for _ in range(repeats):
        q = p
        for n in range(generations):
            q = rng.multinomial(1000, q) / 1000
            missing[n] += p[q == 0].sum() / repeats
    n = np.arange(1, generations + 1)
    c = (zipf - 1) / zipf
    assert 0.75 * c < np.polyfit(np.log(n[3:]), np.log(missing[3:]), 1)[0] < 1.1 * c
    assert (missing[1:] < n[1:] * missing[0]).all()


def test_replaced_and_accumulated_data_in_linear_regression():
    """Monte Carlo against the law: replaced data add one error a generation, accumulated ones stay below pi^2/6."""
    d, T, generations, trials = 10, 60, 8, 500
    rng = np.random.default_rng(0)
    replaced, accumulated, mixed = np.zeros((3, generations))
    for _ in range(trials):
        w, e, total = np.zeros((3, d))
        solve = np.linalg.pinv(rng.standard_normal((T, d)))  # the same inputs again, labelled anew
        gram, moment, v = np.zeros((d, d)), np.zeros(d), np.zeros(d)
        for n in range(generations):
            x = rng.standard_normal((T, d))
            labels = x @ w + rng.standard_normal(T)
            w = np.linalg.lstsq(x, labels, rcond=None)[0]
            total += e + solve @ rng.standard_normal(T)
            e = total / (n + 1)
            gram += x.T @ x
            moment += x.T @ (x @ v + rng.standard_normal(T))
            v = np.linalg.solve(gram, moment)
            replaced[n] += w @ w / trials
            accumulated[n] += e @ e / trials
            mixed[n] += v @ v / trials
    law, n = get("replace_or_accumulate"), np.arange(generations, dtype=float)
    base = {"E": 0.0, "S": 1.0, "d": float(d)}
    x = {"T": np.full(generations, float(T)), "n": n}
    np.testing.assert_allclose(replaced, law.predict(base | {"p": 0.0}, x), rtol=0.08)
    np.testing.assert_allclose(accumulated, law.predict(base | {"p": 2.0}, x), rtol=0.08)
    # fresh inputs each time do better still, and never pass the bound
    assert (mixed < np.pi**2 / 6 * d / (T - d - 1) * 1.05).all()
    runs = pd.DataFrame({"tokens": float(T), "generations": n, "loss": replaced})
    p = workbench.fit(runs, "replace_or_accumulate", fixed={"E": 0.0, "d": float(d)}).params["p"]
    assert p == pytest.approx(0.0, abs=0.1)
    endless = law.predict(base | {"p": 2.0}, {"T": np.array([float(T)]), "n": np.array([4000.0])})
    assert endless[0] == pytest.approx(np.pi**2 / 6 * d / (T - d - 1), rel=1e-3)


def test_transport_is_the_two_stage_forecast():
    """Lines in distance at two sizes, then the line in log n through them: the law fits that exactly."""
    W = np.linspace(0.1, 2, 7)
    losses = {1e3: 3.0 + 0.8 * W, 4e3: 2.5 + 0.7 * W}
    runs = pd.concat([pd.DataFrame({"transport_distance": W, "tokens": n, "loss": y}) for n, y in losses.items()])
    fitted = workbench.fit(runs.reset_index(drop=True), "transport", objective="log-mse")
    far = np.array([0.5, 1.5])
    said = fitted.law.predict(fitted.theta, {"W": far, "n": np.full(2, 6.4e4)})
    expected = between_sizes(6.4e4, 1e3, 3.0 + 0.8 * far, 4e3, 2.5 + 0.7 * far)
    np.testing.assert_allclose(said, expected, rtol=1e-6)
    np.testing.assert_allclose(expected, (3.0 + 0.8 * far) + 3 * ((2.5 + 0.7 * far) - (3.0 + 0.8 * far)), rtol=1e-12)
    with pytest.raises(ValueError, match="two different positive"):
        between_sizes(1e4, 1e3, 3.0, 1e3, 2.5)


def test_distances_with_known_answers():
    rng = np.random.default_rng(0)
    a = rng.standard_normal(4000)
    assert sliced_distance(a, a + 1.5) == pytest.approx(1.5, rel=1e-12)
    # two sorted samples of equal size: mean distance of the order statistics
    b = 2 * rng.standard_normal(4000)
    assert sliced_distance(a, b) == pytest.approx(np.abs(np.sort(a) - np.sort(b)).mean(), rel=1e-9)
    # a shift by v in three dimensions: |v| times the mean of |cos|, which is 1/2
    cloud, shift = rng.standard_normal((500, 3)), np.array([1.0, 2.0, 2.0])
    assert sliced_distance(cloud, cloud + shift, projections=4000) == pytest.approx(1.5, rel=0.03)
    with pytest.raises(ValueError, match="same d"):
        sliced_distance(cloud, a)


def perceptron_error(per_dimension: int, share: float, rng: np.random.Generator, d: int = 30) -> float:
    """Test error of a student that learns from the examples nearest to the teacher's boundary."""
    kept = per_dimension * d
    teacher = rng.standard_normal(d)
    x = rng.standard_normal((round(kept / share), d))
    margin = x @ teacher
    nearest = np.argsort(np.abs(margin))[:kept]
    signed = x[nearest] * np.sign(margin[nearest])[:, None]

    def loss(w):
        s = signed @ w
        return np.logaddexp(0, -s).sum() + 5e-4 * w @ w, -signed.T @ (1 / (1 + np.exp(s))) + 1e-3 * w

    student = minimize(loss, np.zeros(d), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    cosine = student @ teacher / np.linalg.norm(student) / np.linalg.norm(teacher)
    return float(np.arccos(cosine) / np.pi)


def test_pruning_in_the_teacher_student_perceptron():
    """Sorscher et al. 2022: random choice errs like 1/n, a fixed share in the end too, the envelope falls faster."""
    rng = np.random.default_rng(0)
    sizes, shares = (2, 4, 8, 16, 32), (1.0, 0.25, 1 / 16, 1 / 64)
    rows = []
    for n in sizes:
        for share in shares:
            errors = [perceptron_error(n, share, rng) for _ in range(4)]
            rows.append((30.0 * n, share, np.exp(np.mean(np.log(errors)))))
    runs = pd.DataFrame(rows, columns=["tokens", "kept_fraction", "loss"])
    random, quarter = (runs[runs["kept_fraction"] == f].reset_index(drop=True) for f in (1.0, 0.25))
    best = runs[frontier(runs["tokens"], runs["loss"])].reset_index(drop=True)
    fitted = workbench.fit(random, "pruning", x="tokens", fixed={"E": 0.0}, objective="log-mse")
    assert fitted.params["alpha"] == pytest.approx(1.0, abs=0.25)
    slopes = {k: np.diff(np.log(f["loss"])) / np.diff(np.log(f["tokens"])) for k, f in
              {"best": best, "quarter": quarter}.items()}  # fmt: skip
    assert slopes["best"].min() < -2.5, "far steeper than the power law of random choice"
    assert slopes["quarter"][-2:].mean() == pytest.approx(-1.0, abs=0.35), "a fixed share returns to it"
    assert (random["loss"] / quarter["loss"]).iloc[-1] > 2


def test_pruning_holds_both_ends():
    n = np.geomspace(1.0, 1e4, 9)
    law = get("pruning")
    towards = law.predict({"E": 0.0, "A": 0.5, "s": 2e3, "alpha": 1e4}, {"n": n})
    np.testing.assert_allclose(towards, 0.5 * np.exp(-n / 2e3), rtol=0.003)
    power = law.predict({"E": 0.1, "A": 0.5, "s": 2e3, "alpha": 0.7}, {"n": n})
    same = {"E": 0.1, "A": 0.5 * 1400**0.7, "s": 1400.0, "alpha": 0.7}
    np.testing.assert_allclose(power, get("shifted_power_constant").predict(same, {"x": n}), rtol=1e-12)


def test_frontier_by_brute_force():
    rng = np.random.default_rng(0)
    kept, error = rng.integers(1, 20, 60).astype(float), rng.random(60)
    error[3] = np.nan
    beaten = [
        any(
            kept[j] <= kept[i] and error[j] <= error[i] and (kept[j], error[j]) != (kept[i], error[i])
            for j in range(60)
        )
        for i in range(60)
    ]
    expected = ~np.array(beaten) & np.isfinite(error)
    np.testing.assert_array_equal(frontier(kept, error), expected)


@pytest.mark.parametrize("d", [1, 2])
def test_nearest_neighbour_error_has_the_dimension_of_the_data(d):
    """Distance to the nearest of n points falls as n^(-1/d); three times sharper labels err three times as much."""
    rng = np.random.default_rng(0)

    def measured(sharpness: float) -> pd.DataFrame:
        rows = []
        for n in np.geomspace(200, 20000, 7).astype(int):
            known, asked = rng.random((n, d)), rng.random((1500, d))
            nearest = cKDTree(known).query(asked)[1]
            truth, said = (np.sin(2 * x).sum(axis=1) * sharpness for x in (asked, known[nearest]))
            rows.append((float(n), np.abs(truth - said).mean()))
        return pd.DataFrame(rows, columns=["tokens", "loss"])

    one, three = (workbench.fit(measured(k), "intrinsic_dimension", fixed={"E": 0.0}) for k in (1.0, 3.0))
    assert one.params["d"] == pytest.approx(d, rel=0.06) and three.params["d"] == pytest.approx(d, rel=0.06)
    ratio = three.predict(tokens=2000.0, n=50)["prediction"][0] / one.predict(tokens=2000.0, n=50)["prediction"][0]
    assert ratio == pytest.approx(3.0, rel=0.08)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_dimension_from_two_nearest_neighbours(d):
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((12, d)))[0].T
    assert two_nearest_neighbours(rng.random((3000, d)) @ plane) == pytest.approx(d, rel=0.1)
    with pytest.raises(ValueError, match="at least three"):
        two_nearest_neighbours(np.ones((10, 2)))
