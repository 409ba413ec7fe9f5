"""What `probe_speed.py` compares with: nanoGPT-style PyTorch (one model, as most people write it), and JAX.

The architecture is the one our probes train (RMSNorm without gain, ReLU^2, learned positions, no biases, a head
of its own), so that only the implementation differs; ``classic=True`` gives the LayerNorm, GELU and tied head
of nanoGPT itself.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """One model and its batch: width, depth, heads, context, vocabulary, sequences a step."""

    width: int
    depth: int
    heads: int
    context: int
    vocab: int
    batch: int

    @property
    def flops(self) -> float:
        """Training FLOPs a token: 6 for each weight in a product, and causal attention."""
        matrices = 12 * self.depth * self.width**2 + self.width * self.vocab
        return 6 * matrices + 6 * self.depth * self.width * self.context


class _Block(nn.Module):
    def __init__(self, shape: Shape, classic: bool) -> None:
        super().__init__()
        d = shape.width
        self.heads, self.classic = shape.heads, classic
        gain = {"elementwise_affine": classic}
        self.norm1, self.norm2 = (nn.LayerNorm(d, **gain) if classic else nn.RMSNorm(d, **gain) for _ in range(2))
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, d = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.norm1(x)).split(d, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
        u = self.up(self.norm2(x))
        return x + self.down(functional.gelu(u) if self.classic else functional.relu(u).square())


class GPT(nn.Module):
    """One decoder-only transformer in everyday PyTorch."""

    def __init__(self, shape: Shape, classic: bool = False) -> None:
        super().__init__()
        d = shape.width
        self.embedding, self.positions = nn.Embedding(shape.vocab, d), nn.Embedding(shape.context, d)
        self.blocks = nn.ModuleList(_Block(shape, classic) for _ in range(shape.depth))
        gain = {"elementwise_affine": classic}
        self.norm = nn.LayerNorm(d, **gain) if classic else nn.RMSNorm(d, **gain)
        self.head = nn.Linear(d, shape.vocab, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                branch = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, 0, 0.02 / math.sqrt(2 * shape.depth) if branch else 0.02)
        if classic:
            self.embedding.weight = self.head.weight

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def torch_peer(
    shape: Shape,
    device: str,
    compiled: bool,
    seconds: float,
    classic: bool = False,
    batches: torch.Tensor | None = None,
    lr: float = 1e-3,
) -> dict:
    """Train one model in a plain loop and time it.

    Args:
        shape: the model and its batch.
        device: ``cuda`` (bf16 autocast) or ``cpu`` (float32, as nanoGPT's CPU recipe).
        compiled: through torch.compile.
        seconds: how long to time, after a warm-up.
        classic: nanoGPT's own norm, nonlinearity and tied head.
        batches: [steps, B, T + 1] to train on, all of them, instead of random tokens for `seconds`.
        lr: peak learning rate; rises over the first 5 % of `batches`, then falls linearly to 0.

    Returns:
        tokens_s, ms (median of a step), losses (of every step, with `batches`).
    """
    torch.manual_seed(0)
    model = GPT(shape, classic).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    run = torch.compile(model) if compiled else model
    cast = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    # on one CPU thread, processor time: what else runs on the machine does not count
    clock = time.perf_counter if device == "cuda" else time.process_time
    fixed = torch.randint(shape.vocab, (shape.batch, shape.context + 1), device=device)

    def step(tokens: torch.Tensor) -> torch.Tensor:
        with cast:
            loss = run(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    laps, losses = [], []
    if batches is None:
        for _ in range(5):
            step(fixed)
        wait()
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            start = clock()
            for _ in range(10):
                step(fixed)
            wait()
            laps.append((clock() - start) / 10)
    else:
        warm = max(1, round(0.05 * len(batches)))
        for index, tokens in enumerate(batches.to(device).long()):
            part = (index + 1) / warm if index < warm else 1 - (index - warm) / (len(batches) - warm)
            optimizer.param_groups[0]["lr"] = lr * part
            start = clock()
            losses.append(step(tokens))
            wait()
            laps.append(clock() - start)
    lap = sorted(laps)[len(laps) // 2]
    return {
        "tokens_s": shape.batch * shape.context / lap,
        "ms": 1e3 * lap,
        "losses": [float(loss) for loss in losses],
    }


def jax_peer(shape: Shape, members: int, steps: int = 20, repeats: int = 3) -> dict:
    """The same model and AdamW as ``jit(vmap(scan))``: `members` whole runs of `steps` steps in one program.

    Float32 weights and stream, bfloat16 products, as in ours. Returns tokens_s of all members, ms a step of all,
    and the seconds of compilation.
    """
    import jax
    import jax.numpy as jnp

    d, heads = shape.width, shape.heads

    def init(key):
        def normal(key, *size):
            return jax.random.normal(key, size, jnp.float32) / math.sqrt(size[0])

        keys = iter(jax.random.split(key, 4 * shape.depth + 3))
        sizes = ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))
        return {
            "embedding": normal(next(keys), shape.vocab, d),
            "positions": normal(next(keys), shape.context, d),
            "layers": [tuple(normal(next(keys), *size) for size in sizes) for _ in range(shape.depth)],
            "head": normal(next(keys), d, shape.vocab),
        }

    def norm(x):
        return (x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)).astype(jnp.bfloat16)

    def product(a, w):
        return a @ w.astype(jnp.bfloat16)

    allowed = jnp.tril(jnp.ones((shape.context, shape.context), bool))

    def loss_of(weights, tokens):
        x = weights["embedding"][tokens[:, :-1]] + weights["positions"]
        for qkv, out, up, down in weights["layers"]:
            q, k, v = (z.reshape(*z.shape[:2], heads, -1) for z in jnp.split(product(norm(x), qkv), 3, -1))
            scores = jnp.einsum("bthc,bshc->bhts", q, k) / math.sqrt(d // heads)
            share = jax.nn.softmax(jnp.where(allowed, scores.astype(jnp.float32), -jnp.inf)).astype(jnp.bfloat16)
            x = x + product(jnp.einsum("bhts,bshc->bthc", share, v).reshape(*x.shape), out).astype(jnp.float32)
            x = x + product(jnp.square(jax.nn.relu(product(norm(x), up))), down).astype(jnp.float32)
        logits = product(norm(x), weights["head"]).astype(jnp.float32)
        chosen = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
        return (jax.nn.logsumexp(logits, -1) - chosen).mean()

    def train(key):
        weights = init(key)
        zeros = jax.tree.map(jnp.zeros_like, weights)

        def step(state, index):
            weights, m, v = state
            tokens = jax.random.randint(
                jax.random.fold_in(key, index), (shape.batch, shape.context + 1), 0, shape.vocab
            )
            loss, grad = jax.value_and_grad(loss_of)(weights, tokens)
            m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grad)
            v = jax.tree.map(lambda a, g: 0.98 * a + 0.02 * g * g, v, grad)
            c1, c2 = 1 - 0.9 ** (index + 1.0), 1 - 0.98 ** (index + 1.0)
            weights = jax.tree.map(lambda p, a, b: p - 1e-3 * (a / c1) / (jnp.sqrt(b / c2) + 1e-8), weights, m, v)
            return (weights, m, v), loss

        return jax.lax.scan(step, (weights, zeros, zeros), jnp.arange(steps))[1]

    run = jax.jit(jax.vmap(train))
    keys = jax.random.split(jax.random.key(0), members)
    start = time.perf_counter()
    compiled = run.lower(keys).compile()
    compiling = time.perf_counter() - start
    compiled(keys).block_until_ready()
    laps = []
    for _ in range(repeats):
        start = time.perf_counter()
        compiled(keys).block_until_ready()
        laps.append((time.perf_counter() - start) / steps)
    lap = sorted(laps)[len(laps) // 2]
    tokens = members * shape.batch * shape.context
    return {"tokens_s": tokens / lap, "ms": 1e3 * lap, "compile_s": compiling}


def attempt(function: Callable[..., dict], *args: object, **kwargs: object) -> dict:
    """The function's result, or its error as a row: one failing peer spoils no table."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]}
