"""Solutions to the exercises of 01_from_runs_to_a_scaling_law.ipynb: one block for each tagged cell."""

# %% exercise-1
known = workbench.fit(runs, "chinchilla", where=where, fixed={"E": entropy})
answer_1 = known.params["alpha"]

# %% exercise-2
top = runs.where("width == 128 and tokens > 3e7")
answer_2 = abs(top["loss"].mean() - everything.predict(top)["prediction"].mean())

# %% exercise-3
small, large = fit.plan([6.8e13, 6.8e15]).frame["tokens"]
answer_3 = large / small
