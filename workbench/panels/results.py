"""What a fit says in words and numbers, as HTML, everything escaped."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from workbench.fits.card import NOT_STATED, Card
from workbench.fits.result import Fit

__all__ = ["card_html", "parameters_html"]

_RIGHT = "text-align:right;padding-left:14px;font-variant-numeric:tabular-nums"
_LEFT = "text-align:left;padding:1px 12px 1px 0;vertical-align:top"


def parameters_html(fit: Fit, table: pd.DataFrame, resamples: int) -> str:
    """Estimates, intervals and warnings of `fit`.

    Args:
        fit: the fit.
        table: rows by symbol, as `Fit.table` gives them; what is not finite is drawn as a dash.
        resamples: of the bootstrap, for the caption.
    """
    meanings = {p.symbol: p.meaning for p in fit.law.parameters}
    rows = "".join(
        f"<tr><td><b>{escape(symbol)}</b> {escape(meanings[symbol])}</td>"
        + "".join(f"<td style='{_RIGHT}'>{_cell(row[column])}</td>" for column in ("estimate", "low", "high"))
        + f"<td style='padding-left:12px'>{escape(row['note'])}</td></tr>"
        for symbol, row in table.iterrows()
    )
    heads = "".join(f"<th style='{_RIGHT}'>{head}</th>" for head in ("estimate", "95 % from", "to"))
    caption = f"{fit.law.title}, {fit.n_runs} runs; bootstrap of {resamples} resamples"
    warnings = "".join(f"<li>⚠ {escape(w)}</li>" for w in fit.diagnostics.warnings)
    return (
        f"<div style='line-height:1.5;margin-left:16px;max-width:640px'>{escape(caption)}"
        "<table style='border-collapse:collapse'>"
        f"<tr><th style='text-align:left'>parameter</th>{heads}<th>note</th></tr>{rows}</table>"
        f"<ul style='margin:6px 0;padding-left:1.2em'>{warnings}</ul></div>"
    )


def card_html(card: Card) -> str:
    """A card: numbers first, then its sections, what nobody stated in italics."""
    heads = "".join(f"<th style='{_LEFT}'>{escape(str(c))}</th>" for c in ["", *card.parameters.columns])
    rows = "".join(
        f"<tr><td style='{_LEFT}'><b>{escape(str(symbol))}</b></td>"
        + "".join(f"<td style='{_LEFT}'>{escape(str(v))}</td>" for v in row)
        + "</tr>"
        for symbol, row in zip(card.parameters.index, card.parameters.to_numpy(), strict=True)
    )
    sections = "".join(
        f"<h4 style='margin:12px 0 2px'>{escape(name)}</h4><table>"
        + "".join(
            f"<tr><td style='{_LEFT};color:var(--jp-ui-font-color2,#667085);width:260px'>{escape(item)}</td>"
            f"<td style='{_LEFT}{';font-style:italic' if value == NOT_STATED else ''}'>{escape(value)}</td></tr>"
            for item, value in items
        )
        + "</table>"
        for name, items in card.sections.items()
    )
    warnings = "".join(f"<li>⚠ {escape(w)}</li>" for w in card.warnings)
    ask = ""
    if card.missing:
        ask = (
            "<h4 style='margin:12px 0 2px'>State what is missing once, and it is kept beside the runs</h4>"
            f"<pre>{escape(card.ask())}</pre>"
        )
    return (
        f"<div style='line-height:1.5;max-width:860px'><h3 style='margin:4px 0'>{escape(card.title)}</h3>"
        f"<table><tr>{heads}</tr>{rows}</table>"
        f"<ul style='margin:6px 0;padding-left:1.2em'>{warnings}</ul>{sections}{ask}</div>"
    )


def _cell(value: float) -> str:
    return f"{float(f'{value:.4g}'):g}" if np.isfinite(value) else "—"  # 12000, and not 1.2e+04
