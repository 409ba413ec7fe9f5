"""Solutions to the exercises of 303_trainability_boundary.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = np.log(1200 / 150) / np.log(4 / 1)

# %% exercise-2
answer_2 = 10 ** (1 / (2 - 1.5))

# %% exercise-3
answer_3 = 1 / np.mean(np.tanh(np.random.default_rng(0).standard_normal(16)) ** 2)
