"""Routing, precision and shape of the model."""
