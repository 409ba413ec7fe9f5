"""Whole loss curves from the learning-rate schedule."""
