"""Solutions to the exercises of 108_intrinsic_dimension.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 2**4

# %% exercise-2
answer_2 = 3**3

# %% exercise-3
answer_3 = round(two_nearest_neighbours(points))
