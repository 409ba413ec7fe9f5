"""Scaling laws: a folder a family, one law or a few siblings a file. A new file is a new law; no other changes."""

from workbench.laws.base import FAMILIES, Input, Law, Parameter, get, names

__all__ = ["FAMILIES", "Input", "Law", "Parameter", "get", "names"]
