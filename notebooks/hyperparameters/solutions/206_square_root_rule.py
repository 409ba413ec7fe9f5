"""Solutions to the exercises of 206_square_root_rule.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = square_root_rule(4, lr=0.001, beta1=0.9, beta2=0.999).beta1

# %% exercise-2
answer_2 = 1 / 16**0.5

# %% exercise-3
answer_3 = 16
