"""Solutions to the exercises of 201_learning_rate_transfer.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 0.004 * 256 / 4096

# %% exercise-2
answer_2 = 0.004 / (4096 / 256)

# %% exercise-3
wide = runs[(runs["part"] == "width") & (runs["arm"] == "control") & (runs["width"] == 96)]
answer_3 = wide.groupby("lr")["loss"].mean().idxmin()
