"""Questions asked of runs and fits: which approach, which point, which choice, which recipe, at what scale."""
