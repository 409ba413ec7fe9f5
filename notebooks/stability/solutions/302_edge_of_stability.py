"""Solutions to the exercises of 302_edge_of_stability.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 2 / 800

# %% exercise-2
answer_2 = 2 * (1 + 0.9) / 0.1

# %% exercise-3
import math

answer_3 = math.log(1000) / math.log(0.1 * 21 - 1)
