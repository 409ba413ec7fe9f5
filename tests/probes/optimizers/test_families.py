"""Every optimizer through the contract; the references are torch.optim's own or written out in float64."""

import math

import torch

from workbench.testing.optimizers import OptimizerContract, torch_steps


class TestSGD(OptimizerContract):
    optimizer, good_lr = "sgd", 0.1

    def reference(self, probe, weights):
        return torch_steps(torch.optim.SGD, weights, lr=probe.lr, weight_decay=probe.weight_decay)


class TestMomentum(OptimizerContract):
    optimizer, good_lr = "momentum", 0.02
    members = ({}, {"momentum": 0.5}, {"momentum": 0.0}, {"momentum": 0.99})

    def reference(self, probe, weights):
        return torch_steps(
            torch.optim.SGD, weights, lr=probe.lr, weight_decay=probe.weight_decay, momentum=probe.momentum
        )


class TestNesterov(OptimizerContract):
    optimizer, good_lr = "nesterov", 0.02
    members = ({}, {"momentum": 0.5}, {"momentum": 0.1}, {"momentum": 0.99})

    def reference(self, probe, weights):
        return torch_steps(
            torch.optim.SGD, weights, lr=probe.lr, weight_decay=probe.weight_decay, momentum=probe.momentum,
            nesterov=True,
        )  # fmt: skip


ADAMS = ({}, {"beta1": 0.8}, {"beta2": 0.9}, {"eps": 1e-4})


class TestAdamW(OptimizerContract):
    optimizer, members = "adamw", ADAMS

    def reference(self, probe, weights):
        return adams(torch.optim.AdamW, probe, weights)


class TestAdam(OptimizerContract):
    optimizer, members = "adam", ADAMS

    def reference(self, probe, weights):
        return adams(torch.optim.Adam, probe, weights)


class TestAMSGrad(OptimizerContract):
    optimizer, members = "amsgrad", ADAMS

    def reference(self, probe, weights):
        return adams(torch.optim.AdamW, probe, weights, amsgrad=True)


def adams(kind, probe, weights, **more):
    return torch_steps(
        kind, weights, lr=probe.lr, betas=(probe.beta1, probe.beta2), eps=probe.eps, weight_decay=probe.weight_decay,
        **more,
    )  # fmt: skip


class TestAdafactor(OptimizerContract):
    optimizer = "adafactor"
    # torch caps lr at 1 / sqrt(t), which 0.01 never reaches
    settings = {"lr": 0.01, "weight_decay": 0.3, "relative": True}
    members = ({}, {"beta1": 0.9}, {"update_clip": 0.5}, {"decay_power": 0.5})

    def reference(self, probe, weights):
        return torch_steps(torch.optim.Adafactor, weights, lr=probe.lr, weight_decay=probe.weight_decay)


class TestLion(OptimizerContract):
    optimizer, good_lr = "lion", 0.01
    members = ({}, {"beta1": 0.8}, {"beta2": 0.9}, {"beta1": 0.95})

    def reference(self, probe, weights):
        averages = {name: torch.zeros_like(w) for name, w in weights.items()}

        def step(grads):
            for name, w in weights.items():
                m, g = averages[name], grads[name]
                sign = (probe.beta1 * m + (1 - probe.beta1) * g).sign()
                w -= probe.lr * (sign + probe.weight_decay * w)
                averages[name] = probe.beta2 * m + (1 - probe.beta2) * g

        return step


def corrected(probe, state, grads, t):
    """Adam's corrected averages, by name."""
    found = {}
    for name, g in grads.items():
        m, v = state.get(name, (torch.zeros_like(g), torch.zeros_like(g)))
        m, v = probe.beta1 * m + (1 - probe.beta1) * g, probe.beta2 * v + (1 - probe.beta2) * g**2
        state[name] = m, v
        found[name] = m / (1 - probe.beta1**t), v / (1 - probe.beta2**t)
    return found


class TestAdamAtan2(OptimizerContract):
    optimizer = "adam_atan2"
    settings = {"lr": 0.01, "weight_decay": 0.3, "atan_gain": 1.1, "atan_scale": 0.7}
    members = ({}, {"beta1": 0.8}, {"atan_scale": 2.0}, {"atan_gain": 1.0})

    def reference(self, probe, weights):
        state, count = {}, [0]

        def step(grads):
            count[0] += 1
            for name, (m, v) in corrected(probe, state, grads, count[0]).items():
                w = weights[name]
                update = probe.atan_gain * torch.atan2(m, probe.atan_scale * v.sqrt())
                w -= probe.lr * (update + probe.weight_decay * w)

        return step


