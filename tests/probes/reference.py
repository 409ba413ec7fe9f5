"""An independent transformer and training loop in everyday PyTorch: nn.Module, one model, torch.optim.AdamW."""

import math

import torch
from torch import nn
from torch.nn import functional

from workbench.probes import Probe
from workbench.probes.initial import initial_weights


class Block(nn.Module):
    def __init__(self, d, heads, ratio):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.RMSNorm(d, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.RMSNorm(d, eps=1e-6, elementwise_affine=False)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.attention_out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, ratio * d, bias=False)
        self.down = nn.Linear(ratio * d, d, bias=False)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(d, dim=-1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(b, t, d))
        return x + self.down(functional.relu(self.up(self.norm2(x))) ** 2)


class Reference(nn.Module):
    """Starts from the same weights as the probe; everything else is its own."""

    def __init__(self, probe: Probe):
        super().__init__()
        d = probe.width
        self.embedding = nn.Embedding(probe.vocab, d)
        self.positions = nn.Embedding(probe.context, d)
        self.blocks = nn.ModuleList(Block(d, probe.heads, probe.mlp_ratio) for _ in range(probe.depth))
        self.norm = nn.RMSNorm(d, eps=1e-6, elementwise_affine=False)
        self.head = nn.Linear(d, probe.vocab, bias=False)
        with torch.no_grad():
            for name, value in initial_weights(probe).items():
                self.place(name).copy_(value if name in ("embedding", "positions") else value.T)

    def place(self, name):
        if name in ("embedding", "positions", "head"):
            return getattr(self, name).weight
        layer, matrix = name.split(".")
        return getattr(self.blocks[int(layer)], matrix).weight

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[-1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, tokens):
        return functional.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def train_reference(probe: Probe, batches: torch.Tensor) -> tuple[Reference, list[float]]:
    """Train on batches [steps, B, T + 1] with torch.optim.AdamW and a LambdaLR written from the definition."""
    model = Reference(probe)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=probe.lr, betas=(probe.beta1, probe.beta2), eps=probe.eps,
        weight_decay=probe.weight_decay,
    )  # fmt: skip
    warm = round(probe.warmup * probe.steps)

    def multiplier(step):
        if step < warm:
            return (step + 1) / warm
        done = (step - warm) / (probe.steps - warm)
        return {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}[probe.schedule]

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
    losses = []
    for tokens in batches.long():
        loss = model.loss(tokens)
        optimizer.zero_grad()
        loss.backward()
        if probe.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), probe.clip)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return model, losses
