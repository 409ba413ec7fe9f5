"""Solutions to the exercises of 503_verifier_resampling.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 0.3 * (1 / 0.9 - 1) / (1 - 0.3)

# %% exercise-2
answer_2 = best_samples(1.6, 0.4, 0.1, cost=2)[0]

# %% exercise-3
answer_3 = coverage_weight(0.05, 64)
