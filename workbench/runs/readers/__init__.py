"""Readers of run logs, one format a file; each registers itself by being a `Reader` with a `name`."""
