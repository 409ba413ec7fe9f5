"""Gradient transforms: what is done to the gradient before the optimizer sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.probes.optimizers.base import Rule

if TYPE_CHECKING:
    from workbench.probes.optimizers.stack import Context

__all__ = ["build_transform"]


def build_transform(context: Context) -> Rule | None:
    """The transform that the probes of a stack name; None for ``none``."""
    name = context.probes[0].transform
    if name == "none":
        return None
    raise ValueError(f"transform={name!r} is not there yet")
