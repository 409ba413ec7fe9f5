"""Solutions to the exercises of 05_which_recipe_is_better_and_at_what_scale.ipynb: one block for each tagged cell."""

# %% exercise-1
two = workbench.replicates(runs.where(rungs(9, 9)), groups=["decay", "large batch"])
answer_1 = two.pairs["more_seeds"].iloc[0]

# %% exercise-2
answer_2 = crossing.probability(2.5e11, "run")

# %% exercise-3
pair_3 = {"by": "recipe", "groups": ["hot", "cold"], "where": rungs(4, 9), "x": "flops", "cluster": "rung"}
answer_3 = workbench.multiplier(runs, **pair_3, at_scale=[flops[8]]).frame["multiplier"].iloc[0]
