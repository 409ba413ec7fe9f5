"""Launching probes: from a sweep to run folders on disk."""
