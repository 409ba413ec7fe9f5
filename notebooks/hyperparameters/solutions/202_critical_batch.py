"""Solutions to the exercises of 202_critical_batch.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 1.2 * (256 + 2235) - 2235

# %% exercise-2
tau = (1.8 + 0.6 - 1) / 1.8
answer_2 = 100 ** (tau / (1 + tau))

# %% exercise-3
fewer = sizes.iloc[:-1]
answer_3 = np.polyfit(np.log(fewer.index), np.log(fewer["noise"] / fewer["overhead"]), 1)[0]
