"""Solutions to the exercises of 401_grokking.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = np.log(10) / 0.01

# %% exercise-2
answer_2 = np.log(22 * 2**24)

# %% exercise-3
answer_3 = np.log(0.5) / np.log(1 - 0.03 * 0.25)
