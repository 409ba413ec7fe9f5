"""The kernels against float64 autograd: in Triton's interpreter (float32) without a GPU, natively (bf16) with one."""

import importlib.util
import math

import pytest
import torch
from torch.nn import functional

CUDA = torch.cuda.is_available()
if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
if not CUDA:
    import os

    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are decorated

from workbench.probes.kernels.adamw import adamw_, gradient_norm  # noqa: E402
from workbench.probes.kernels.attention import attention, attention_backward  # noqa: E402
from workbench.probes.kernels.transformer import FusedTransformer, Plan  # noqa: E402

DEVICE = "cuda" if CUDA else "cpu"
# The interpreter mistakes bfloat16 operands of a product, so without a GPU the same kernels run in float32.
LOW = torch.bfloat16 if CUDA else torch.float32
CLOSE = 2e-2 if CUDA else 2e-5

PLANS = {
    "parts": Plan(),
    "library": Plan(mlp="epilogue", products="stack"),
    "own": Plan(products="own"),
    "rows": Plan(mlp="epilogue", products="own", rows=True),
    "branches": Plan(attention="branch", mlp="branch", head="branch", products="own", rows=True),
    "mixed": Plan(attention="parts", mlp="branch", head="branch", products="own", rows=True),
}


def distance(value, truth):
    return float((value.double().cpu() - truth.cpu()).norm() / truth.cpu().norm())


