"""`LawContract`: what every law promises.

Use it in two lines::

    class TestMyLaw(LawContract):
        law, truth, grid = "my_law", {"E": 1.7, "A": 300.0, "alpha": 0.3}, {"x": np.geomspace(1e6, 1e10, 40)}
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from workbench.engine.dual import value_and_tangents
from workbench.fits.fit import fit
from workbench.laws.base import Law, get, names
from workbench.units import QUANTITIES

__all__ = ["LawContract"]


class LawContract:
    """Every law runs through these. Subclasses set:

    Attributes:
        law: the law's name.
        truth: parameter values at which the law is an ordinary scaling curve.
        grid: input symbol -> design values; the points of the test are all their combinations.
        noise: standard deviation of the multiplicative noise in the noisy test.
        tolerance: relative error allowed in parameters recovered from noiseless data.
        far: input symbol -> value to look for the floor at, where 1e150 or 1e300 is not sensible.
        target: name of the fitted column; another than ``loss`` where the loss is an input.
        share: whether the law predicts a share between 0 and 1, which has no unit to change.
    """

    law: ClassVar[str]
    truth: ClassVar[Mapping[str, float]]
    grid: ClassVar[Mapping[str, np.ndarray]]
    noise: ClassVar[float] = 0.003
    tolerance: ClassVar[float] = 1e-4
    far: ClassVar[Mapping[str, float]] = {}
    target: ClassVar[str] = "loss"
    share: ClassVar[bool] = False

    @pytest.fixture
    def subject(self) -> Law:
        return get(self.law)

    @pytest.fixture
    def points(self, subject) -> dict[str, np.ndarray]:
        mesh = np.meshgrid(*(self.grid[i.symbol] for i in subject.inputs), indexing="ij")
        return {i.symbol: m.ravel() for i, m in zip(subject.inputs, mesh, strict=True)}

    def frame(self, subject: Law, points: Mapping[str, np.ndarray], y: np.ndarray) -> pd.DataFrame:
        """The points as a table in canonical columns."""
        columns = {(i.quantity or "flops"): points[i.symbol] for i in subject.inputs}
        return pd.DataFrame(columns | {self.target: y})

    def test_is_registered_and_documented(self, subject):
        assert self.law in names()
        assert subject.title and subject.latex and subject.reference and type(subject).__doc__
        arguments = list(inspect.signature(subject.formula).parameters)
        assert arguments == [i.symbol for i in subject.inputs] + list(subject.symbols)

    def test_latex_is_balanced_and_names_every_symbol(self, subject):
        assert subject.latex.count("{") == subject.latex.count("}")
        plain = re.sub(r"\\([a-zA-Z]+)", r"\1", subject.latex)
        for symbol in [*subject.symbols, *(i.symbol for i in subject.inputs)]:
            if len(subject.parameters) > 1 or symbol in subject.symbols:
                assert re.search(rf"(?<![A-Za-z]){re.escape(symbol)}(?![a-z])", plain), symbol

    def test_inputs_and_units_are_known(self, subject):
        assert all(i.quantity is None or i.quantity in QUANTITIES for i in subject.inputs)
        assert all(p.meaning for p in subject.parameters)
        assert all(p.unit in {"", "loss", "x"} or p.unit for p in subject.parameters)
        assert set(subject.linear) <= set(subject.symbols)
        assert subject.floor is None or subject.floor in subject.symbols

    def test_truth_lies_within_bounds(self, subject):
        assert set(self.truth) == set(subject.symbols)
        for p in subject.parameters:
            assert p.low <= self.truth[p.symbol] <= p.high

    def test_predicts_any_batch_shape(self, subject, points):
        theta = np.array([self.truth[s] for s in subject.symbols])
        n = next(iter(points.values())).size
        one = subject.predict(self.truth, points)
        assert one.shape == (n,)
        batch = subject.predict(np.broadcast_to(theta, (2, 3, theta.size)), points)
        assert batch.shape == (2, 3, n)
        np.testing.assert_array_equal(batch, np.broadcast_to(one, batch.shape))

    def test_parts_add_up(self, subject, points):
        parts = subject.parts(self.truth, points)
        whole = subject.predict(self.truth, points)
        assert parts and all(part.shape == whole.shape for part in parts.values())
        scale = np.abs(whole) + sum(np.abs(part) for part in parts.values())
        np.testing.assert_allclose(sum(parts.values()) / scale, whole / scale, atol=1e-12)

    def test_prediction_is_positive_and_follows_its_trend(self, subject, points):
        values = subject.predict(self.truth, points)
        assert np.isfinite(values).all() and (values > 0).all()
        assert subject.trend in {"falls", "rises", ""}
        corner = {i.symbol: np.array([self.grid[i.symbol].min(), self.grid[i.symbol].max()]) for i in subject.inputs}
        low, high = subject.predict(self.truth, corner)
        assert {"falls": high <= low, "rises": high >= low, "": True}[subject.trend]

    def test_tends_to_its_floor(self, subject):
        if subject.floor is None and subject.trend != "falls":
            pytest.skip("claims no limit")
        far = {i.symbol: np.array([1e300 if len(subject.inputs) == 1 else 1e150]) for i in subject.inputs}
        if "tokens_per_param" in {i.quantity for i in subject.inputs}:
            far = {i.symbol: np.array([1e300 if i.quantity == "flops" else 20.0]) for i in subject.inputs}
        far.update({symbol: np.array([float(value)]) for symbol, value in self.far.items()})
        limit = self.truth[subject.floor] if subject.floor else 0.0
        with np.errstate(all="ignore"):
            assert subject.predict(self.truth, far)[0] == pytest.approx(limit, abs=1e-3)

    def test_derivatives_agree_with_central_differences(self, subject, points):
        theta = np.array([[self.truth[s] for s in subject.symbols]])
        columns = [points[i.symbol] for i in subject.inputs]
        dual = value_and_tangents(subject.formula, columns, theta)
        np.testing.assert_allclose(dual.value[0], subject.predict(self.truth, points), rtol=1e-12)
        for j in range(theta.shape[1]):
            step = 1e-5 * theta[0, j]
            up, down = theta.copy(), theta.copy()
            up[0, j] += step
            down[0, j] -= step
            numeric = (subject.predict(up, points) - subject.predict(down, points))[0] / (2 * step)
            np.testing.assert_allclose(dual.tangents[j][0], numeric, rtol=1e-4, atol=1e-8 * np.abs(numeric).max())

    def test_declared_linear_parameters_are_linear(self, subject, points):
        theta = np.array([self.truth[s] for s in subject.symbols])
        linear = [subject.symbols.index(s) for s in subject.linear]
        doubled, nothing = theta.copy(), theta.copy()
        doubled[linear] *= 2
        nothing[linear] = 0
        if linear:
            values = subject.predict(np.stack([theta, doubled, nothing]), points)
            np.testing.assert_allclose(values[1], 2 * values[0], rtol=1e-10)
            np.testing.assert_allclose(values[2], 0, atol=1e-12)

    def test_guesses_lie_within_bounds(self, subject, points):
        y = subject.predict(self.truth, points)
        starts = subject.guess(points, y, 64, np.random.default_rng(0))
        assert starts.shape == (64, len(subject.parameters)) and np.isfinite(starts).all()
        for j, p in enumerate(subject.parameters):
            assert (starts[:, j] >= p.low).all() and (starts[:, j] <= p.high).all()

    def test_recovers_its_parameters_from_noiseless_data(self, subject, points):
        fitted = fit(self.frame(subject, points, subject.predict(self.truth, points)), subject, y=self.target)
        assert fitted.diagnostics.converged and not fitted.diagnostics.unidentified
        for symbol, value in self.truth.items():
            assert fitted.params[symbol] == pytest.approx(value, rel=self.tolerance), symbol

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_recovers_its_parameters_from_noisy_data(self, subject, points, seed):
        rng = np.random.default_rng(seed)
        y = subject.predict(self.truth, points)
        fitted = fit(self.frame(subject, points, y * np.exp(rng.normal(0, self.noise, y.size))), subject, y=self.target)
        assert fitted.diagnostics.converged
        table = fitted.intervals("jacobian", level=0.9999)
        for symbol, value in self.truth.items():
            # Four standard errors: a wrong derivative or a wrong optimum is far outside.
            assert table.low[symbol] <= value <= table.high[symbol], (symbol, value, table.loc[symbol].to_dict())

    def test_does_not_depend_on_the_unit_of_the_loss(self, subject, points):
        if self.share:
            pytest.skip("predicts a share")
        y = subject.predict(self.truth, points)
        rng = np.random.default_rng(3)
        y = y * np.exp(rng.normal(0, self.noise, y.size))
        nats, bits = (
            fit(self.frame(subject, points, y * u), subject, y=self.target, objective="log-mse")
            for u in (1.0, 1 / np.log(2))
        )
        np.testing.assert_allclose(bits.predict()["prediction"] * np.log(2), nats.predict()["prediction"], rtol=1e-5)
