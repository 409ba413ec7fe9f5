"""Solutions to the exercises of 207_sharpness_transfer.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 0.06 / (4096 / 128)

# %% exercise-2
answer_2 = 0.3 * 64

# %% exercise-3
late = runs[(runs["part"] == "sharpness") & (runs["arm"] == "control") & (runs["step"] == 512)]
means = late.groupby("width")["edge"].mean()
answer_3 = means[16] / means[128]