class TestAdEMAMix(OptimizerContract):
    optimizer = "ademamix"
    settings = {"lr": 0.01, "weight_decay": 0.3, "slow_beta": 0.99, "slow_gain": 4.0, "slow_warmup": 0.5}
    members = ({}, {"slow_beta": 0.99}, {"slow_gain": 1.0}, {"slow_warmup": 0.0})
    good_lr = 0.01

    def reference(self, probe, weights):
        state, slow, count = {}, {name: torch.zeros_like(w) for name, w in weights.items()}, [0]

        def half_life(beta):
            return math.log(0.5) / math.log(beta)

        def step(grads):
            count[0] += 1
            share = min(1.0, count[0] / 10)  # half of 20 steps
            life = (1 - share) * half_life(probe.beta1) + share * half_life(probe.slow_beta)
            beta3, gain = math.exp(math.log(0.5) / life), share * probe.slow_gain
            for name, (m, v) in corrected(probe, state, grads, count[0]).items():
                w = weights[name]
                slow[name] = beta3 * slow[name] + (1 - beta3) * grads[name]
                update = (m + gain * slow[name]) / (v.sqrt() + probe.eps)
                w -= probe.lr * (update + probe.weight_decay * w)

        return step


class TestAdamP(OptimizerContract):
    optimizer = "adamp"
    members = ({}, {"radial_limit": 2.0}, {"radial_limit": 0.0}, {"radial_decay": 0.5})

    def reference(self, probe, weights):
        state, count = {}, [0]
        self.seen = set()

        def project(w, g, p):
            columns = w.reshape(-1, w.shape[-1]), g.reshape(-1, w.shape[-1]), p.reshape(-1, w.shape[-1])
            for kind in ("columns", "whole"):
                a, b, q = columns if kind == "columns" else (x.reshape(-1, 1) for x in columns)
                cosine = torch.nn.functional.cosine_similarity(a, b, dim=0).abs()
                if cosine.max() < probe.radial_limit / math.sqrt(len(a)):
                    unit = a / a.norm(dim=0)
                    self.seen.add(kind)
                    return (q - unit * (unit * q).sum(0)).reshape(w.shape), probe.radial_decay
            self.seen.add("none")
            return p, 1.0

        def step(grads):
            count[0] += 1
            for name, (m, v) in corrected(probe, state, grads, count[0]).items():
                w, share = weights[name], 1.0
                update = m / (v.sqrt() + probe.eps)
                if w.dim() > 1:
                    update, share = project(w, grads[name], update)
                w *= 1 - probe.lr * probe.weight_decay * share
                w -= probe.lr * update

        return step

    def test_it_agrees_with_an_independent_reference(self):
        for limit, expected in ((0.0, {"none"}), (1.2, {"none", "whole"}), (6.0, {"columns"})):
            self.agree(**{**self.settings, "radial_limit": limit})
            assert self.seen >= expected


class TestMuon(OptimizerContract):
    optimizer = "muon"
    settings = {"lr": 0.01, "weight_decay": 0.3, "other_rate": 0.5}
    members = ({}, {"momentum": 0.8}, {"other_rate": 0.2}, {"beta2": 0.9})
    tolerance, good_lr = 5e-6, 0.1

    def reference(self, probe, weights):
        described = probe.model_settings.weights(probe.task_settings)
        hidden = {name for name, w in described.items() if w.role == "hidden"}
        assert hidden and len(hidden) < len(weights)
        averages = {name: torch.zeros_like(weights[name]) for name in hidden}
        rest = torch_steps(
            torch.optim.AdamW, {name: w for name, w in weights.items() if name not in hidden},
            lr=probe.lr * probe.other_rate, betas=(probe.beta1, probe.beta2), eps=probe.eps, weight_decay=0.0,
        )  # fmt: skip

        def step(grads):
            for w in weights.values():
                w *= 1 - probe.lr * probe.weight_decay
            rest(grads)
            for name in hidden:
                averages[name] = probe.momentum * averages[name] + (1 - probe.momentum) * grads[name]
                ahead = (1 - probe.momentum) * grads[name] + probe.momentum * averages[name]
                u, s, v = torch.linalg.svd(ahead / ahead.norm(), full_matrices=False)
                for _ in range(5):  # the quintic acts on singular values alone
                    s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
                inputs, outputs = ahead.shape
                weights[name] -= probe.lr * math.sqrt(max(1, outputs / inputs)) * (u * s) @ v

        return step
