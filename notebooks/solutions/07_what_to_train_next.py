"""Solutions to the exercises of 07_what_to_train_next.ipynb: one block for each tagged cell."""

# %% exercise-1
affordable = answer.frame[answer.frame["flops"] <= budget]
answer_1 = 100 * affordable["narrowing"].max()

# %% exercise-2
for_exponent = workbench.next_runs(fit, "exponent", flops=far, budget=budget, n=3, candidates=candidates)
second = for_exponent.chosen.iloc[1]
answer_2 = second["tokens"] / second["params"]

# %% exercise-3
answer_3 = spent["params"].iloc[0] / spent["params"].iloc[1]
