"""Small-scale proxies: the contract, and the bound of QK-norm."""

import math

from workbench.phenomena import find
from workbench.phenomena.hyperparameters.small_proxies import HEAD_WIDTH
from workbench.testing.phenomena import PhenomenonContract


class TestSmallProxies(PhenomenonContract):
    phenomenon = find("small_proxies")

    def test_normed_queries_and_keys_keep_to_the_bound(self, experiments):
        for runs, _ in experiments.values():
            normed = runs.loc[runs["arm"] == "control", "logit"]
            assert len(normed) and normed.max() <= math.sqrt(HEAD_WIDTH) * (1 + 1e-4)
