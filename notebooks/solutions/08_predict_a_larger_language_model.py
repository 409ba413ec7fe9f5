"""Solutions to the exercises of 08_predict_a_larger_language_model.ipynb: one block for each tagged cell."""

# %% exercise-1
without = workbench.fit(runs, "chinchilla_tied", where=where, inputs={"N": "params_non_embedding"})
answer_1 = without.params["alpha"]

# %% exercise-2
answer_2 = everything["flops"].sum() / everything["flops_spent"].sum()

# %% exercise-3
answer_3 = error(fit, drawer.where("level == 4"))
