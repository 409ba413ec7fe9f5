"""Verbs of a higher room offered as methods of a lower one, without importing upwards.

`fit.plot()` and `fit.panel()` read well, but `fit` may not import `figures` or `panels` (design,
section 3). A late method looks its function up at the first call, so the arrow of the imports holds
and `import workbench` stays fast.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

__all__ = ["late"]


def late(target: str, doc: str) -> Callable:
    """A method that calls ``package.module:function`` with the instance as first argument.

    Args:
        target: where the function lives, e.g. ``workbench.figures.curve:curve``.
        doc: the method's docstring.
    """
    module, _, name = target.partition(":")

    def method(self, *args, **kwargs):
        return getattr(importlib.import_module(module), name)(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = f"{doc}\n\nSee `{module}.{name}`, which takes the same arguments."
    return method
