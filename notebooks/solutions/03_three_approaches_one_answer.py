"""Solutions to the exercises of 03_three_approaches_one_answer.ipynb: one block for each tagged cell."""

# %% exercise-1
fixed_list = study(noise=0, reach=3, guess=0, sizes=11)
answer_1 = workbench.isoflop(fixed_list, method="parabola").exponents().loc["params", "exponent"]

# %% exercise-2
everything = workbench.approaches(runs, at=budget).frame.set_index("approach")["params"]
cut = found.frame.set_index("approach")["params"]
answer_2 = 100 * (1 - everything["2 isoflop"] / cut["2 isoflop"])

# %% exercise-3
sizes = found.frame.set_index("approach")["params"][["1 envelope", "3 parametric"]].to_numpy()
predicted = found.fit.predict(pd.DataFrame({"params": sizes, "tokens": budget / (6 * sizes)}))["prediction"].to_numpy()
answer_3 = predicted[0] - predicted[1]
