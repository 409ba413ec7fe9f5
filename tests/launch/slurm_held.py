"""Python as `SlurmQueue` starts it, but training waits in its middle as long as a file is there.

So a test that interrupts training does not depend on how fast the machine is. ``slurm_held.py FILE -u -m
module argument...`` is ``python -u -m module argument...`` with that one change.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

from workbench.launch.slurm_task import Stack

#: Slices of training before the wait; the first ones have one, two, four, ... steps.
SLICES = 6


def main() -> None:
    hold, at = Path(sys.argv[1]), sys.argv.index("-m")
    asked, should_stop = 0, Stack._should_stop

    def held(stack: Stack) -> bool:
        nonlocal asked
        asked += 1
        while not (stop := should_stop(stack)) and asked > SLICES and hold.exists():
            time.sleep(0.02)
        return stop

    Stack._should_stop = held
    module = sys.argv[at + 1]
    sys.argv = sys.argv[at + 1 :]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


main()
