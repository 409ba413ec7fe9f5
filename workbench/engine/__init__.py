"""The numerical engine: dual numbers, objectives, one batched solver, the search for the best optimum."""
