"""Solutions to the exercises of 404_neural_collapse.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 100 / (1000**2 * 0.01)

# %% exercise-2
decay_features = 0.5 / 500
answer_2 = decay_features / 0.2**2

# %% exercise-3
answer_3 = 10**2 / 10
