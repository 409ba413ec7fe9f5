"""The bigram language keeps the promises of every task."""

import math

import torch

from workbench.probes import Probe
from workbench.testing.tasks import TaskContract


class TestBigram(TaskContract):
    probe = Probe(vocab=16, context=32, width=8, batch_tokens=256, tokens=1024, evals=2)
    members = ({}, {"seed": 1}, {"seed": 2, "tau": 1.0, "s": 0.5, "language_seed": 3})
    refused = (({"tau": -1.0}, "tau"), ({"vocab": 1}, "vocab"), ({"batch_tokens": 250}, "batch_tokens"))
    learns, trivial = {"tokens": 2**16, "lr": 0.02}, math.log(16) - 0.3

    def optimal(self, data, probes):
        logp = torch.stack([torch.tensor(data.languages[k].log_transition) for k in data.chain]).float()
        members = torch.arange(len(probes))[:, None, None]
        return lambda x: logp[members, x], [data.languages[k].entropy for k in data.chain]
