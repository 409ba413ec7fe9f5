"""The parameters of a fit as a small table, everything escaped."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from workbench.fits.result import Fit

__all__ = ["parameters_html"]

_RIGHT = "text-align:right;padding-left:14px;font-variant-numeric:tabular-nums"


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
        f"<table style='border-collapse:collapse'><tr><th></th>{heads}<th></th></tr>{rows}</table>"
        f"<ul style='margin:6px 0;padding-left:1.2em'>{warnings}</ul></div>"
    )


def _cell(value: float) -> str:
    return f"{float(f'{value:.4g}'):g}" if np.isfinite(value) else "—"  # 12000, and not 1.2e+04
