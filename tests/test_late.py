"""Late methods: found at the first call, not at import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workbench.late import late

ROOT = Path(__file__).parents[1]


class Thing:
    joined = late("os.path:join", "Join paths.")
    lost = late("workbench.no_such_module:nothing", "Nowhere.")

    def __fspath__(self) -> str:
        return "root"


def test_it_calls_the_function_with_the_instance_first():
    assert Thing().joined("leaf") == "root/leaf"
    assert Thing.joined.__name__ == "join"
    assert Thing.joined.__doc__.startswith("Join paths.") and "os.path.join" in Thing.joined.__doc__


def test_a_target_that_does_not_exist_fails_when_called_and_not_before():
    thing = Thing()
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        thing.lost()


def test_every_late_method_of_the_public_classes_leads_somewhere():
    import importlib
    import inspect

    import workbench

    found = 0
    for name in workbench.__all__:
        thing = getattr(workbench, name)
        for method in vars(thing).values() if inspect.isclass(thing) else ():
            doc = getattr(method, "__doc__", None) or ""
            if getattr(method, "__module__", "") == "workbench.late" and "See `" in doc:
                target = doc.partition("See `")[2].partition("`")[0]
                module, _, function = target.rpartition(".")
                assert callable(getattr(importlib.import_module(module), function))
                found += 1
    assert found >= 3  # Fit.plot, Fit.panel, Comparison.plot


def test_defining_one_imports_nothing():
    code = (
        "import sys; from workbench.late import late\n"
        "class T: plot = late('colorsys:rgb_to_hls', 'x')\n"
        "before = 'colorsys' in sys.modules\n"
        "try: T().plot()\nexcept TypeError: pass\n"
        "print(before, 'colorsys' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.split() == ["False", "True"], done.stderr
