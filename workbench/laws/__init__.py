"""Scaling laws: one law or one family a file. A new file here is a new law; nothing else is edited."""

from workbench.laws.base import Input, Law, Parameter, get, names

__all__ = ["Input", "Law", "Parameter", "get", "names"]
