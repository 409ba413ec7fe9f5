"""Hyperparameters: how the best setting moves with scale."""
