"""torch, imported at its first use: parts of a probe can be described and listed without waiting for it.

Use it as ``from workbench.probes import late_torch as torch`` in files that also hold settings. Being a
real module with real attributes after the first use, it costs nothing later and torch.compile sees through it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # questions of the import system, not of a user
        raise AttributeError(name)
    import torch

    value = globals()[name] = getattr(torch, name)
    return value