class Stack:
    """Random weights of E members in flat buffers with gaps, as the trainer lays them out."""

    def __init__(self, members, width=32, depth=2, heads=2, context=32, vocab=48, seed=0, multipliers=None):
        self.multipliers = multipliers or {}
        self.attention_scale = 2.0 / (width // heads) if multipliers else (width // heads) ** -0.5
        self.depth, self.heads, self.width = depth, heads, width
        self.shapes = {"embedding": (vocab, width), "positions": (context, width)}
        for layer in range(depth):
            self.shapes |= {
                f"{layer}.qkv": (width, 3 * width), f"{layer}.attention_out": (width, width),
                f"{layer}.up": (width, 4 * width), f"{layer}.down": (4 * width, width),
            }  # fmt: skip
        self.shapes["head"] = (width, vocab)
        size = sum(math.prod(shape) for shape in self.shapes.values())
        self.flat = torch.empty(members, -(-size // 64) * 64)
        for member in range(members):
            generator = torch.Generator().manual_seed(seed + member)
            self.flat[member] = torch.randn(self.flat.shape[1], generator=generator) / math.sqrt(width)
        self.flat = self.flat.to(DEVICE)
        self.low = self.scaled(self.flat).to(LOW)
        self.grad = torch.full_like(self.flat, math.nan)

    def views(self, flat):
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = flat[:, : sum(sizes)].split(sizes, dim=1)
        return {n: p.view(-1, *shape) for (n, shape), p in zip(self.shapes.items(), parts, strict=True)}

    def scaled(self, flat):
        factors = torch.ones_like(flat[:1]).detach()
        for name, factor in self.multipliers.items():
            self.views(factors)[name].fill_(factor)
        return flat * factors

    def fused(self, plan, residual=torch.float32):
        low = {n: v for n, v in self.views(self.low).items() if n not in ("embedding", "positions")}
        return FusedTransformer(
            low, self.views(self.flat), self.views(self.grad), self.depth, self.heads, residual, plan,
            self.multipliers, self.attention_scale,
        )  # fmt: skip

    def truth(self, tokens):
        """Losses and gradients of the model as plain float64 mathematics, by autograd."""
        flat = self.flat.double().cpu()
        flat.requires_grad_()
        # the products see rounded weights, the embeddings do not
        exact = self.scaled(flat)
        rounded = exact + (self.low.double().cpu() - exact).detach()
        w = {n: self.views(exact if n in ("embedding", "positions") else rounded)[n] for n in self.shapes}
        tokens = tokens.long().cpu()
        losses = []
        for member in range(len(flat)):
            m = {name: value[member] for name, value in w.items()}
            x = m["embedding"][tokens[member, :, :-1]] + m["positions"][: tokens.shape[-1] - 1]
            for layer in range(self.depth):
                q, k, v = (norm(x) @ m[f"{layer}.qkv"]).chunk(3, -1)
                q, k, v = (z.unflatten(-1, (self.heads, -1)).transpose(1, 2) for z in (q, k, v))
                mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.attention_scale)
                x = x + mixed.transpose(1, 2).flatten(2) @ m[f"{layer}.attention_out"]
                x = x + (norm(x) @ m[f"{layer}.up"]).relu().square() @ m[f"{layer}.down"]
            losses.append(
                functional.cross_entropy((norm(x) @ m["head"]).flatten(0, 1), tokens[member, :, 1:].flatten())
            )
        loss = torch.stack(losses)
        (grad,) = torch.autograd.grad(loss.sum(), flat)
        return loss.detach(), self.views(grad)


def norm(x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def tokens_for(members, batch, context, vocab, seed=1):
    drawn = [
        torch.randint(vocab, (batch, context + 1), generator=torch.Generator().manual_seed(seed + member))
        for member in range(members)
    ]
    return torch.stack(drawn).int().to(DEVICE)


@pytest.mark.parametrize("plan", PLANS)
def test_step_matches_float64(plan):
    stack = Stack(2)
    tokens = tokens_for(2, 2, 32, 48)
    loss = stack.fused(PLANS[plan]).loss_and_gradient(tokens[..., :-1].long(), tokens[..., 1:].flatten(1).long())
    truth, gradients = stack.truth(tokens)
    assert distance(loss, truth) < CLOSE / 4
    for name, gradient in stack.views(stack.grad).items():
        assert distance(gradient, gradients[name]) < CLOSE, name


@pytest.mark.parametrize("plan", ["library", "own", "branches"])
def test_multipliers_and_scaled_scores_match_float64(plan):
    """As parametrizations use them: forward with multiplied weights, gradients of the weights themselves."""
    factors = {"embedding": 3.0, "positions": 0.5, "0.qkv": 2.0, "1.up": 0.7, "1.down": 1.5, "head": 0.25}
    stack = Stack(1, multipliers=factors)
    tokens = tokens_for(1, 2, 32, 48)
    loss = stack.fused(PLANS[plan]).loss_and_gradient(tokens[..., :-1], tokens[..., 1:])
    truth, gradients = stack.truth(tokens)
    assert distance(loss, truth) < CLOSE / 4
    for name, gradient in stack.views(stack.grad).items():
        assert distance(gradient, gradients[name]) < CLOSE, name


@pytest.mark.skipif(not CUDA, reason="the interpreter computes no bfloat16 products")
@pytest.mark.parametrize("width,heads,context,vocab", [(64, 1, 128, 256), (128, 2, 128, 256), (256, 4, 256, 1024)])
@pytest.mark.parametrize("residual", [torch.float32, torch.bfloat16])
def test_large_shapes_match_float64(width, heads, context, vocab, residual):
    stack = Stack(2, width, 2, heads, context, vocab)
    tokens = tokens_for(2, 2, context, vocab)
    loss = stack.fused(None, residual).loss_and_gradient(tokens[..., :-1], tokens[..., 1:])
    truth, gradients = stack.truth(tokens)
    assert distance(loss, truth) < 5e-3
    for name, gradient in stack.views(stack.grad).items():
        assert distance(gradient, gradients[name]) < 3e-2, name


@pytest.mark.parametrize("plan", ["branches", "rows", "parts"])
def test_member_equals_solo_bit_for_bit(plan):
    tokens = tokens_for(3, 2, 32, 48)
    stacked = Stack(3)
    loss = stacked.fused(PLANS[plan]).loss_and_gradient(tokens[..., :-1], tokens[..., 1:])
    solo = Stack(1, seed=2)
    alone = solo.fused(PLANS[plan]).loss_and_gradient(tokens[2:][..., :-1], tokens[2:][..., 1:])
    assert torch.equal(loss[2:], alone)
    for name, gradient in solo.views(solo.grad).items():
        assert torch.equal(stacked.views(stacked.grad)[name][2:], gradient), name


@pytest.mark.parametrize("context,block_rows", [(16, 1), (48, 3), (256, 2)])
def test_attention_matches_float64(context, block_rows):
    """One block, several small blocks, and (at 256) the split backward pass."""
    s, heads, dh = block_rows, 2, 16
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(s, context, 3 * heads * dh, generator=generator).to(DEVICE, LOW)
    dout = torch.randn(s, context, heads * dh, generator=generator).to(DEVICE, LOW)
    out, lse = attention(qkv, heads)
    grad = attention_backward(qkv, out, lse, dout, heads)
    exact = qkv.double().cpu().requires_grad_()
    q, k, v = (z.unflatten(-1, (heads, dh)).transpose(1, 2) for z in exact.chunk(3, -1))
    truth = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    (gradient,) = torch.autograd.grad(truth, exact, dout.double().cpu())
    assert distance(out, truth.detach()) < CLOSE / 2
    assert distance(grad, gradient) < CLOSE


def test_adamw_matches_torch_for_members_with_their_own_settings():
    e, p, steps = 3, 1000, 4
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(e, p, generator=generator)
    grads = torch.randn(steps, e, p, generator=generator)
    lr, decay, clip = [1e-2, 3e-3, 1e-1], [0.0, 0.1, 0.5], [math.inf, 1.0, 10.0]
    beta1, beta2, eps = [0.9, 0.8, 0.95], [0.95, 0.999, 0.9], [1e-8, 1e-6, 1e-3]

    count = torch.arange(1, steps + 1, dtype=torch.float64)[:, None]
    b1, b2, peak = (torch.tensor(z, dtype=torch.float64) for z in (beta1, beta2, lr))
    second = (1 - b2**count).sqrt()
    tables = [
        -peak / (1 - b1**count) * second,
        torch.tensor(eps) * second,
        (1 - peak * torch.tensor(decay)).expand(steps, e),
    ]
    tables = [table.float().contiguous().to(DEVICE) for table in tables]
    data, m, v = start.clone().to(DEVICE), torch.zeros(e, p, device=DEVICE), torch.zeros(e, p, device=DEVICE)
    low, step = torch.zeros(e, p, dtype=LOW, device=DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE)
    gains = [(1 - b).float().to(DEVICE) for b in (b1, b2)]
    rate, factor = (torch.rand(p, generator=generator).to(DEVICE) + 0.5 for _ in range(2))
    for grad in grads:
        adamw_(data, grad.to(DEVICE), m, v, low, step, *tables, *gains, torch.tensor(clip, device=DEVICE), rate, factor)
        step += 1

    for i in range(e):
        weight = torch.nn.Parameter(start[i].double())
        optimizer = torch.optim.Adam([weight], lr=lr[i], betas=(beta1[i], beta2[i]), eps=eps[i])
        for grad in grads:
            weight.grad = grad[i].double()
            torch.nn.utils.clip_grad_norm_([weight], clip[i])
            before = weight.detach().clone()
            optimizer.step()
            with torch.no_grad():  # decay is decoupled from the gradient and from the entries' own rates
                weight.copy_(before * (1 - lr[i] * decay[i]) + rate.double().cpu() * (weight - before))
        assert distance(data[i] - start[i].to(DEVICE), (weight - start[i].double()).detach()) < 1e-4
    assert torch.equal(low, (data * factor).to(LOW))
    assert distance(gradient_norm(grads[0].to(DEVICE)), grads[0].double().norm(dim=1)) < 1e-6
