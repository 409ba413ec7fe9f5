"""Solutions to the exercises of 502_emergence.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 1e9 * (4 * 0.533 / 0.6931472) ** (1 / 0.3)

# %% exercise-2
answer_2 = 2 / 2e-4

# %% exercise-3
answer_3 = next(width for width in range(8, 65) if cue_accuracy(width, 0.8)[1] >= 0.5)
