"""What each possible next run would teach about a conclusion, against what it costs."""

from __future__ import annotations

import altair as alt

from workbench.analysis.next_runs import NextRuns
from workbench.figures.style import ACCENT, GREY, HEIGHT, INK, WIDTH, title
from workbench.units import axis_title, human

__all__ = ["next_runs"]


def next_runs(answer: NextRuns) -> alt.LayerChart:
    """Narrowing of the conclusion's interval (percent) against compute, one point a candidate, chosen ones numbered.

    Args:
        answer: what `analysis.next_runs` returned.
    """
    inputs = [c for c in answer.frame.columns if c.startswith("params") or c == "tokens"] or ["flops"]
    rows = answer.frame.assign(percent=100 * answer.frame["narrowing"])
    rows["what"] = ["chosen" if o else "candidate" for o in rows["order"]]
    rows["label"] = [
        f"×{t}" if t > 1 else str(o) if o else "" for o, t in zip(rows["order"], rows["times"], strict=True)
    ]
    rows["affordable"] = rows["flops"] <= answer.budget
    data = alt.InlineData(values=rows.to_dict(orient="records"))
    size = next((c for c in inputs if c.startswith("params")), None)
    base = alt.Chart(data).encode(
        x=alt.X("flops:Q", title=axis_title("flops"), scale=alt.Scale(type="log", nice=False, padding=12),
                axis=alt.Axis(format=".0e")),
        y=alt.Y("percent:Q", title="Narrowing of the interval by one run (%)"),
        tooltip=[
            *(alt.Tooltip(f"{c}:Q", format=".3s", title=axis_title(c)) for c in inputs),
            alt.Tooltip("flops:Q", format=".2e", title=axis_title("flops")),
            alt.Tooltip("percent:Q", format=".2f", title="narrowing (%)"),
            alt.Tooltip("extrapolation:Q", format=".2f", title="compute over the largest run's"),
        ],
    )  # fmt: skip
    candidates = base.transform_filter("datum.what == 'candidate'").mark_point(size=40, filled=True)
    if size is None:
        candidates = candidates.encode(color=alt.value(GREY))
    else:
        candidates = candidates.encode(
            color=alt.Color(f"{size}:Q", title=axis_title(size), scale=alt.Scale(type="log", scheme="viridis"),
                            legend=alt.Legend(format=".1s"))
        )  # fmt: skip
    candidates = candidates.encode(opacity=alt.condition("datum.affordable", alt.value(0.85), alt.value(0.2)))
    chosen = base.transform_filter("datum.what == 'chosen'")
    marked = chosen.mark_point(size=260, filled=True, color=ACCENT, shape="square", stroke=INK, opacity=1)
    # beside the mark: neither white nor black on it is contrast enough
    names = chosen.mark_text(color=INK, fontSize=12, fontWeight="bold", align="left", dx=12).encode(text="label:N")
    rows = answer.frame[answer.frame["order"] > 0].sort_values("order")
    picked = " then ".join(
        (f"{t} × " if t > 1 else "") + (", ".join(f"{c} {human(v)}" for c, v in zip(inputs, values, strict=True)))
        for t, values in zip(rows["times"], rows[inputs].to_numpy(float), strict=True)
    )
    heading = title(
        f"Next runs for {answer.question}",
        f"chosen: {picked}",
        f"faint: beyond the budget of {human(answer.budget)} FLOP",
    )
    return alt.layer(candidates, marked, names, title=heading, width=WIDTH, height=HEIGHT)
