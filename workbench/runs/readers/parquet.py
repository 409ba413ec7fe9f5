"""Parquet files, recognised by their magic bytes; pyarrow is imported at the first one."""

from __future__ import annotations

from pathlib import Path

from workbench.runs.readers.base import LoadError, Log, Reader

__all__ = ["Parquet"]


class Parquet(Reader):
    """A Parquet table; fields of nested columns become columns joined by dots."""

    name = "Parquet"
    general = True
    suffixes = (".parquet", ".pq")
    largest = None

    def sniff(self, path: Path, head: bytes) -> bool:
        return head.startswith(b"PAR1")

    def read(self, path: Path) -> Log:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with path.open("rb") as file:
                table = pq.ParquetFile(file).read()
            while any(pa.types.is_struct(kind) for kind in table.schema.types):
                table = table.flatten()
            frame = table.to_pandas()
        except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise LoadError(f"it is not a whole Parquet file ({reason})") from None
        return Log(frame)
