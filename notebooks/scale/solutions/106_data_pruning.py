"""Solutions to the exercises of 106_data_pruning.ipynb: one block for each tagged cell."""

# %% exercise-1
from scipy.optimize import brentq

answer_1 = brentq(lambda n: pruned_error(n) - 0.01, 10, 100)

# %% exercise-2
answer_2 = brentq(lambda n: pruned_error(n, 1 / 4) - 0.01, 4, 50)

# %% exercise-3
answer_3 = brentq(lambda n: pruned_error(n, 1 / 4, "easy") - pruned_error(n, 1 / 4, "hard"), 1.5, 4)
