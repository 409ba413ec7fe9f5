"""Solutions to the exercises of 304_residual_depth.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = (1 + 64 ** (-1 / 2)) ** 64

# %% exercise-2
answer_2 = 2 * (math.exp(1 / 64) - 1)

# %% exercise-3
answer_3 = 64 ** (-1 / 4)
