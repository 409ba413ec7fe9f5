"""Small training runs, many at once: a `Probe` describes one run, a `Sweep` a set of them.

Describing costs nothing and needs no torch: `Probe` and `Sweep` are frozen, comparable, and round-trip
through JSON, and the hash of their content is their id. `workbench.probes.trainer` trains them, all
members of equal shape stacked in one model; torch is imported there and not before.
"""

from __future__ import annotations

from workbench.probes.spec import Probe
from workbench.probes.sweep import Sweep

__all__ = ["Probe", "Sweep"]
