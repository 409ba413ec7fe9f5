"""Memorize and generalize: when a model does which."""
