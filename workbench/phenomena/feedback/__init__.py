"""Feedback and tasks: models that learn from models, and what is measured of them."""
