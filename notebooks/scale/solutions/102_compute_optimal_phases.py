"""Solutions to the exercises of 102_compute_optimal_phases.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = 1000 ** exponents(1.0, 0.7)[1]

# %% exercise-2
answer_2 = next(b / 100 for b in range(50, 150) if exponents(0.7, b / 100)[0] >= exponents(0.7, 1.5)[0] - 1e-9)

# %% exercise-3
lines = [pair for name, pair in terms(0.7, 1.2).items() if name != "noise"]
answer_3 = max(min(p * (1 - x / 10**5) + q * x / 10**5 for p, q in lines) for x in range(10**5 + 1))
