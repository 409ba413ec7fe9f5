"""Solutions to the exercises of 104_crossover.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = moved_by(10.0, 0.35, 0.65)

# %% exercise-2
answer_2 = (900 / 40) ** (1 / (0.45 - 0.30))

# %% exercise-3
answer_3 = 10 ** ((0.65 - 0.35) / 0.65)
