"""Solutions to the exercises of 205_small_proxies.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 30 * (0.5 * 1024 / 256) ** 2

# %% exercise-2
answer_2 = 128 / 128**0.5

# %% exercise-3
answer_3 = 64 / 512 / 16
