"""Solutions to the exercises of 101_known_entropy.ipynb: one block for each tagged cell."""

# %% exercise-1
answer_1 = BigramLanguage(64, 3.0, 1.0, 0).entropy

# %% exercise-2
one = BigramLanguage(64, 1.5, 1.0, 0)
answer_2 = one.unigram_entropy - one.entropy

# %% exercise-3
answer_3 = 100 ** (0.8 / (1.2 + 0.8))
