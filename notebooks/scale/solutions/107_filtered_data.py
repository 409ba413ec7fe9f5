"""Solutions to the exercises of 107_filtered_data.ipynb: one block for each tagged cell."""

# %% exercise-1
worth_in_passes = [fresh_worth(settled_loss(n, 1000), 1000) / n for n in (50, 200)]
answer_1 = worth_in_passes[1] / worth_in_passes[0]

# %% exercise-2
answer_2 = settled_loss(60 * (1 + 0.7 + 0.5 + 0.35), 256) / settled_loss(60, 256)

# %% exercise-3
from scipy.optimize import brentq

answer_3 = brentq(lambda D: effective(D, 10, 15.4) - 0.6 * effective(D, 40, 15.4), 11, 1000) / 10
