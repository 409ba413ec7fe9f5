"""Notebooks under pytest: nbval's comparison, and in the same kernel the pictures and the solutions of the exercises.

A notebook of a theme folder is in the long part (``pytest -m long``); ``pytest -m '' notebooks`` runs them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from workbench import notebooks


class Pictures(pytest.Item):
    """The pictures of all cells, after they have run, as far as eyes can tell: nbval leaves them out."""

    def runtest(self) -> None:
        for cell in self.cells:
            new, old = (
                [output["data"]["image/png"] for output in outputs or () if "image/png" in output.get("data", {})]
                for outputs in (cell.test_outputs, cell.cell.outputs)
            )
            pairs = zip(new, old, strict=False)
            same = len(new) == len(old) and all(notebooks.same_picture(*pair, cell.cell) for pair in pairs)
            refresh = f"workbench notebooks refresh {self.path.name}"
            assert same, f"cell {cell.cell_num}: another picture than before; if it should be, run: {refresh}"

    def repr_failure(self, excinfo, style=None) -> str:
        return str(excinfo.value) if excinfo.errisinstance(AssertionError) else super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, 0, f"{self.path.name}::{self.name}"


class LessonCell(IPyNbCell):
    """A cell whose outputs come out as they are, but for what nobody can see (`notebooks.settle`)."""

    def compare_outputs(self, test, ref, skip_compare=None):
        if len(test) == len(ref):
            test = deepcopy(test)
            for new, old in zip(test, ref, strict=True):
                notebooks.settle(new, old, self.cell)
        return super().compare_outputs(test, ref, skip_compare)


class SolutionCell(IPyNbCell):
    """An exercise with its solution in the place of ``None``, after all cells have run: its check must say right."""

    def runtest(self) -> None:
        super().runtest()
        told = "".join(output.get("text", "") for output in self.test_outputs).strip()
        if not told.endswith(": right."):
            self.raise_cell_error(f"the solution is not called right: {told}")


class LessonFile(IPyNbFile):
    """A notebook's cells, then their pictures, then its exercises with their solutions.

    A panel that watches something grow replaces its picture while later cells run, as a front end does and nbval does
    not. So outputs are kept up to date, and pictures are compared when all cells have run.
    """

    def collect(self) -> Iterator[pytest.Item]:
        self.shown: dict[str, NotebookNode] = {}
        answers = notebooks.solutions(self.path)
        cells = [
            LessonCell.from_parent(self, name=c.name, cell_num=c.cell_num, cell=c.cell, options=c.options)
            for c in super().collect()
        ]
        pictures = Pictures.from_parent(self, name="Pictures")
        pictures.cells = cells
        yield from map(self.marked, [*cells, pictures])
        for item in cells:
            for tag in set(item.cell.metadata.get("tags", [])) & set(answers):
                cell, options = deepcopy(item.cell), item.options.copy()
                options["check"] = False
                # The student's line is the one that sets the answer to None; the check stays as it is.
                unsolved = re.compile(r"^answer_\w+ = None$", re.MULTILINE)
                cell.source = unsolved.sub(lambda _, tag=tag: answers[tag], cell.source)
                own = {"cell_num": item.cell_num, "options": options}
                yield self.marked(SolutionCell.from_parent(self, name=f"Solution of {tag}", cell=cell, **own))

    def get_kernel_message(self, timeout=None, stream="iopub"):
        message = super().get_kernel_message(timeout, stream)
        content = message["content"]
        name = content.get("transient", {}).get("display_id")
        if message["msg_type"] == "display_data" and name:
            self.shown[name] = content["data"] = NotebookNode(content["data"])
        if message["msg_type"] == "update_display_data" and name in self.shown:
            self.shown[name].update(content["data"])
        return message

    def marked(self, item: pytest.Item) -> pytest.Item:
        if self.path.parent.name != "notebooks":
            item.add_marker(pytest.mark.long)
        return item


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """A lesson wherever nbval sees a notebook."""
    found = yield
    return [LessonFile.from_parent(parent, path=file_path) if type(one) is IPyNbFile else one for one in found]
