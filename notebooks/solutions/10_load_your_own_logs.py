"""Solutions to the exercises of 10_load_your_own_logs.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = sum(len(curve) >= 20 for curve in workbench.load(logs).curves.values())

# %% exercise-2
answer_2 = 100 * (1 - 30000 / 33024)

# %% exercise-3
answer_3 = float(fit.predict(params=1e5, tokens=1e7)["prediction"].iloc[0])
