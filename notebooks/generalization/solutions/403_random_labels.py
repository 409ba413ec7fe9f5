"""Solutions to the exercises of 403_random_labels.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 1 - 1 / 10

# %% exercise-2
answer_2 = 20 * 16 + 16 + 16 * 10

# %% exercise-3
bits = 3.3219281  # log2(10)
answer_3 = 150 * bits / 496
