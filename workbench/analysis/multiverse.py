"""`multiverse`: the same question put to the same runs in every defensible way at once.

One analysis gives one number with an interval that knows the noise of the runs and nothing of the choices
made on the way. Here every combination of choices is made (Steegen et al. 2016, doi
10.1177/1745691616658637; Simonsohn et al. 2020, doi 10.1038/s41562-020-0912-z); which choices to vary for
scaling laws follows the survey of Li et al. 2025, (Mis)Fitting, section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from workbench.analysis.analyses import ORDINARY, Analyses, dimensions_of
from workbench.analysis.choices import Choice
from workbench.analysis.families import spec_points
from workbench.analysis.verses import Multiverse
from workbench.fits.fit import fit
from workbench.fits.result import Fit
from workbench.laws.base import Law

__all__ = ["Multiverse", "around", "dimensions_of", "multiverse", "spec_points"]


def multiverse(
    runs: Any,
    law: str | Law = "chinchilla",
    *,
    question: Any = None,
    choices: Iterable[Choice] | Mapping[str, Iterable[Choice]] = (),
    drop: str | Iterable[str] = (),
    keep: Mapping[str, Sequence[str]] | None = None,
    by: str | None = None,
    groups: Sequence[Any] | None = None,
    n: int = 0,
    level: float = 0.95,
    seed: int = 0,
    tick: Callable[[float, str], None] | None = None,
    options: Mapping[str, Any] | None = None,
    **at: float,
) -> Multiverse:
    """Would I decide the same, had I analysed it another way?

    Args:
        runs: a `RunTable`, or anything `workbench.load` takes.
        law: name of a law or a `Law`.
        question: what is decided on; see `conclusions.ask`. Default tokens per parameter at ten times the
            largest compute in the data, or the metric at ten times the largest scale. ``crossover`` asks at
            what scale the two groups of `by` cross.
        choices: options of your own, in place of the usual ones of their dimensions; of each dimension the
            first is the default analysis.
        drop: dimensions not to vary; the default analysis' option stays.
        keep: dimension -> options to keep. The answers of those kept are the same as without it; where the
            default option of a dimension is not kept, the first one that is takes its place.
        by: column that tells two groups of runs apart, for the question ``crossover``.
        groups: its two values, where there are more.
        n: bootstrap resamples of each analysis; 0 leaves all but the default analysis without interval.
            Rules that leave points out are applied once, to the runs and not to every resample.
        level: nominal coverage.
        seed: seed of starts and resamples.
        tick: called with the fraction done and what is being done; may raise to cancel.
        options: further arguments of `workbench.fit` for the default analysis (``y``, ``x``, ``inputs``,
            ``where``, ``fixed``, ``tied``, ``objective``, ``delta``, ``weights``, ``cluster``).
        **at: where the question is asked, e.g. ``flops=5.88e23``.

    Returns:
        A `Multiverse`. Where parameters are counted in another way, N in the question is counted so too.

    Raises:
        ValueError: bad runs, law, question or choices, or more than 20 000 combinations.
    """
    if question == "crossover" or by is not None:
        from workbench.analysis.crossing import crossings  # which makes two multiverses

        if question not in ("crossover", None) or by is None or at or keep:
            raise ValueError(
                "the question 'crossover' takes by= (a column with two groups), no keep= and no place, others no by="
            )
        options = dict(options or {})
        return crossings(runs, law, by, groups, choices=choices, drop=drop, n=n or ORDINARY, level=level, seed=seed,
                         tick=tick, options=options)  # fmt: skip
    base = fit(runs, law, seed=seed, **(options or {}))
    return around(base, question, choices=choices, drop=drop, keep=keep, n=n, level=level, tick=tick, **at)


def around(
    base: Fit,
    question: Any = None,
    *,
    choices: Iterable[Choice] | Mapping[str, Iterable[Choice]] = (),
    drop: str | Iterable[str] = (),
    keep: Mapping[str, Sequence[str]] | None = None,
    n: int = 0,
    level: float = 0.95,
    tick: Callable[[float, str], None] | None = None,
    **at: float,
) -> Multiverse:
    """Every analysis around the fit `base`, which is the default one; see `multiverse`.

    To ask several questions of the same analyses, fit them once with `workbench.analysis.analyses.Analyses`.
    """
    return Analyses(base, choices, drop).ask(question, keep=keep, n=n, level=level, tick=tick, **at)
