"""Solutions to the exercises of 301_depth_signal.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = (9 * np.pi**2 / 2 / 1e-6) ** 0.5

# %% exercise-2
answer_2 = ((3 + 3 * 0.2**4) / 2) / ((1 + 0.2**2) / 2) ** 2 - 1

# %% exercise-3
answer_3 = (1.9 / 2) ** 100
