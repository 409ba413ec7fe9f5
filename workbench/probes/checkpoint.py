"""`Checkpoint`: one member of a stack in the middle of training, on disk as one safetensors file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.runs.strict_json import dumps, loads

if TYPE_CHECKING:
    import torch

__all__ = ["SCHEMA", "Checkpoint"]

SCHEMA = 1
_FILE = "state.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Attributes:
        step: optimizer steps done.
        records: its records so far.
        tensors: weights and optimizer state by name, one member's rows (CPU).
        values: what else is needed, JSON: id, diverged, loss_count, seconds.
    """

    step: int
    records: tuple[dict[str, Any], ...]
    tensors: dict[str, torch.Tensor] = field(repr=False, compare=False)
    values: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: str | os.PathLike) -> None:
        """Replace the checkpoint in `folder` (made if absent): the file is there whole or the old one stays.

        Raises:
            OSError: it cannot be written, as on a full disk.
        """
        from safetensors.torch import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        header = {"schema": SCHEMA, "step": self.step, "records": list(self.records), "values": self.values}
        data = save({k: v.contiguous() for k, v in self.tensors.items()}, {"workbench": dumps(header)})
        temporary = folder / f".{_FILE}.{os.getpid()}.tmp"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / _FILE)
        finally:
            temporary.unlink(missing_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Checkpoint | None:
        """The checkpoint in `folder`, or None if there is none.

        Raises:
            ValueError: the file is damaged or of another schema.
        """
        file = Path(folder) / _FILE
        if not file.exists():
            return None
        from safetensors import safe_open

        try:
            with safe_open(file, framework="pt") as opened:
                header = loads((opened.metadata() or {}).get("workbench", "null"))
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises its own type, which promises no base class
            raise ValueError(f"{file} is damaged ({error}); delete it and the run starts afresh.") from None
        if not isinstance(header, dict) or header.get("schema") != SCHEMA:
            raise ValueError(f"{file} is no checkpoint of schema {SCHEMA}; delete it and the run starts afresh.")
        return cls(header["step"], tuple(header["records"]), tensors, header["values"])
