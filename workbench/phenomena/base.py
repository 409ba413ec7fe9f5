"""`Phenomenon`: what a paper says happens, the small experiment that shows it, and a control that must not.

A phenomenon is judged by its claims, each a number with an accepted range. The experiment is run, each claim's
number is measured with an interval, and the claim is

* ``shown`` if the whole interval lies in the accepted range,
* ``refuted`` if the interval and the range have no point in common,
* ``undecided`` otherwise: the experiment was too small to tell.

An interval that is too wide therefore proves nothing, and neither does an estimate that happens to be right.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from workbench.late import late
from workbench.phenomena.estimates import Estimate

if TYPE_CHECKING:
    import altair as alt

    from workbench.probes.sweep import Sweep

__all__ = ["BUDGETS", "THEMES", "Claim", "Paper", "Phenomenon", "Report", "Tell", "Trained", "verdict"]

#: For whom an experiment is sized: seconds on one CPU core, or minutes on one GPU.
BUDGETS = ("cpu", "gpu")
#: The rooms of phenomena, and what stands in them.
THEMES = {
    "scale": "Scale",
    "hyperparameters": "Hyperparameters",
    "stability": "Stability",
    "generalization": "Memorize and generalize",
    "feedback": "Feedback and tasks",
}
#: Called with the fraction of the work that is done.
Tell = Callable[[float], None]


@dataclass(frozen=True)
class Paper:
    """Where a claim comes from.

    Attributes:
        authors: ``Gerstgrasser et al. 2024``.
        title: of the paper.
        where: arXiv number or venue.
    """

    authors: str
    title: str
    where: str

    def __str__(self) -> str:
        return f"{self.authors}, {self.title}, {self.where}"


@dataclass(frozen=True)
class Claim:
    """A number that the phenomenon stands or falls with.

    Attributes:
        name: short, unique within the phenomenon: ``slope after 10 generations``.
        low, high: accepted range, ends included; infinite where only one side is claimed.
        expected: the number of the paper or of theory; None if it only says "more" or "less".
        source: where `expected` and the range are from: paper and equation, a derivation, or what the experiment's
            size allows.
        rival: what the number would be if a plausible other theory were right. It lies outside the range, and the
            measurement must exclude it.
        unit: of the number, for axes; empty for ratios and exponents.
        controlled: whether the control arm must be refuted on this claim.
        reproduces: False if the published claim does not hold in this experiment; the measurement must then be
            ``refuted``, and a caveat of the phenomenon says what was found.
        digits: significant digits that hold on any machine.
    """

    name: str
    low: float
    high: float
    source: str
    expected: float | None = None
    rival: float | None = None
    unit: str = ""
    controlled: bool = True
    reproduces: bool = True
    digits: int = 2

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"claim {self.name!r}: the range [{self.low}, {self.high}] is empty; give low < high.")
        if self.rival is not None and self.low <= self.rival <= self.high:
            raise ValueError(f"claim {self.name!r}: its rival {self.rival} lies in the accepted range.")

    @property
    def range(self) -> str:
        """The accepted range in words: ``0.9 to 1.1``, ``at least 5``."""
        if math.isinf(self.high):
            return f"at least {self.low:g}"
        if math.isinf(self.low):
            return f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}"


def verdict(claim: Claim, measured: Estimate) -> str:
    """``shown``, ``refuted`` or ``undecided``; what could not be measured (NaN) is ``undecided``."""
    if not (math.isfinite(measured.value) and measured.low <= measured.high):
        return "undecided"
    if claim.low <= measured.low and measured.high <= claim.high:
        return "shown"
    return "refuted" if measured.high < claim.low or measured.low > claim.high else "undecided"


@dataclass(frozen=True, repr=False)
class Report:
    """What an experiment says on the claims of a phenomenon.

    Attributes:
        phenomenon: whose claims.
        measured: arm -> claim's name -> estimate.
    """

    phenomenon: Phenomenon
    measured: Mapping[str, Mapping[str, Estimate]]

    plot = late("workbench.figures.claims:claims", "Each claim's accepted range, and what both arms gave.")

    def verdicts(self, arm: str = "effect") -> dict[str, str]:
        """Claim's name -> verdict in one arm. The control is asked about controlled claims only."""
        asked = [c for c in self.phenomenon.claims if arm == "effect" or c.controlled]
        return {c.name: verdict(c, self.measured[arm][c.name]) for c in asked}

    @property
    def shown(self) -> bool:
        """Whether every claim is shown, or refuted where it is said not to reproduce."""
        wanted = {c.name: "shown" if c.reproduces else "refuted" for c in self.phenomenon.claims}
        return self.verdicts() == wanted

    @property
    def control_refuted(self) -> bool:
        """Whether the control arm is refuted on every controlled claim."""
        return all(found == "refuted" for found in self.verdicts("control").values())

    @property
    def holds(self) -> bool:
        """Whether the effect is there and the control does without it."""
        return self.shown and self.control_refuted

    def table(self) -> pd.DataFrame:
        """One row a claim: the paper's number, the accepted range, ours with its interval, the control's, the verdict.

        Numbers are text, rounded to the digits that hold on any machine.
        """
        rows = []
        verdicts = self.verdicts()
        for claim in self.phenomenon.claims:
            effect, control = self.measured["effect"][claim.name], self.measured["control"].get(claim.name)
            rows.append(
                {
                    "claim": claim.name + (f" ({claim.unit})" if claim.unit else ""),
                    "paper or theory": "–" if claim.expected is None else f"{claim.expected:.3g}",
                    "accepted": claim.range,
                    "measured": effect.text(claim.digits),
                    "control": control.text(claim.digits) if claim.controlled and control is not None else "–",
                    "verdict": verdicts[claim.name],
                }
            )
        return pd.DataFrame(rows).set_index("claim")

    @property
    def counts(self) -> str:
        """How many claims are shown, and on how many the control is refuted."""
        found, refused = list(self.verdicts().values()), list(self.verdicts("control").values())
        counted = ", ".join(f"{found.count(v)} {v}" for v in ("shown", "undecided", "refuted") if v in found)
        return (
            f"of {len(found)} claims {counted}; the control is refuted on {refused.count('refuted')} of {len(refused)}"
        )

    @property
    def sentence(self) -> str:
        """One sentence on the whole."""
        return f"{self.phenomenon.title}: {self.counts}."

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON: by arm and claim value, low, high and n."""
        return {
            "phenomenon": self.phenomenon.name,
            "holds": self.holds,
            "verdicts": self.verdicts(),
            "measured": {
                arm: {name: estimate.to_dict() for name, estimate in found.items()}
                for arm, found in self.measured.items()
            },
        }

    def __repr__(self) -> str:
        return f"{self.sentence}\n{self.table().to_string()}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.sentence)}</p>{self.table().to_html()}"


class Phenomenon(ABC):
    """Base of all phenomena: one file in a theme's folder, one instance a class, no state.

    Attributes:
        name: by which it is found: ``model_collapse``.
        title: as in the list of contents.
        question: what a student is asked, one sentence.
        papers: what it is taken from.
        claims: what it is judged by.
        control: what the control arm changes, so that the phenomenon must vanish; one sentence.
        outcome: columns of the experiment's table that hold what came out. The contract shuffles them among the
            rows, and the claims must fall.
        caveats: where this breaks, one sentence each.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    papers: ClassVar[Sequence[Paper]]
    claims: ClassVar[Sequence[Claim]]
    control: ClassVar[str]
    outcome: ClassVar[Sequence[str]]
    caveats: ClassVar[Sequence[str]]

    @property
    def theme(self) -> str:
        """The folder it lies in, a key of `THEMES`."""
        return type(self).__module__.split(".")[-2]

    @abstractmethod
    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        """Run one arm and return what happened, one row an observation.

        Args:
            arm: ``effect`` or ``control``.
            budget: one of `BUDGETS`: ``cpu`` takes seconds on one core.
            seed: of everything random; equal seeds give equal tables on one machine.
            tell: called with the fraction done.
        """

    @abstractmethod
    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        """Each claim's number in the table of one arm, with a 95 % interval, by the claim's name.

        It must not look at which arm it is. Claims that are not controlled may be left out where they have no
        meaning.
        """

    @abstractmethod
    def figure(self, runs: pd.DataFrame) -> alt.TopLevelMixin:
        """The picture that shows the phenomenon in one glance, from the table of `run`."""

    def run(self, budget: str = "cpu", seed: int = 0, tell: Tell | None = None) -> pd.DataFrame:
        """Run both arms: the tables of `experiment` below each other, with the column ``arm``.

        Writes a progress bar to standard error unless `tell` takes the fractions.

        Raises:
            ValueError: an unknown budget.
        """
        if budget not in BUDGETS:
            raise ValueError(f"budget={budget!r} is not known; choose one of {', '.join(BUDGETS)}.")
        if tell is None:
            from workbench.progress import Progress

            with Progress(self.title) as bar:
                return self.run(budget, seed, bar)
        tables = []
        for place, arm in enumerate(("effect", "control")):
            table = self.experiment(arm, budget, seed, lambda done, place=place: tell((place + done) / 2))
            tables.append(table.assign(arm=arm))
        tell(1.0)
        return pd.concat(tables, ignore_index=True)

    def report(self, runs: pd.DataFrame) -> Report:
        """Judge the claims by a table of `run`.

        Raises:
            ValueError: an arm is missing from `runs`.
        """
        missing = {"effect", "control"} - set(runs.get("arm", ()))
        if missing:
            raise ValueError(f"{self.name}: the runs lack the arm {min(missing)!r}; hand over what run() returned.")
        arms = {arm: runs[runs["arm"] == arm].drop(columns="arm") for arm in ("effect", "control")}
        return Report(self, {arm: self.measure(table.reset_index(drop=True)) for arm, table in arms.items()})

    def shuffled(self, runs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
        """`runs` with the outcomes dealt out anew among the rows of each arm: whatever caused them is lost."""
        rng = np.random.default_rng(seed)
        dealt = runs.copy()
        for _, rows in runs.groupby("arm", sort=False):
            other = rng.permutation(rows.index)
            for column in self.outcome:
                dealt.loc[rows.index, column] = runs.loc[other, column].to_numpy()
        return dealt

    def shipped(self) -> pd.DataFrame | None:
        """The table of the ``gpu`` experiment with seed 0 that comes with the workbench; None if there is none.

        Its numbers have six digits.
        """
        from workbench.shipped import folder

        path = folder("data") / "phenomena" / f"{self.name}.csv.xz"
        return pd.read_csv(path) if path.is_file() else None

    def shipped_report(self, budget: str = "gpu", seed: int = 0) -> Report | None:
        """What an experiment that comes with the workbench gave (``data/phenomena/results.json``); None without it."""
        from workbench.phenomena.registry import results

        for one in results():
            if (one["phenomenon"], one["budget"], one["seed"]) == (self.name, budget, seed):
                arms = one["measured"].items()
                return Report(self, {arm: {n: Estimate(**v) for n, v in found.items()} for arm, found in arms})
        return None


class Trained(Phenomenon):
    """A phenomenon of trained probes: subclasses describe a sweep an arm instead of an experiment."""

    @abstractmethod
    def sweep(self, arm: str, budget: str, seed: int) -> Sweep:
        """The probes of one arm."""

    def observe(self, results: Sequence[Any]) -> pd.DataFrame:
        """The table of trained probes (`workbench.probes.result.Result`): by default one row a probe.

        Seconds are left out: they are another number each time.
        """
        return pd.DataFrame([one.row() for one in results]).drop(columns="seconds", errors="ignore")

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        """Train the arm's sweep in this process: on the CPU under ``cpu``, on what there is under ``gpu``."""
        from workbench.probes.trainer import train_sweep

        sweep = self.sweep(arm, budget, seed)
        return self.observe(train_sweep(sweep, "cpu" if budget == "cpu" else "auto", on_progress=lambda f, _: tell(f)))
