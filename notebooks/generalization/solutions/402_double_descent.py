"""Solutions to the exercises of 402_double_descent.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = expected_error(*spectrum(400), 90, 100, 0, 0.2) / expected_error(*spectrum(400), 50, 100, 0, 0.2)

# %% exercise-2
tuned = [expected_error(*spectrum(400), n, 100, best_ridge(*spectrum(400), n, 100, 0.2), 0.2) for n in (50, 90)]
answer_2 = tuned[1] / tuned[0]

# %% exercise-3
answer_3 = 1 + 80 / (100 - 80 - 1)
