"""Solutions to the exercises of 02_how_to_fit_a_scaling_law_and_not_fool_yourself.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 100 * decision.summary(below=100)["share_below"]

# %% exercise-2
answer_2 = by_hand(start, factor=1e6).x[3]

# %% exercise-3
answer_3 = fit.influence("tokens_per_param", by="steps").groups["without"].max()
