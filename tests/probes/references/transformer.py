"""Transformers, encoders and mixtures of experts in everyday PyTorch, one model at a time."""

import math

import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS = {
    "relu": functional.relu,
    "relu2": lambda x: functional.relu(x) ** 2,
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "tanh": torch.tanh,
    "erf": lambda x: torch.erf(x / 2**0.5),
    "quadratic": lambda x: x**2,
    "identity": lambda x: x,
}


def linear(weight):
    """nn.Linear without bias from [inputs, outputs]."""
    module = nn.Linear(*weight.shape, bias=False)
    module.weight.data.copy_(weight.T)
    return module


def embedding(weight):
    return nn.Embedding(*weight.shape, _weight=weight.clone())


def norm(kind, size, gain):
    """A norm whose gain, if any, is trained."""
    if kind == "rms":
        module = nn.RMSNorm(size, eps=1e-6, elementwise_affine=gain is not None)
    else:
        module = nn.LayerNorm(size, eps=1e-5, elementwise_affine=gain is not None, bias=False)
    if gain is not None:
        module.weight.data.copy_(gain)
    return module


def turned(x):
    """Rotary encoding of x [B, heads, T, c] as products of complex numbers."""
    t, c = x.shape[-2:]
    angle = torch.arange(t)[:, None] * torch.tensor([10000.0 ** (-2 * i / c) for i in range(c // 2)])
    z = torch.complex(x[..., : c // 2], x[..., c // 2 :]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


class Attention(nn.Module):
    def __init__(self, probe, weights, layer, causal):
        super().__init__()
        self.probe, self.causal = probe, causal
        self.qkv, self.out = linear(weights[f"{layer}.qkv"]), linear(weights[f"{layer}.attention_out"])
        self.norms = None
        if probe.qk_norm:
            gains = weights.get(f"{layer}.qk_gain", (None, None))
            self.norms = nn.ModuleList(norm(probe.norm, probe.width // probe.heads, gain) for gain in gains)

    def forward(self, x):
        p, (b, t, d) = self.probe, x.shape
        q, k, v = (y.view(b, t, p.heads, d // p.heads).transpose(1, 2) for y in self.qkv(x).split(d, -1))
        if self.norms is not None:
            q, k = self.norms[0](q), self.norms[1](k)
        if p.positions == "rotary":
            q, k = turned(q), turned(k)
        c = d // p.heads
        scale = c**-0.5 if p.attention_scale == "sqrt" else math.sqrt(p.base_head) / c
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=scale)
        return self.out(mixed.transpose(1, 2).reshape(b, t, d))


class MLP(nn.Module):
    def __init__(self, kind, up, down):
        super().__init__()
        self.kind = kind
        self.gate = None
        if kind == "swiglu":
            gate, up = up.split(up.shape[1] // 2, 1)
            self.gate = linear(gate)
        self.up, self.down = linear(up), linear(down)

    def forward(self, x):
        if self.gate is not None:
            return self.down(functional.silu(self.gate(x)) * self.up(x))
        return self.down(ACTIVATIONS[self.kind](self.up(x)))


class Experts(nn.Module):
    """Each token is sent to its experts, and to no other."""

    def __init__(self, probe, weights, layer):
        super().__init__()
        self.chosen = probe.chosen
        self.router = linear(weights[f"{layer}.router"])
        pairs = zip(weights[f"{layer}.up"], weights[f"{layer}.down"], strict=True)
        self.experts = nn.ModuleList(MLP(probe.activation, *pair) for pair in pairs)

    def forward(self, x):
        out = torch.zeros_like(x)
        shares = self.router(x).softmax(-1)
        for at in torch.cartesian_prod(torch.arange(x.shape[0]), torch.arange(x.shape[1])):
            at = tuple(at.tolist())
            for share, expert in zip(*shares[at].topk(self.chosen), strict=True):
                out[at] += share * self.experts[int(expert)](x[at])
        return out


class Transformer(nn.Module):
    def __init__(self, probe, weights, causal=True, pooled=False):
        super().__init__()
        self.probe, self.pooled, d = probe, pooled, probe.width
        self.tokens = embedding(weights["embedding"]) if "embedding" in weights else None
        if self.tokens is None:
            self.read_in = linear(weights.get("read_in", weights.get("signal_in")))
        self.place = embedding(weights["positions"]) if probe.positions == "learned" else None
        self.attentions = nn.ModuleList(Attention(probe, weights, i, causal) for i in range(probe.depth))
        self.mlps = nn.ModuleList(self.mlp(probe, weights, i) for i in range(probe.depth))
        names = [f"{i}.{branch}_gain" for i in range(probe.depth) for branch in ("attention", "mlp")]
        if probe.norm_position == "pre":
            names.append("last_gain")
        self.norms = nn.ModuleList(norm(probe.norm, d, weights.get(name)) for name in names)
        self.head = nn.Linear(d, weights["head"].shape[1] if "head" in weights else probe.vocab, bias=False)
        if probe.tied:
            self.head.weight = self.tokens.weight
        else:
            self.head.weight.data.copy_(weights["head"].T)

    def mlp(self, probe, weights, layer):
        if "experts" in probe.__dict__:
            return Experts(probe, weights, layer)
        return MLP(probe.activation, weights[f"{layer}.up"], weights[f"{layer}.down"])

    def forward(self, x):
        post = self.probe.norm_position == "post"
        t = x.shape[1]
        x = self.read_in(x) if self.tokens is None else self.tokens(x)
        if self.place is not None:
            x = x + self.place(torch.arange(t))
        branches = [branch for pair in zip(self.attentions, self.mlps, strict=True) for branch in pair]
        for branch, normed in zip(branches, self.norms, strict=False):
            x = normed(x + branch(x)) if post else x + branch(normed(x))
        if not post:
            x = self.norms[-1](x)
        return self.head(x.mean(1) if self.pooled else x)
