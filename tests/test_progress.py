"""Progress: a bar for who watches, two lines for a log file."""

from __future__ import annotations

import io

import pytest

from workbench import progress
from workbench.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and knows what its current line shows."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines as a terminal shows them: a carriage return goes back to the line's beginning."""
        shown = []
        for line in self.getvalue().split("\n"):
            cells: list[str] = []
            for piece in line.split("\r"):
                cells[: len(piece)] = piece
            shown.append("".join(cells))
        return shown


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_a_log_file_gets_the_first_and_the_last_line(clock):
    log = io.StringIO()
    with Progress("Fitting", log) as bar:
        for step in range(1000):
            clock(0.25)
            bar(step / 999, "note")
    assert log.getvalue() == "Fitting …\nFitting: done in 4 min 10 s\n"


def test_a_log_file_hears_that_work_was_stopped(clock):
    log = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress("Fitting", log) as bar:
        clock(3.0)
        bar(0.5)
        raise KeyboardInterrupt
    assert log.getvalue().splitlines() == ["Fitting …", "Fitting: stopped in 3.0 s"]


def test_a_terminal_sees_one_line_with_the_time_left(clock):
    terminal = Terminal()
    with Progress("Fitting", terminal) as bar:
        clock(10)
        bar(0.25, "a note")
        (line,) = terminal.screen()
        assert "25%" in line and "30 s left" in line and line.rstrip().endswith("a note")  # 10 s for a quarter
        filled, empty = line.count("█"), line.count("·")
        assert filled / (filled + empty) == pytest.approx(0.25, abs=0.02)
        clock(10)
        bar(0.5)
        (line,) = terminal.screen()
        assert "50%" in line and "20 s left" in line
        assert "note" not in line, "leftovers of the longer line before"
    assert terminal.screen()[0].rstrip() == "Fitting: done in 20 s" and terminal.screen()[1] == ""


def test_redraws_are_ten_a_second_and_the_end_is_always_shown(clock):
    terminal = Terminal()
    with Progress("Fitting", terminal) as bar:
        before = terminal.getvalue().count("\r")
        for step in range(1, 1001):
            clock(0.001)
            bar(step / 1000)
        drawn = terminal.getvalue().count("\r") - before
        assert 9 <= drawn <= 12
        assert "100%" in terminal.screen()[0] and "left" not in terminal.screen()[0]


@pytest.mark.parametrize("fraction", [-1.0, 0.0, 1e-9, 1.5])
def test_odd_fractions_do_no_harm(clock, fraction):
    terminal = Terminal()
    with Progress("Fitting", terminal) as bar:
        clock(1)
        bar(fraction)
        (line,) = terminal.screen()
        assert line.count("█") + line.count("·") == progress.WIDTH


def test_the_default_is_standard_error(capsys):
    with Progress("Fitting"):
        pass
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Fitting …\n")
