"""Solutions to the exercises of notebook 02, how to fit a scaling law: one block for each tagged cell."""

# %% exercise-1
answer_1 = 100 * decision.summary(below=100)["share_below"]

# %% exercise-2
stopped, _, least = (averaged(o.x)[0] for o in found.values())
answer_2 = stopped / least

# %% exercise-3
answer_3 = fit.influence("tokens_per_param", by="steps").groups["without"].max()
