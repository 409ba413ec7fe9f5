"""Solutions to the exercises of 105_trainable_count.ipynb: one block for each tagged cell."""

# %% exercise-1
first, other, output = 6 * 44 + 44, 44 * 44 + 44, 44
answer_1 = (first + output) / (first + 2 * other + output)

# %% exercise-2
answer_2 = 10**0.1

# %% exercise-3
answer_3 = (10**0.1) ** (1 / 0.5)
