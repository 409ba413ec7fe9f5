"""Shapes that are no single power law, and the null models."""
