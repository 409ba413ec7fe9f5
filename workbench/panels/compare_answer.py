"""What the compare panel has found out: the comparison of laws, or the fits of groups and the tests between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from workbench.analysis.along import split_groups
from workbench.analysis.crossover import Crossover, crossover
from workbench.analysis.exponents import EqualExponents, equal_exponents
from workbench.analysis.shift import Shift, shift
from workbench.figures.recipes import MOST_GROUPS
from workbench.fits.compare import Comparison, compare
from workbench.fits.fit import fit
from workbench.fits.result import Fit
from workbench.laws.base import get
from workbench.panels.compare_state import KINDS, RESAMPLES, CompareState, fit_arguments, holdout_of
from workbench.runs.table import RunTable

__all__ = ["Answer", "answer", "key_of", "pair_key"]


@dataclass
class Answer:
    """What was found for one state.

    Attributes:
        comparison: of laws; None for groups.
        fits: group -> its fit.
        equal: the test of equal exponents, None where there is none.
        cross: of the chosen pair, None where they cannot be compared.
        shift: of the same pair.
        pair: the chosen pair.
        notes: what could not be done, and why.
    """

    comparison: Comparison | None = None
    fits: dict[str, Fit] = field(default_factory=dict)
    equal: EqualExponents | None = None
    cross: Crossover | None = None
    shift: Shift | None = None
    pair: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def key_of(state: CompareState) -> str:
    """What fits and tests depend on."""
    shared = (state.kind, state.y, state.x, state.where, state.objective, state.delta, state.left_out)
    own = (state.laws, state.holdout) if state.kind == KINDS[0] else (state.law, state.by, state.groups)
    return repr((shared, own))


def pair_key(state: CompareState) -> str:
    """What crossing and multiplier depend on besides."""
    return key_of(state) + repr(state.pair if state.kind != KINDS[0] else ())


def answer(
    runs: RunTable, state: CompareState, known: Answer | None = None, tick: Callable[[float, str], None] | None = None
) -> Answer:
    """Fit and test what `state` asks for.

    Args:
        runs: all runs; those taken out by hand are dropped here.
        state: the state.
        known: an answer to the same question about another pair, whose fits and tests are taken over.
        tick: called with the fraction done and what is being done; may raise to cancel.

    Raises:
        ValueError: no law can be fitted, or there are not two groups to compare.
    """
    say = tick or (lambda fraction, what="": None)
    present = set(runs.ids)
    table = runs.drop([run for run in state.left_out if run in present])
    if state.kind == KINDS[0]:
        given = fit_arguments(state) | ({"x": state.x} if state.x is not None else {})
        if not state.laws:
            raise ValueError("no law is chosen; select at least one in the list of laws")
        found = compare(table, list(state.laws), holdout=holdout_of(state.holdout), tick=say, **given)
        return Answer(comparison=found, notes=[f"{get(law).title}: {why}" for law, why in found.failed.items()])
    out = Answer(fits=dict(known.fits), equal=known.equal, notes=list(known.notes)) if known is not None else Answer()
    if known is None:
        _fit_groups(out, table, state, say)
    _compare_pair(out, state, say)
    return out


def _fit_groups(out: Answer, table: RunTable, state: CompareState, say: Callable[[float, str], None]) -> None:
    if state.by is None:
        raise ValueError("no column tells groups of runs apart; add one such as optimizer, or compare laws")
    # Filtered before it is split, so that a group that loses all its runs is not offered.
    parts = split_groups(table, state.by, list(state.groups) or None)
    if len(parts) > MOST_GROUPS:
        raise ValueError(f"{state.by} has {len(parts)} groups; choose at most {MOST_GROUPS} of them in the list")
    given = fit_arguments(state) | ({"x": state.x} if state.x is not None and len(get(state.law).inputs) == 1 else {})
    for done, (name, part) in enumerate(parts.items()):
        say(0.4 * done / len(parts), f"fitting {name}")
        try:
            out.fits[name] = fit(part, state.law, **given)
            if out.fits[name].degrees >= 1:
                out.fits[name].joint_draws(RESAMPLES)  # kept by the fit, for bands and intervals
        except ValueError as why:
            out.notes.append(f"{name} is left out: {why}")
    if len(out.fits) < 2:
        raise ValueError(
            f"{len(out.fits)} of {len(parts)} groups of {state.by} can be fitted, and this takes two. "
            + " ".join(out.notes)
        )
    say(0.4, "testing exponents")
    try:
        out.equal = equal_exponents(table, state.by, state.law, groups=list(out.fits), n=RESAMPLES, **given)
    except ValueError as why:
        out.notes.append(f"No test of equal exponents: {why}")


def _compare_pair(out: Answer, state: CompareState, say: Callable[[float, str], None]) -> None:
    chosen = tuple(g for g in state.pair if g in out.fits)
    out.pair = chosen if len(set(chosen)) == 2 else tuple(out.fits)[:2]
    a, b = out.pair
    out.notes = [note for note in out.notes if not note.startswith("No crossing")]
    say(0.7, "looking for the crossing")
    try:
        out.cross = crossover(out.fits[a], out.fits[b], labels=[a, b], n=RESAMPLES)
        say(0.9, "computing the multiplier")
        out.shift = shift(out.cross.a, out.cross.b, n=RESAMPLES)
    except ValueError as why:
        out.notes.append(f"No crossing of {a} and {b}: {why}")
    say(1.0, "done")
