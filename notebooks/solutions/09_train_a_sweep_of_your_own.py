"""Solutions to the exercises of 09_train_a_sweep_of_your_own.ipynb: one block for each tagged cell."""

# %% exercise-1
larger = Sweep.scale(base, params=[*sizes, 32e3], count="params", tokens=horizons, seed=[0, 1])
answer_1 = sum(p.flops for p in larger) / sum(p.flops for p in sweep)

# %% exercise-2
known = workbench.fit(runs, "chinchilla_tied", cluster="cell", fixed={"E": entropy})
answer_2 = known.params["alpha"]

# %% exercise-3
by_sgd = coordinate_check(base.replace(parametrization="standard", optimizer="sgd"), widths=[8, 16, 32, 64, 128])
grown = width_exponents(by_sgd).query("step == 4 and quantity == 'change' and activation == 'output'")
answer_3 = grown["exponent"].iloc[0]
