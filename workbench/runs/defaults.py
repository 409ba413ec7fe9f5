"""Settings that a run folder does not spell out, because they stand at their default, where other runs vary them.

A probe writes a field younger than its schema only where it differs from the default, so that ids stay what
they were. Loaded beside runs that do differ, such a run would show nothing where its value is known.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from workbench.runs.counted import attach
from workbench.runs.readers.base import LoadError
from workbench.runs.sources import Source
from workbench.runs.store import RunFolder

__all__ = ["complete"]


def complete(sources: Sequence[Source]) -> None:
    """Write into each log what it does not spell out: what follows from its configuration, and probes' defaults.

    Of probes' run folders, settings that another of them states; folders of other programs, and settings that a
    probe's task, model or optimizer does not have, stay as they are.
    """
    for source in sources:
        if source.log is not None:
            attach(source.log)
    _probes(sources)


def _probes(sources: Sequence[Source]) -> None:
    single = [s for s in sources if s.log is not None and s.log.single]
    logs = {s.path: s.log for s in single if (Path(s.path) / "spec.json").exists()}
    named = dict.fromkeys(header for log in logs.values() for header in log.frame.columns)
    lacking = {path: [n for n in named if n not in log.frame.columns] for path, log in logs.items()}
    if not any(lacking.values()):
        return
    specs = {}
    for path in logs:
        try:
            specs[path] = RunFolder(Path(path)).spec
        except LoadError:
            continue
    stated = {name for spec in specs.values() if "task" in spec and "model" in spec for name in spec}
    for path, spec in specs.items():
        missing = [name for name in lacking[path] if name in stated]
        if missing and "task" in spec and "model" in spec:
            values = _settings(spec)
            for name in missing:
                if isinstance(values.get(name), bool | int | float | str):
                    logs[path].frame[name] = [values[name]]


def _settings(spec: dict) -> dict:
    """All settings of the probe of this spec, defaults included; empty if it is none."""
    probe = importlib.import_module("workbench.probes.spec").Probe  # a higher room, looked up at the first need
    try:
        return vars(probe.from_dict(spec))
    except (TypeError, ValueError):
        return {}
