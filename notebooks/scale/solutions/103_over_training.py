"""Solutions to the exercises of 103_over_training.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = loss(1e21, 640) - loss(1e21, 20)

# %% exercise-2
answer_2 = (b / a) ** (1 / (2 * eta))

# %% exercise-3
answer_3 = error_of(0.1)
