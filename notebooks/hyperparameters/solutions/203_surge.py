"""Solutions to the exercises of 203_surge.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 2500 / (26 - 2)

# %% exercise-2
answer_2 = 1 / (101 - 1)

# %% exercise-3
a, b = 1 + 25 * 0.25, 25 * (1 - 0.25)
answer_3 = 26 / (2 * (a * b) ** 0.5)
