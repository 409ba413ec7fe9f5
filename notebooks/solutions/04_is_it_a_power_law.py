"""Solutions to the exercises of 04_is_it_a_power_law.ipynb: one block for each tagged cell."""

# %% exercise-1
# alpha (L - E) / L is half of alpha where L = 2 E, so where A (x / 1e8)^-alpha = E.
answer_1 = 1e8 * (2.5 / 1.5) ** (1 / 0.19)

# %% exercise-2
answer_2 = np.log2(measured[-2] / measured[-1])

# %% exercise-3
criterion, _ = study(truths["stretched exponential"], 1.5, 0.003, runs=80)
answer_3 = (criterion.idxmin(axis=1) == "stretched exponential").mean()
