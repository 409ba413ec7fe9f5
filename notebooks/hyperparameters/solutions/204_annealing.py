"""Solutions to the exercises of 204_annealing.ipynb: one block for each tagged cell."""

# %% exercise-1
ends = runs[(runs["arm"] == "effect") & (runs["schedule"] == "linear") & (runs["step"] == runs["step"].max())]
answer_1 = 100 * (ends["predicted"] / ends["loss"] - 1).mean()

# %% exercise-2
eta, batch, noise = 0.1, 4, 0.5
answer_2 = eta * noise**2 / batch / (2 - eta * (1 + 2 / batch))

# %% exercise-3
answer_3 = known["late decay"].rates.sum() / known["constant"].rates.sum()
