"""Measurements of a stack in training, on request: one a file."""
