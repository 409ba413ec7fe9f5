"""Optimizers on the flat weights [E, P] of a stack, and learning-rate schedules."""
