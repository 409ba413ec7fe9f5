"""The controls of the probe panel: labelled text fields with help and faults beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field
from html import escape
from typing import Any

import ipywidgets as widgets

from workbench.panels.controls import button
from workbench.panels.probes_fields import declared, help_of, spelled
from workbench.panels.probes_state import COMBINE, COUNTS, HORIZONS, ProbeState
from workbench.probes.models.base import models
from workbench.probes.optimizers.base import optimizers
from workbench.probes.tasks.base import tasks
from workbench.units import axis_title

__all__ = ["SECTIONS", "Entry", "ProbeControls", "section_of"]

#: The groups of settings, of which one is shown at a time.
SECTIONS = ("training", "task", "model", "optimizer", "more", "none")
#: Settings of the run that most sweeps name; the others are under "More training".
_USUAL = (
    "tokens", "batch_tokens", "lr", "schedule", "warmup", "weight_decay", "clip", "parametrization", "precision",
    "evals",
)  # fmt: skip
_SPOKEN = {"grid": "grid: every combination", "random": "random draws", "sobol": "Sobol draws"}
_WIDE = "340px"
_ROW = {"flex_flow": "row wrap", "align_items": "flex-start"}


class Entry:
    """A text field with a line below it: help, or what is wrong with the text.

    Attributes:
        text: the field.
        box: field and line.
    """

    def __init__(self, name: str, help: str, label: str = "", options: tuple[str, ...] = (), **more: Any) -> None:
        kind = widgets.Combobox if options else widgets.Text
        self.name, self._help = name, help
        self.text = kind(
            description=label or name, continuous_update=False, tooltip=help,
            style={"description_width": "118px"}, layout={"width": _WIDE, "max_width": "100%"},
            **({"options": options} if options else {}), **more,
        )  # fmt: skip
        self.line = widgets.HTML(layout={"width": _WIDE, "max_width": "100%"})
        self.box = widgets.VBox([self.text, self.line], layout={"margin": "0 14px 2px 0"})
        self.say(None)

    def say(self, fault: str | None) -> None:
        """Show what is wrong, or the help."""
        if fault is None:
            colour, words, role = "var(--jp-ui-font-color2,#667085)", self._help, ""
        else:
            colour, words, role = "var(--jp-error-color1,#b84a00)", f"⚠ {fault}", " role='alert'"
        look = f"padding-left:64px;font-size:11px;line-height:1.35;color:{colour}"
        new = f"<div{role} style='{look}'>{escape(words)}</div>"
        if self.line.value != new:
            self.line.value = new

    def help(self, words: str) -> None:
        """Other words of help."""
        self._help = words


class ProbeControls:
    """The widgets of the probe panel; they hold what was typed and nothing else.

    Args:
        changed: called after a field has changed.
        rebuilt: called after other settings are shown.
    """

    def __init__(self, changed: Callable[[Any], None], rebuilt: Callable[[], None]) -> None:
        self._changed, self._rebuilt = changed, rebuilt
        style, wide = {"description_width": "72px"}, {"width": "260px"}
        self.task = widgets.Dropdown(description="Task", options=list(tasks()), style=style, layout=wide)
        self.model = widgets.Dropdown(description="Model", options=list(models()), style=style, layout=wide)
        self.optimizer = widgets.Dropdown(description="Optimizer", options=list(optimizers()), style=style, layout=wide)
        self.sizes = Entry("sizes", "target parameters: 1k, 4k, 16k or 1e3 .. 1e6, 4 log; empty: the model's own width")
        self.horizons = Entry("horizons", "training tokens (or tokens a parameter) for each size; empty: tokens below")
        self.seeds = Entry("seeds", "3 trains each probe with seeds 0, 1, 2; 5, 7 with those", placeholder="1")
        drop = {"style": {"description_width": "118px"}, "layout": {"width": _WIDE, "max_width": "100%"}}
        self.horizons_in = widgets.Dropdown(
            description="horizons in", options=[(axis_title(n), n) for n in HORIZONS], **drop
        )
        self.count = widgets.Dropdown(description="sizes count", options=[(axis_title(n), n) for n in COUNTS], **drop)
        self.combine = widgets.Dropdown(description="combine", options=[(_SPOKEN[n], n) for n in COMBINE], **drop)
        self.aspect = Entry("aspect", "width over depth, for sizes: the depth follows; empty: depth stays")
        self.head_width = Entry("head_width", "width of a head, for sizes: heads follow; empty: heads stay")
        self.draws = Entry("draws", "probes drawn; give settings ranges such as 1e-4 .. 1e-1", placeholder="16")
        self.draw_seed = Entry("draw_seed", "seed of the draw", placeholder="0")
        self.section = widgets.ToggleButtons(
            description="Settings", options=[(s, s) for s in SECTIONS], value="training",
            style={"description_width": "72px", "button_width": "auto"},
        )  # fmt: skip
        self.fields = widgets.HBox(layout=widgets.Layout(**_ROW))
        self.forget = button("Forget them", "Describe a sweep of your own instead of the probes that were handed over")
        self.handed = widgets.HTML()
        self.price, self.buckets = widgets.HTML(), widgets.HTML()
        self.launch = button("Launch", "Start training; the runs go on when this notebook is closed")
        self.launch.button_style = "primary"
        self.jobs = widgets.Dropdown(description="Job", style=style, layout={"width": "560px", "max_width": "100%"})
        #: What was typed for each setting; kept when the parts change, so that nothing is lost.
        self.texts: dict[str, str] = {}
        self.faults: dict[str, str] = {}
        self.varying: tuple[str, ...] = ()
        self.entries: dict[str, Entry] = {}
        self._shown: tuple | None = None
        for one in (self.task, self.model, self.optimizer, self.horizons_in, self.count, self.combine):
            one.observe(self._heard, "value")
        for one in self.own.values():
            one.text.observe(self._heard, "value")
        self.section.observe(self._section, "value")

    @property
    def own(self) -> dict[str, Entry]:
        """Fields that belong to the sweep and to no probe."""
        return {
            e.name: e
            for e in (
                self.sizes, self.horizons, self.seeds, self.aspect, self.head_width, self.draws, self.draw_seed,
            )
        }  # fmt: skip

    @property
    def parts(self) -> tuple[str, str, str]:
        """Task, model and optimizer that are chosen."""
        return self.task.value, self.model.value, self.optimizer.value

    def layout(self) -> list[widgets.Widget]:
        """The form, from top to bottom."""

        def row(*children: widgets.Widget) -> widgets.HBox:
            return widgets.HBox(children, layout=widgets.Layout(**_ROW))

        def plain(child: widgets.Widget) -> widgets.VBox:
            return widgets.VBox([child], layout={"margin": "0 14px 2px 0"})

        o = self.own
        return [
            row(self.task, self.model, self.optimizer),
            row(self.handed, self.forget),
            row(self.sizes.box, self.horizons.box, self.seeds.box, plain(self.horizons_in), plain(self.count),
                plain(self.combine), *(o[n].box for n in ("aspect", "head_width", "draws", "draw_seed"))),
            self.section,
            self.fields,
        ]  # fmt: skip

    def show(self, state: ProbeState) -> None:
        """Set every control to `state`."""
        for name in ("task", "model", "optimizer", "horizons_in", "count", "combine"):
            getattr(self, name).value = getattr(state, name)
        self.sizes.text.value, self.horizons.text.value = state.sizes, state.horizons
        self.seeds.text.value = "" if state.seeds == "1" else state.seeds
        self.aspect.text.value, self.head_width.text.value = spelled(state.aspect), spelled(state.head_width)
        self.draws.text.value = "" if state.draws == 16 else str(state.draws)
        self.draw_seed.text.value = "" if state.draw_seed == 0 else str(state.draw_seed)
        known = declared(state.task, state.model, state.optimizer)
        for name in known:
            self.texts.pop(name, None)
        self.texts |= {name: spelled(value) or "none" for name, value in state.settings.items()} | dict(state.axes)
        self.varying = tuple(dict.fromkeys(name for row in state.rows for name in row))
        self.faults = {}
        self.build()

    def build(self) -> None:
        """Show the settings of the section that is chosen."""
        parts = self.parts
        self._titles(parts)
        known = {n: one for n, (part, one) in declared(*parts).items() if section_of(part, n) == self.section.value}
        names = sorted(known, key=lambda n: _USUAL.index(n) if n in _USUAL else len(_USUAL))
        wanted = (parts, self.section.value)
        if wanted != self._shown:
            self._shown = wanted
            self.entries = {name: self._entry(known[name]) for name in names}
            self.fields.children = tuple(entry.box for entry in self.entries.values())
        for name, entry in self.entries.items():
            if entry.text.value != self.texts.get(name, ""):
                entry.text.value = self.texts.get(name, "")
            varies = name in self.varying
            entry.text.disabled = varies
            entry.help("varies among the probes that were handed over" if varies else help_of(known[name]))
            entry.say(self.faults.get(name))
        drawn = "" if self.combine.value != "grid" else "none"
        sized = "" if self.sizes.text.value.strip() else "none"
        for entry in (self.draws, self.draw_seed):
            entry.box.layout.display = drawn
        for entry in (self.aspect, self.head_width):
            entry.box.layout.display = sized
        for one in (self.count, self.horizons_in):
            one.layout.display = sized
        for name, entry in self.own.items():
            entry.say(self.faults.get(name))

    def _titles(self, parts: tuple[str, str, str]) -> None:
        """Labels of the sections, with how many settings are typed in each and where something is wrong."""
        known = declared(*parts)
        counts, wrong = dict.fromkeys(SECTIONS, 0), set()
        for name, (part, _) in known.items():
            place = section_of(part, name)
            counts[place] += bool(self.texts.get(name, "").strip())
            if name in self.faults:
                wrong.add(place)
        words = {
            "training": "Training",
            "task": parts[0],
            "model": parts[1],
            "optimizer": parts[2],
            "more": "More training",
            "none": "Hide",
        }
        labels = [
            (words[s] + (f" ({counts[s]})" if counts[s] else "") + (" ⚠" if s in wrong else ""), s) for s in SECTIONS
        ]
        if list(self.section.options) != labels:
            value = self.section.value
            self.section.unobserve(self._section, "value")
            self.section.options = labels
            self.section.value = value
            self.section.observe(self._section, "value")

    def _entry(self, one: Field) -> Entry:
        kind = one.metadata["kind"]
        options = tuple(one.metadata["values"]) if kind == "choice" else ("True", "False") if kind == "flag" else ()
        entry = Entry(one.name, help_of(one), options=options, placeholder=spelled(one.default) or "none")
        entry.text.value = self.texts.get(one.name, "")

        def typed(change: Any) -> None:
            if self.texts.get(one.name, "") != change["new"]:
                self.texts[one.name] = change["new"]
                self._changed(change)

        entry.text.observe(typed, "value")
        return entry

    def _heard(self, change: Any) -> None:
        self._changed(change)

    def _section(self, _: Any) -> None:
        self.build()
        self._rebuilt()


def section_of(part: str, name: str) -> str:
    """The group that a setting is shown in."""
    if part != "run":
        return part
    return "training" if name in _USUAL else "more"
