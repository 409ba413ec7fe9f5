"""The page on all phenomena, and its figure, from the results that come with the workbench."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from workbench.phenomena.base import THEMES, Claim, Phenomenon
from workbench.phenomena.estimates import Estimate
from workbench.phenomena.registry import phenomena, results

__all__ = ["overview", "page"]

_HEAD = """\
# Scaling phenomena

Made by `python docs/phenomena.py` from `data/phenomena/results.json`; not to be edited.

Each phenomenon is an experiment with two arms. A claim is *shown* if the whole 95 % interval of the measured number
lies in the accepted range, *refuted* if none of it does, *undecided* otherwise; the control must be refuted. Numbers
are those of seed 0. Run one yourself: `workbench probe phenomenon NAME`.

![Every claim in its accepted range](pictures/phenomena.png)
"""


def page(stored: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The page in Markdown.

    Args:
        stored: results as `workbench.phenomena.registry.results` returns them; those that are shipped unless given.
    """
    stored = results() if stored is None else stored
    parts = [_HEAD]
    for theme, words in THEMES.items():
        members = [one for one in phenomena().values() if one.theme == theme]
        if members:
            parts.append(f"\n## {words}\n")
            parts += [_section(one, [r for r in stored if r["phenomenon"] == one.name]) for one in members]
    parts.append(_about(stored))
    return "\n".join(parts).rstrip("\n") + "\n"


def overview(stored: Sequence[Mapping[str, Any]] | None = None) -> alt.TopLevelMixin:
    """Every claim's interval and its control, each on the scale of its own accepted range; arguments as of `page`."""
    from workbench.figures.verdicts import verdicts

    stored = results() if stored is None else stored
    rows = []
    for one in phenomena().values():
        for result in _of_seed_zero([r for r in stored if r["phenomenon"] == one.name])[:1]:
            for claim in one.claims:
                effect = result["measured"]["effect"][claim.name]
                for arm in ("effect", "control") if claim.controlled else ("effect",):
                    found = result["measured"][arm].get(claim.name)
                    if found is not None:
                        place = {"theme": THEMES[one.theme], "phenomenon": one.name.replace("_", " ")}
                        rows.append({**place, "claim": claim.name, "arm": arm, **_scaled(claim, effect, found)})
    return verdicts(rows)


def _section(one: Phenomenon, own: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"### {one.title}", "", f"`{one.name}`. {one.question} Control: {_lower(one.control)}", ""]
    for result in _of_seed_zero(own):
        seeds = [r for r in own if r["budget"] == result["budget"]]
        measured = {
            arm: {name: Estimate(**values) for name, values in found.items()}
            for arm, found in result["measured"].items()
        }
        where = "CPU" if result["budget"] == "cpu" else f"At a larger scale, {result['made_on']['device']}"
        lines += [
            f"{where}, {result['seconds']:.3g} s; as stated in {sum(r['holds'] for r in seeds)} of {len(seeds)} seeds.",
            "",
            "| claim | paper or theory | accepted | measured | control | verdict |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_row(claim, measured, result["verdicts"].get(claim.name, "–")) for claim in one.claims]
        lines.append("")
    if not own:
        lines += ["Not yet run.", ""]
    unreproduced = [c.name for c in one.claims if not c.reproduces]
    if unreproduced:
        lines += [f"**Does not reproduce here**: {'; '.join(unreproduced)}. The caveats below say what was found.", ""]
    lines += [f"* {caveat}" for caveat in one.caveats]
    lines += ["", "Papers: " + "; ".join(map(str, one.papers)) + ".", ""]
    return "\n".join(lines)


def _row(claim: Claim, measured: Mapping[str, Mapping[str, Estimate]], verdict: str) -> str:
    effect, control = measured["effect"].get(claim.name), measured["control"].get(claim.name)
    cells = (
        claim.name + (f" ({claim.unit})" if claim.unit else ""),
        "–" if claim.expected is None else f"{claim.expected:.3g}",
        claim.range,
        "–" if effect is None else effect.text(claim.digits),
        control.text(claim.digits) if claim.controlled and control is not None else "–",
        verdict,
    )
    return "| " + " | ".join(re.sub(r"[|\n]", "/", cell) for cell in cells) + " |"


def _about(stored: Sequence[Mapping[str, Any]]) -> str:
    """On what machines it was run."""
    machines = {}
    for result in stored:
        made = result["made_on"]
        machines[made["device"]] = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    return "\n## Where it was run\n\n" + "\n".join(f"* {device}: {said}" for device, said in machines.items()) + "\n"


def _of_seed_zero(own: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [result for result in own if result["seed"] == 0]


def _scaled(claim: Claim, effect: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float]:
    """Value and interval, and the accepted range, on the scale on which that range is 0 to 1.

    A range with one end has it at 0 (at least) or 1 (at most), and what was measured of the effect halfway to the
    other.
    """
    start, end = claim.low, claim.high
    if math.isinf(end):
        end = start + 2 * abs(effect["value"] - start)
    elif math.isinf(start):
        start = end - 2 * abs(effect["value"] - end)
    scaled = {key: (found[key] - start) / ((end - start) or 1.0) for key in ("value", "low", "high")}
    ends = {
        "from": 0.0 if math.isfinite(claim.low) else -math.inf,
        "to": 1.0 if math.isfinite(claim.high) else math.inf,
    }
    return scaled | ends


def _lower(text: str) -> str:
    return text[0].lower() + text[1:] if text[1:2].islower() else text
