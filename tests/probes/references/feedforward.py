"""Multilayer perceptrons, random features, convolutions and LSTMs in everyday PyTorch, one model at a time."""

import math

import torch
from torch import nn
from torch.nn import functional

from tests.probes.references.transformer import ACTIVATIONS, embedding, linear


def dense(weight, bias):
    """nn.Linear from [inputs, outputs] and a bias or None."""
    module = nn.Linear(*weight.shape, bias=bias is not None)
    module.weight.data.copy_(weight.T)
    if bias is not None:
        module.bias.data.copy_(bias)
    return module


class Flat(nn.Module):
    """The whole input as one vector: one-hot vectors or embeddings of tokens, or flattened numbers."""

    def __init__(self, probe, weights):
        super().__init__()
        self.onehot = probe.token_input == "onehot"
        self.table = embedding(weights["embedding"]) if "embedding" in weights else None
        self.vocab = probe.task_settings.inputs.size

    def forward(self, x):
        if not x.is_floating_point():
            x = functional.one_hot(x, self.vocab).float() if self.table is None else self.table(x)
        return x.flatten(1)


class MLP(nn.Module):
    def __init__(self, probe, weights):
        super().__init__()
        self.read, self.act = Flat(probe, weights), ACTIVATIONS[probe.activation]
        self.layers = nn.ModuleList(dense(weights[f"{i}.weight"], weights.get(f"{i}.bias")) for i in range(probe.depth))
        self.head = linear(weights["head"])
        self.sequences = probe.task_settings.inputs.kind in ("tokens", "sequences")

    def forward(self, x):
        x = self.read(x)
        for layer in self.layers:
            x = self.act(layer(x))
        y = self.head(x)
        return y[:, None] if self.sequences else y


class ResidualMLP(nn.Module):
    def __init__(self, probe, weights):
        super().__init__()
        self.probe, self.act = probe, ACTIVATIONS[probe.activation]
        self.read = Flat(probe, weights)
        self.read_in = dense(weights["read_in"], weights.get("read_in_bias"))
        self.up = nn.ModuleList(dense(weights[f"{i}.up"], weights.get(f"{i}.up_bias")) for i in range(probe.depth))
        self.down = None
        if probe.branch_layers == 2:
            self.down = nn.ModuleList(
                dense(weights[f"{i}.down"], weights.get(f"{i}.down_bias")) for i in range(probe.depth)
            )
        numbers = {name: value.clone() for name, value in weights.items() if name.endswith(("scale", "shifts"))}
        self.numbers = nn.ParameterDict({name.replace(".", "_"): value for name, value in numbers.items()})
        self.head = linear(weights["head"])
        self.sequences = probe.task_settings.inputs.kind in ("tokens", "sequences")

    def normed(self, x):
        kind, shape = self.probe.norm, x.shape[-1:]
        if kind == "rms":
            return functional.rms_norm(x, shape, eps=1e-6)
        return functional.layer_norm(x, shape, eps=1e-5) if kind == "layer" else x

    def forward(self, x):
        x = self.read_in(self.read(x))
        how = self.probe.residual
        for i, up in enumerate(self.up):
            f = self.normed(x)
            if how == "fixup":
                b1, b2, b3, b4 = self.numbers[f"{i}_shifts"]
                f = self.act(up(f + b1) + b2) + b3
                x = x + self.numbers[f"{i}_scale"] * self.down[i](f) + b4
                continue
            f = self.act(up(f))
            f = f if self.down is None else self.down[i](f)
            factor = {"plain": 1.0, "inverse_sqrt": self.probe.depth**-0.5}.get(how)
            x = x + f * (self.numbers[f"{i}_scale"] if factor is None else factor)
        y = self.head(self.normed(x))
        return y[:, None] if self.sequences else y


class RandomFeatures(nn.Module):
    def __init__(self, probe, weights):
        super().__init__()
        self.register_buffer("frozen", weights["frozen"])
        self.act, self.head = ACTIVATIONS[probe.activation], linear(weights["head"])

    def forward(self, x):
        return self.head(self.act(x @ self.frozen))


class Convolution(nn.Module):
    def __init__(self, probe, weights):
        super().__init__()
        self.probe, self.act = probe, ACTIVATIONS[probe.activation]
        self.layers = nn.ModuleList()
        for i in range(probe.depth):
            taps = weights[f"{i}.taps"]  # [taps, inputs, outputs]
            window = (probe.kernel,) * (2 if probe.grid else 1)
            kind = nn.Conv2d if probe.grid else nn.Conv1d
            layer = kind(
                *taps.shape[1:], probe.kernel, stride=probe.stride if i else 1, padding=probe.kernel // 2,
                bias=probe.biases,
            )  # fmt: skip
            layer.weight.data.copy_(taps.permute(2, 1, 0).reshape(layer.weight.shape[:2] + window))
            if probe.biases:
                layer.bias.data.copy_(weights[f"{i}.bias"])
            self.layers.append(layer)
        self.head = linear(weights["head"])

    def forward(self, x):
        x = x[:, None] if x.dim() == 2 else x.transpose(1, 2)
        if self.probe.grid:
            side = math.isqrt(x.shape[-1])
            x = x.unflatten(-1, (side, side))
        for layer in self.layers:
            x = self.act(layer(x))
        x = x.flatten(2)
        return self.head(x.mean(-1) if self.probe.pooling == "mean" else x.transpose(1, 2).flatten(1))


class LSTM(nn.Module):
    def __init__(self, probe, weights):
        super().__init__()
        d = probe.width
        self.table = embedding(weights["embedding"]) if "embedding" in weights else None
        self.signals = "0.signal_in" in weights
        first = weights["0.signal_in"] if self.signals else weights["0.in"]
        self.lstm = nn.LSTM(first.shape[0], d, probe.depth, batch_first=True)
        for i in range(probe.depth):
            entry = weights[f"{i}.in"] if i else first
            getattr(self.lstm, f"weight_ih_l{i}").data.copy_(entry.T)
            getattr(self.lstm, f"weight_hh_l{i}").data.copy_(weights[f"{i}.recurrent"].T)
            getattr(self.lstm, f"bias_ih_l{i}").data.copy_(weights[f"{i}.bias"])
            # torch has two biases; the second one holds the 1 of the forget gates
            fixed = getattr(self.lstm, f"bias_hh_l{i}").requires_grad_(False)
            fixed.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(d))
        self.head = linear(weights["head"])

    def forward(self, x):
        y, _ = self.lstm(x if self.table is None else self.table(x))
        return self.head(y[:, -1] if self.signals else y)
