"""The contract of readers, for formats whose every cut takes too long to load."""

from __future__ import annotations

import workbench
from workbench.runs.readers.base import LoadError
from workbench.testing.readers import ReaderContract

__all__ = ["Sparse"]


class Sparse(ReaderContract):
    """Loads three runs for one cut in `every`; decoders are cut at each byte by tests of their own."""

    mutations, every = 60, 11

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        path = self.make(tmp_path)
        for file in self.files(path):
            whole = file.read_bytes()
            for cut in range(0, len(whole), self.every):
                file.write_bytes(whole[:cut])
                try:
                    self.check_no_invention(workbench.load(path), f"{file.name} cut at byte {cut}")
                except LoadError:
                    continue
