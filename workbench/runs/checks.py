"""What is wrong with a row, what can be derived, and which runs are the same."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.runs.counted import disagreements, fill
from workbench.units import FLOPS_PER_PARAM_TOKEN, QUANTITIES

__all__ = ["CHECKED", "add_problem", "check_counting", "derive_missing", "mark_bad", "mark_missing", "unique_ids"]

#: The quantities every law rests on; a run without a sound one is marked.
CHECKED = ("params", "tokens", "flops", "loss")


def add_problem(frame: pd.DataFrame, rows: np.ndarray, sentences: list[str]) -> None:
    """Append a sentence to `problem` in each of `rows` (positions), unless it is there already."""
    problems = frame["problem"].to_numpy(dtype=object, copy=True)
    for row, sentence in zip(rows, sentences, strict=True):
        if sentence not in problems[row]:
            problems[row] = f"{problems[row]}; {sentence}" if problems[row] else sentence
    frame["problem"] = pd.Series(problems, index=frame.index, dtype="str")


def mark_bad(frame: pd.DataFrame) -> None:
    """Mark rows with an infinite, negative or zero value where that cannot be."""
    for name in CHECKED:
        if name not in frame:
            continue
        values = frame[name].to_numpy()
        bad = np.isinf(values) | (values <= 0 if QUANTITIES[name].positive else False)
        a = "a loss" if name == "loss" else name
        add_problem(
            frame, np.flatnonzero(bad), [f"{name} is {v:.6g}; {a} must be positive and finite" for v in values[bad]]
        )


def mark_missing(frame: pd.DataFrame) -> None:
    """Mark rows that lack a checked quantity which other rows have; unreadable rows say so already."""
    rest = [c for c in frame.columns if c not in ("run", "problem")]
    logged = frame[rest].notna().any(axis=1).to_numpy() | (frame["problem"] == "").to_numpy()
    for name in CHECKED:
        if name in frame:
            rows = np.flatnonzero(frame[name].isna().to_numpy() & logged)
            # a cell that is no number is missing too, but has been reported with its text
            rows = [r for r in rows if not frame["problem"].iloc[r].startswith(f"{name} is ")]
            add_problem(frame, np.array(rows, dtype=int), [f"{name} is missing or NaN"] * len(rows))


def derive_missing(frame: pd.DataFrame, notes: dict[str, str]) -> pd.DataFrame:
    """`frame` with what follows from the rest: counts of configurations, tokens, FLOPs, params, tokens per parameter.

    A value is derived only in rows where it alone is missing and the others are sound; `notes` says how,
    and in how many rows if not in all. FLOPs are 6 x params x tokens, of mixtures of experts with the active params.
    """
    six = FLOPS_PER_PARAM_TOKEN
    frame, later = fill(frame.copy(), notes)
    frame = _derive(frame, notes, ("tokens", ("steps", "batch_tokens"), lambda s, b: s * b, "steps x batch_tokens"))
    frame = later(frame)
    sparse = "params_active" in frame
    met = "params_active" if sparse else "params"
    rules = [
        ("flops", (met, "tokens"), lambda n, d: six * n * d, f"6 x {met} x tokens"),
        ("tokens", ("flops", met), lambda c, n: c / (six * n), f"flops / (6 {met})"),
    ]
    if sparse:  # beside runs of mixtures there may be others
        rules += [
            ("flops", ("params", "tokens"), lambda n, d: six * n * d, "6 x params x tokens"),
            ("tokens", ("flops", "params"), lambda c, n: c / (six * n), "flops / (6 params)"),
        ]
    rules += [
        ("params", ("flops", "tokens"), lambda c, d: c / (six * d), "flops / (6 tokens)"),
        ("tokens_per_param", ("tokens", "params"), lambda d, n: d / n, "tokens / params"),
    ]
    for rule in rules:
        frame = _derive(frame, notes, rule)
    return later(frame)


def _derive(frame: pd.DataFrame, notes: dict[str, str], rule: tuple) -> pd.DataFrame:
    name, inputs, formula, shown = rule
    if not all(i in frame for i in inputs):
        return frame
    old = frame[name].to_numpy() if name in frame else np.full(len(frame), np.nan)
    values = [frame[i].to_numpy() for i in inputs]
    with np.errstate(all="ignore"):
        new = formula(*values)
        sound = np.isnan(old) & np.isfinite(new) & (new > 0) & (values[0] > 0) & (values[1] > 0)
    if not sound.any():
        return frame
    filled = f"derived: {shown}" if sound.all() else f"derived in {sound.sum()} of {len(frame)} rows: {shown}"
    notes[name] = f"{notes[name]}; {filled}" if notes.get(name) else filled
    return frame.assign(**{name: np.where(sound, new, old)})


def check_counting(frame: pd.DataFrame) -> list[str]:
    """A sentence for each count that differs from another of the same thing; both are kept. Call before deriving.

    Logged FLOPs are compared with 6 x params x tokens, of mixtures of experts with the active params, and what was
    logged with what the configuration gives.
    """
    return _check_flops(frame) + disagreements(frame)


def _check_flops(frame: pd.DataFrame) -> list[str]:
    if not {"params", "tokens", "flops"} <= set(frame.columns):
        return []
    params = frame["params_active"].fillna(frame["params"]) if "params_active" in frame else frame["params"]
    with np.errstate(all="ignore"):
        ratio = (frame["flops"] / (FLOPS_PER_PARAM_TOKEN * params * frame["tokens"])).to_numpy()
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    if not ratio.size or np.median(np.abs(ratio - 1)) <= 0.01:
        return []
    return [
        f"logged flops are {np.median(ratio):.3g} x 6 params tokens in the median run: they were counted in another "
        "way; both are kept"
    ]


def unique_ids(frame: pd.DataFrame) -> list[str]:
    """Make `run` unique in place: a second ``a`` becomes ``a#2``, and is marked if it repeats the first.

    Returns:
        One sentence if any run was renamed.
    """
    if frame["run"].is_unique:
        return []
    # the id and every value but the marks; NaN equals NaN here
    twins = frame.drop(columns="problem").astype(object).where(lambda f: f.notna(), None).apply(tuple, axis=1)
    ids = set(frame["run"])
    seen: dict[str, dict] = {}
    count: dict[str, int] = {}
    new, repeated, originals = [], [], []
    for row, (run, values) in enumerate(zip(frame["run"], twins, strict=True)):
        if run not in seen:
            seen[run] = {values: run}
            new.append(run)
            continue
        n = count.get(run, 1) + 1
        while f"{run}#{n}" in ids:
            n += 1
        count[run] = n
        new.append(f"{run}#{n}")
        ids.add(new[-1])
        if values in seen[run]:
            repeated.append(row)
            originals.append(f"the same row as {seen[run][values]!r}")
        seen[run].setdefault(values, new[-1])
    changed = [a for a, b in zip(frame["run"], new, strict=True) if a != b]
    frame["run"] = pd.Series(new, index=frame.index, dtype="str")
    add_problem(frame, np.array(repeated, dtype=int), originals)
    shown = ", ".join(repr(run) for run in dict.fromkeys(changed[:5]))
    return [f"{len(changed)} rows repeat the id of another run ({shown}); they were renamed with #2, #3, ..."]
