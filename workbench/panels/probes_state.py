"""The state of the probe panel, and the sweep it describes: built, and as source text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.panels.fit_state import source
from workbench.panels.probes_fields import declared, read, spelled, spread
from workbench.panels.state import State
from workbench.probes.spec import Probe
from workbench.probes.sweep import Span, Sweep

__all__ = ["COMBINE", "COUNTS", "HORIZONS", "MOST", "ProbeState", "Recipe", "recipe", "state_of"]

#: Most runs of one sweep that a form builds.
MOST = 10_000
COMBINE = ("grid", "random", "sobol")
COUNTS = ("params_non_embedding", "params", "params_active")
HORIZONS = ("tokens", "tokens_per_param")
_NAMES = ("task", "model", "optimizer")


@dataclass(frozen=True)
class ProbeState(State):
    """What the probe panel describes.

    Attributes:
        task, model, optimizer: of all probes.
        settings: settings that differ from their defaults, by name.
        axes: settings with several values, by name, as typed: ``{"lr": "1e-4 .. 1e-1, 5 log"}``.
        combine: ``grid`` (every combination), ``random`` or ``sobol``.
        draws, draw_seed: number of probes drawn, and the seed of the draw, where they are drawn.
        sizes: target parameter counts as typed; empty keeps the model's own width.
        horizons: training horizons as typed, for the sizes; empty keeps ``tokens``.
        horizons_in: ``tokens`` or ``tokens_per_param``.
        count: which parameters `sizes` counts.
        aspect, head_width: as in `Sweep.scale`; None leaves depth and heads.
        seeds: a number of seeds (``3`` is 0, 1, 2), or the seeds with commas between them.
        rows: what each of the probes changes that were handed over; empty where the form alone describes the sweep.
        launched: id of the sweep whose job is shown.
        job: the state of that job's panel.
    """

    task: str = "bigram"
    model: str = "transformer"
    optimizer: str = "adamw"
    settings: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    combine: str = "grid"
    draws: int = 16
    draw_seed: int = 0
    sizes: str = ""
    horizons: str = ""
    horizons_in: str = "tokens"
    count: str = "params_non_embedding"
    aspect: float | None = None
    head_width: int | None = None
    seeds: str = "1"
    rows: tuple[dict[str, Any], ...] = ()
    launched: str | None = None
    job: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A sweep as calls of public functions; `build` makes them and `source` writes them.

    Attributes:
        base: arguments of the `Probe`.
        axes: values by setting, lists or `Span`, without the seeds.
        seeds: seeds of each probe, empty for those of the base.
        drawn: None, or the name of the draw with its number and seed.
        scale: arguments of `Sweep.scale`, empty where sizes are not chosen.
        rows: changes of the base, one a handed-over probe.
    """

    base: dict[str, Any]
    axes: dict[str, Any]
    seeds: tuple[int, ...] = ()
    drawn: tuple[str, int, int] | None = None
    scale: dict[str, Any] = field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = ()

    def __len__(self) -> int:
        """How many runs at most; equal ones are left out later."""
        first = len(self.rows) or 1
        if self.scale:
            first = len(self.scale["params"]) * len(self.scale.get("tokens") or self.scale["tokens_per_param"])
        each = self.drawn[1] if self.drawn else math.prod(len(values) for values in self.axes.values())
        return first * each * max(1, len(self.seeds))

    @property
    def grid(self) -> dict[str, Any]:
        """The axes of a grid, seeds last."""
        return {**self.axes, **({"seed": list(self.seeds)} if self.seeds else {})}

    def build(self) -> Sweep:
        """The sweep.

        Raises:
            ValueError, TypeError: it cannot be built, or has too many runs; one sentence.
        """
        if len(self) > MOST:
            raise ValueError(
                f"these settings combine to {len(self)} runs; a form builds at most {MOST}: drop some values."
            )
        base = Probe(**self.base)
        if not self.drawn and not self.rows:
            if self.scale:
                return Sweep.scale(base, **self.scale, **self.grid)
            return Sweep.grid(base, **self.grid) if self.grid else Sweep((base,))
        probes: list[Probe] = [base.replace(**row) for row in self.rows] or [base]
        if self.scale:
            probes = list(Sweep.scale(base, **self.scale))
        if self.drawn:
            draw, count, seed = self.drawn
            probes = [p for one in probes for p in getattr(Sweep, draw)(one, count, draw_seed=seed, **self.axes)]
            again = {"seed": self.seeds} if self.seeds else {}
        else:
            again = self.grid
        return Sweep(tuple(p for one in probes for p in Sweep.grid(one, **again)) if again else tuple(probes))

    def source(self) -> str:
        """Source text that leaves `base` and `sweep` behind."""
        lines = [f"base = {_call('Probe', self.base)}"]
        grid = _arguments(self.grid)
        scale = _arguments(self.scale)
        if not self.drawn and not self.rows:
            if self.scale:
                lines.append(f"sweep = {_call('Sweep.scale', {**self.scale, **self.grid}, 'base')}")
            else:
                lines.append(f"sweep = {_call('Sweep.grid', self.grid, 'base') if grid else 'Sweep((base,))'}")
            return "\n".join(lines) + "\n"
        each = "base"
        if self.rows:
            written = ",\n    ".join(source(row) for row in self.rows)
            lines.append(f"rows = [\n    {written},\n]")
            lines.append("probes = [base.replace(**row) for row in rows]")
            each = "probes"
        elif self.scale:
            lines.append(f"probes = Sweep.scale(base, {scale})")
            each = "probes"
        again = grid
        if self.drawn:
            draw, count, seed = self.drawn
            call = f"{count}, draw_seed={seed}, {_arguments(self.axes)}"
            again = f"seed={list(self.seeds)!r}" if self.seeds else ""
            if each == "base" and not again:
                return "\n".join([*lines, f"sweep = Sweep.{draw}(base, {call})"]) + "\n"
            of = f"[one for probe in {each} for one in Sweep.{draw}(probe, {call})]"
            lines.append(f"probes = {of if each == 'probes' else f'Sweep.{draw}(base, {call})'}")
        if again:
            lines.append(f"sweep = Sweep(tuple(one for probe in probes for one in Sweep.grid(probe, {again})))")
        else:
            lines.append("sweep = Sweep(tuple(probes))")
        return "\n".join(lines) + "\n"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names the source takes from `workbench`."""
        spans = any(isinstance(values, Span) for values in self.axes.values())
        return ("Probe", *(["Span"] if spans else []), "Sweep")


def recipe(state: ProbeState) -> Recipe:
    """The sweep that `state` describes, as a recipe.

    Raises:
        ValueError, TypeError: a field cannot be read; the sentence begins with its name.
    """
    known = declared(state.task, state.model, state.optimizer)
    drawn = state.combine != "grid"
    if state.combine not in COMBINE:
        raise ValueError(f"combine={state.combine!r} is not known; choose one of {', '.join(COMBINE)}.")
    axes: dict[str, Any] = {}
    for name, text in state.axes.items():
        if name not in known:
            raise ValueError(f"{name} is no setting of such a probe; take it out of the swept ones.")
        kind, value = read(known[name][1], text, drawn)
        axes[name] = [value] if kind == "one" else value
    if isinstance(axes.get("tokens"), list) and ".." in state.axes["tokens"] and "batch_tokens" not in axes:
        batch = state.settings.get("batch_tokens", known["batch_tokens"][1].default)
        axes["tokens"] = list(dict.fromkeys(max(1, round(one / batch)) * batch for one in axes["tokens"]))
    seeds = _seeds(state.seeds)
    if seeds and "seed" in axes:
        raise ValueError("seeds are given twice, as a number of seeds and as values of seed; empty one of them.")
    if drawn and not axes:
        raise ValueError("combine: there is nothing to draw; give some setting a range such as 1e-4 .. 1e-1.")
    scale = _scale(state, axes)
    base = {name: getattr(state, name) for name in _NAMES} | dict(state.settings)
    # the base must be a probe itself, so it has the first of several values
    base |= {name: values[0] for name, values in axes.items() if not isinstance(values, Span)}
    draw = (state.combine, _whole("draws", state.draws, 1, MOST), _whole("draw_seed", state.draw_seed, 0, 2**31 - 1))
    return Recipe(base, axes, seeds, draw if drawn else None, scale, tuple(state.rows))


def state_of(sweep: Sweep) -> ProbeState:
    """The state whose sweep is `sweep`, probe by probe: a grid where it is one, else rows of what differs."""
    first = sweep[0]
    known = declared(first.task, first.model, first.optimizer)
    settings = {n: _plain(getattr(first, n)) for n in known if getattr(first, n) != known[n][1].default}
    base = ProbeState(first.task, first.model, first.optimizer, settings)
    if all((p.task, p.model, p.optimizer) == (first.task, first.model, first.optimizer) for p in sweep):
        found = _as_grid(base, sweep, [n for n in known if any(getattr(p, n) != getattr(first, n) for p in sweep)])
        if found is not None:
            return found
    return base.replace(rows=tuple(_row(first, probe) for probe in sweep))


def _row(first: Probe, probe: Probe) -> dict[str, Any]:
    """What `first` must change to become `probe`."""
    row: dict[str, Any] = {n: getattr(probe, n) for n in _NAMES if getattr(probe, n) != getattr(first, n)}
    own = declared(probe.task, probe.model, probe.optimizer)
    try:
        begun = first.replace(**row)
        differing = [n for n in own if getattr(begun, n) != getattr(probe, n)]
    except (ValueError, TypeError):  # what the first has does not fit the other parts: say everything
        differing = list(own)
    return row | {n: _plain(getattr(probe, n)) for n in differing}


def _as_grid(base: ProbeState, sweep: Sweep, differing: Sequence[str]) -> ProbeState | None:
    """The state of a grid that equals `sweep`, or None."""
    values = {n: list(dict.fromkeys(getattr(p, n) for p in sweep)) for n in differing}
    if math.prod(map(len, values.values())) != len(sweep):
        return None
    if any(isinstance(v, tuple) or v is None for found in values.values() for v in found):
        return None
    # the axis that changes last comes first
    changes = {n: next(i for i, p in enumerate(sweep) if getattr(p, n) != getattr(sweep[0], n)) for n in differing}
    order = sorted(differing, key=lambda n: -changes[n])
    axes = {n: ", ".join(spelled(v) for v in values[n]) for n in order}
    base = base.replace(settings={n: v for n, v in base.settings.items() if n not in differing})
    if order and order[-1] == "seed":
        seeds = values["seed"]
        del axes["seed"]
        plain = seeds == list(range(len(seeds)))
        found = base.replace(axes=axes, seeds=str(len(seeds)) if plain else ", ".join(map(str, seeds)))
    else:
        found = base.replace(axes=axes)
    try:
        return found if recipe(found).build() == sweep else None
    except (ValueError, TypeError):
        return None


def _scale(state: ProbeState, axes: Mapping[str, Any]) -> dict[str, Any]:
    if not state.sizes.strip():
        if state.horizons.strip():
            raise ValueError("horizons need sizes beside them; for one model write the horizons into tokens.")
        return {}
    if state.rows:
        raise ValueError("sizes cannot be chosen for probes that were handed over; forget those first.")
    if state.count not in COUNTS or state.horizons_in not in HORIZONS:
        raise ValueError(f"sizes count one of {', '.join(COUNTS)}, horizons one of {', '.join(HORIZONS)}.")
    for name in ("width", *(["tokens"] if state.horizons.strip() else [])):
        if name in axes:
            raise ValueError(f"{name} is chosen by sizes and horizons; take it out of the swept settings.")
    sizes = spread("sizes", state.sizes)
    if min(sizes) < 1:
        raise ValueError(f"sizes: {min(sizes):g} is no number of parameters; give numbers from 1.")
    known = declared(state.task, state.model, state.optimizer)
    tokens = state.settings.get("tokens", known["tokens"][1].default)
    if state.horizons.strip():
        horizons = spread("horizons", state.horizons)
        if min(horizons) <= 0:
            raise ValueError(f"horizons: {min(horizons):g} is no horizon; give numbers above 0.")
    else:
        horizons = [tokens]
        if state.horizons_in != "tokens":
            raise ValueError("horizons are empty; write tokens per parameter, or count them in tokens.")
    found: dict[str, Any] = {"params": sizes, state.horizons_in: horizons, "count": state.count}
    if state.aspect is not None:
        found["aspect"] = state.aspect
    if state.head_width is not None:
        found["head_width"] = _whole("head_width", state.head_width, 1, 8192)
    return found


def _seeds(text: str) -> tuple[int, ...]:
    """Seeds of each probe; empty for that of the base alone."""
    if text.strip() in ("", "1"):
        return ()
    found = spread("seeds", text, whole=True)
    if len(found) == 1:
        return tuple(range(_whole("seeds", found[0], 1, MOST)))
    return tuple(_whole("seeds", seed, 0, 2**31 - 1) for seed in found)


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}={value!r} must be a whole number from {low} to {high}.")
    return value


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _arguments(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_written(value)}" for name, value in given.items())


def _written(value: Any) -> str:
    if isinstance(value, Span):
        return f"Span({value.low!r}, {value.high!r}{'' if value.log else ', log=False'})"
    return source(value)


def _call(name: str, given: Mapping[str, Any], *first: str) -> str:
    """A call on one line, or with one argument a line where that is too long."""
    inner = ", ".join([*first, _arguments(given)]) if given else ", ".join(first)
    if len(inner) < 90:
        return f"{name}({inner})"
    parts = [*first, *(f"{key}={_written(value)}" for key, value in given.items())]
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + ")"
