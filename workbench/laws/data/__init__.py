"""Loss in how much data there is and how good it is: repetition, quality, synthetic data, pruning."""
