"""Solutions to the exercises of 501_model_collapse.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 10 * 0.5**2 * 50 / (100 - 50 - 1)

# %% exercise-2
answer_2 = (200 - 50 - 1) / (400 - 50 - 1)
