"""Differentiable building blocks with hand-written backward passes: fewer kernels than autograd derives."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch.autograd.function import once_differentiable

__all__ = [
    "attend", "attention", "by_member", "cross_entropy", "log_stablemax", "pointwise", "product", "relu_squared",
    "rms_norm", "rotate", "squared_error", "stablemax_error", "swiglu", "wider",
]  # fmt: skip

_EPS = 1e-6
#: Multiplications of a batch of products beyond which torch changes the library on a CPU; see `wider`.
_ONE_LIBRARY = 16**3


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dtype):
        scale = (x.square().mean(-1, keepdim=True) + _EPS).rsqrt()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, scale = ctx.saved_tensors
        grad = grad.to(y.dtype)
        return (grad - y * (grad * y).mean(-1, keepdim=True)).mul_(scale), None


def rms_norm(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """x / sqrt(mean(x^2) + 1e-6) over the last dimension, without gain, as `dtype` (Zhang & Sennrich 2019)."""
    return _RMSNorm.apply(x, dtype)


class _ReluSquared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


def relu_squared(x: torch.Tensor) -> torch.Tensor:
    """max(x, 0)^2 (So et al. 2021, arXiv 2109.08668)."""
    return _ReluSquared.apply(x)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, packed):
        gate, value = packed.chunk(2, -1)
        opened = by_member(torch.nn.functional.silu, gate)
        ctx.save_for_backward(packed, opened)
        return opened * value

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        packed, opened = ctx.saved_tensors
        gate, value = packed.chunk(2, -1)
        out = torch.empty_like(packed)
        to_gate, to_value = out.chunk(2, -1)
        to_gate.copy_(by_member(torch.ops.aten.silu_backward, grad * value, gate))
        to_value.copy_(grad * opened)
        return out


def swiglu(packed: torch.Tensor) -> torch.Tensor:
    """silu(gate) * value of packed (gate, value) [..., 2 h]: [..., h] (Shazeer 2020, arXiv 2002.05202)."""
    return _SwiGLU.apply(packed)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cosine, sine):
        ctx.save_for_backward(cosine, sine)
        first, second = x.chunk(2, -1)
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        cosine, sine = ctx.saved_tensors
        first, second = grad.chunk(2, -1)
        return torch.cat([first * cosine + second * sine, second * cosine - first * sine], -1), None, None


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Rotary position encoding of x [S, T, ..., c], c even (Su et al. 2021, arXiv 2104.09864).

    Entries i and i + c / 2 of position t turn as a pair by the angle t * 10000^(-2 i / c).
    """
    cosine, sine = _angles(x.shape[1], x.shape[-1], x.dtype, x.device)
    shape = (x.shape[1], *[1] * (x.dim() - 3), x.shape[-1] // 2)
    return _Rotate.apply(x, cosine.view(shape), sine.view(shape))


@lru_cache(maxsize=64)
def _angles(t: int, c: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of the angles, each [T, c / 2]; made on the CPU, so that devices agree."""
    rates = 10000.0 ** (-2 * torch.arange(c // 2, dtype=torch.float64) / c)
    angles = torch.arange(t, dtype=torch.float64)[:, None] * rates
    return angles.cos().to(device, dtype), angles.sin().to(device, dtype)


#: Entries in the longest step of a vectorized CPU loop (AVX-512, bfloat16); the scalar tail after the last whole
#: step computes exponentials by another routine.
_LANES = 64


def pointwise(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """function(x), entry by entry, for x [E, ...], such that a member's bits do not depend on its neighbours.

    A CPU computes the last few entries of a tensor by a scalar routine that may round otherwise. Where a
    member's entries do not fill whole vectors, they are padded to do so; see also `by_member`.
    """
    entries = x[0].numel()
    if x.is_cuda or entries % _LANES == 0:
        return by_member(function, x)
    padded = torch.nn.functional.pad(x.flatten(1), (0, -entries % _LANES))
    return by_member(function, padded)[:, :entries].view(x.shape)


def by_member(function: Callable[..., torch.Tensor], *x: torch.Tensor) -> torch.Tensor:
    """function(*x) of tensors [E, ...], one member at a time where several CPU threads would share them.

    Threads divide the entries of a tensor evenly, so where one ends and its scalar tail lies would depend on E.
    """
    if x[0].device.type != "cpu" or len(x[0]) == 1 or torch.get_num_threads() == 1:
        return function(*x)
    return torch.cat([function(*one) for one in zip(*(part.split(1) for part in x), strict=True)])


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, w, targets, workspace, z_loss):
        e, n, _ = h.shape
        grad_h, grad_w = torch.empty_like(h), torch.empty(w.shape, dtype=w.dtype, device=w.device)
        loss = torch.empty(e, device=h.device)
        parts = [slice(None)] if workspace is None else [slice(i, i + 1) for i in range(e)]
        for part in parts:
            y = targets[part, :, None]
            logits = torch.bmm(h[part], w[part], out=workspace if h.dtype == torch.float32 else None)  # [e, n, V]
            log_z = torch.logsumexp(logits.float(), -1, keepdim=True) if z_loss else None  # [e, n, 1]
            probabilities = torch.softmax(logits, -1, dtype=torch.float32, out=workspace)
            hit = probabilities.gather(-1, y)
            loss[part] = hit.clamp_min(torch.finfo(torch.float32).tiny).log_().mean((1, 2)).neg_()
            if z_loss:  # d (log Z)^2 / d logits = 2 log Z * softmax, beside softmax minus one-hot
                loss[part] += z_loss * log_z.square().mean((1, 2))
                probabilities.mul_(1 + 2 * z_loss * log_z)
                hit = probabilities.gather(-1, y)
            # Softmax minus one-hot, over n: the gradient of the logits.
            residual = probabilities.scatter_(-1, y, hit - 1).to(h.dtype)
            grad_h[part] = torch.bmm(residual, w[part].mT).mul_(1 / n)
            grad_w[part] = torch.bmm(h[part].mT, residual).mul_(1 / n)
        ctx.save_for_backward(grad_h, grad_w)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad_h, grad_w = ctx.saved_tensors
        scale = grad[:, None, None]
        return grad_h * scale, grad_w * scale, None, None, None


def cross_entropy(
    h: torch.Tensor, w: torch.Tensor, targets: torch.Tensor, workspace: torch.Tensor | None = None, z_loss: float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy [E] of logits h w against target tokens, in nats.

    Args:
        h: last hidden states [E, n, d].
        w: output head [E, d, V], same dtype.
        targets: token ids [E, n] (int64).
        workspace: [1, n, V] float32, overwritten; with it members are taken one by one, so that a CPU finds
            the logits of one member in its cache, in memory that the system need not map anew.
        z_loss: weight of the added mean of (log Z)^2, Z the softmax's normalizer (PaLM, arXiv 2204.02311).

    Tiny models spend most of their time on the vocabulary, so the logits never leave the forward pass: it
    computes both gradients while it has them and drops them (as in Liger kernels, arXiv 2410.10989). The
    gradient is exact; only the reported loss of a token saturates, at 87 nats.
    """
    return _CrossEntropy.apply(h, w, targets, workspace, z_loss)


def squared_error(h: torch.Tensor, w: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(h w - targets)^2, summed over outputs, mean over examples, [E]; h [E, n, d], w [E, d, K], targets [E, n, K]."""
    return (product(h, w).float() - targets).square().sum(-1).mean(-1)


def stablemax_error(h: torch.Tensor, w: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-`log_stablemax` of the targets, mean over examples, [E]; h [E, n, d], w [E, d, K], targets [E, n]."""
    return -log_stablemax(product(h, w).float()).gather(-1, targets[..., None])[..., 0].mean(-1)


def log_stablemax(z: torch.Tensor) -> torch.Tensor:
    """Logarithms of StableMax's probabilities s(z) / sum s(z) over the last axis.

    s(z) is z + 1 where z >= 0 and 1 / (1 - z) elsewhere (Prieto et al. 2025, arXiv 2501.04697): it grows with the
    logit and not with its exponential, so that no logit makes another one's share vanish in 32 bits.
    """
    log_s = torch.where(z >= 0, torch.log1p(z.clamp_min(0)), -torch.log1p(-z.clamp_max(0)))
    return log_s - log_s.logsumexp(-1, keepdim=True)


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b of a [E, n, d] and b [E, d, k], such that a member's bits do not depend on its neighbours.

    A library takes another routine, with another order of sums, for one product of a matrix by a vector than
    for a batch of them: in the product itself or in one of its gradients. So no side is left at 1. Small
    products are taken in a `wider` type.
    """
    n, d, k = *a.shape[1:], b.shape[2]
    wide = wider(a, n, d, k)
    if wide is not None:
        return product(a.to(wide), b.to(wide)).to(a.dtype)
    if min(n, d, k) > 1:
        return torch.bmm(a, b)
    pad = torch.nn.functional.pad
    a, b = pad(a, (0, int(d == 1), 0, int(n == 1))), pad(b, (0, int(k == 1), 0, int(d == 1)))
    return torch.bmm(a, b)[:, :n, :k]


def wider(x: torch.Tensor, n: int, d: int, k: int) -> torch.dtype | None:
    """The type in which to take products [n, d] [d, k] like `x`, so that their bits do not depend on the batch.

    torch hands products in bfloat16, and in float32 unless its precision is ``highest``, to another library
    on a CPU once the whole *batch* has more than 16^3 multiplications. A matrix with fewer of them would meet
    the one library alone and the other in a stack. float32 at ``highest`` and float64 know one only. None where
    the type of `x` will do.
    """
    if x.device.type != "cpu" or max(n, 2) * max(d, 2) * max(k, 2) > _ONE_LIBRARY:
        return None
    exact = torch.get_float32_matmul_precision() == "highest"
    if x.dtype == torch.bfloat16:
        return torch.float32 if exact else torch.float64
    return torch.float64 if x.dtype == torch.float32 and not exact else None


def attention(
    qkv: torch.Tensor, heads: int, *, causal: bool = True, scale: float | None = None, fused: bool = False
) -> torch.Tensor:
    """Self-attention: qkv [S, T, 3 d] -> [S, T, d], softmax(scale q k^T) v per head.

    Args:
        qkv: queries, keys and values of S sequences.
        heads: number of heads.
        causal: position t sees positions up to t only.
        scale: 1 / sqrt(d / heads) unless given.
        fused: torch's fused kernel, instead of three batched products: the fastest form on a CPU at T <= 128.
    """
    s, t, d3 = qkv.shape
    q, k, v = qkv.view(s, t, 3, heads, d3 // 3 // heads).permute(2, 0, 3, 1, 4)  # each [S, heads, T, d / heads]
    return attend(q, k, v, causal=causal, scale=scale, fused=fused)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = True, scale: float | None = None,
    fused: bool = False,
) -> torch.Tensor:  # fmt: skip
    """`attention` of queries, keys and values that are apart, each [S, heads, T, c]: [S, T, heads c]."""
    s, heads, t, c = q.shape
    wide = wider(q, t, c, t)
    if wide is not None:
        return attend(q.to(wide), k.to(wide), v.to(wide), causal=causal, scale=scale, fused=fused).to(q.dtype)
    if c == 1 and q.device.type == "cpu":  # as in `product`, no side is left at 1
        q, k, v = (torch.nn.functional.pad(part, (0, 1)) for part in (q, k, v))
        scale = 1.0 if scale is None else scale
        out = attend(q, k, v, causal=causal, scale=scale, fused=fused)
        return out.view(s, t, heads, 2)[..., 0]
    if fused:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    else:
        q, k, v = (part.reshape(s * heads, t, -1) for part in (q, k, v))
        alpha = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        scores = torch.baddbmm(_mask(t, causal, q.dtype, q.device), q, k.mT, alpha=alpha)
        out = torch.bmm(torch.softmax(scores, -1), v).view(s, heads, t, -1)
    return out.transpose(1, 2).reshape(s, t, -1)


@lru_cache(maxsize=64)
def _mask(t: int, causal: bool, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[T, T]: 0 where attention is allowed, -inf above the diagonal if `causal`."""
    mask = torch.zeros(t, t, dtype=dtype, device=device)
    return mask.fill_(-math.inf).triu_(1) if causal else mask
