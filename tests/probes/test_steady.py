"""A member's bits do not depend on its neighbours: products, attention, functions and sums, by many random draws.

Each case here differed somewhere before it was guarded: torch changes its library with the size of the whole
batch, takes other routines for vectors, and divides entries among threads without regard to members.
"""

from __future__ import annotations

import contextlib
import random

import pytest
import torch

from workbench.probes import Probe
from workbench.probes.functional import attend, by_member, pointwise, product, swiglu
from workbench.probes.optimizers.muon import newton_schulz
from workbench.probes.rows import row_mean, row_sum
from workbench.probes.trainer import train


@contextlib.contextmanager
def settings(threads: int = 1, matmul: str = "highest"):
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(matmul)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])


def with_gradients(function, *x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The result and the gradients of a fixed sum of it, each [E, ...]."""
    x = tuple(one.clone().requires_grad_() for one in x)
    y = function(*x)
    weight = torch.linspace(-1, 1, y[0].numel()).view(y[0].shape).to(y.dtype)
    return y.detach(), *torch.autograd.grad(y, x, weight.expand_as(y).contiguous())


def assert_steady(function, *x: torch.Tensor) -> None:
    """Fail unless every member alone gives what it gives among the others, gradients included."""
    together = with_gradients(function, *x)
    for e in range(len(x[0])):
        alone = with_gradients(function, *(one[e : e + 1] for one in x))
        assert all(torch.equal(a[0], t[e]) for a, t in zip(alone, together, strict=True)), [one.shape for one in x]


#: Just below and at 16^3 multiplications a matrix, and at sides of 1.
SMALL = [(35, 18, 6), (32, 16, 8), (33, 17, 5), (16, 16, 16), (2, 64, 32), (5, 18, 24), (1, 64, 32), (64, 1, 32)]


@pytest.mark.parametrize(
    ("dtype", "matmul", "draws"), [(torch.bfloat16, "highest", 800), (torch.float32, "medium", 40)]
)
def test_small_products_do_not_depend_on_how_many_there_are(dtype, matmul, draws):
    generator = torch.Generator().manual_seed(0)
    with settings(matmul=matmul):
        for n, d, k in SMALL:
            # many draws a stack: one differing rounding in a thousand products is what there was
            for _ in range(draws // 20):
                a = torch.randn(20, n, d, generator=generator).to(dtype)
                b = torch.randn(20, d, k, generator=generator).to(dtype)
                assert_steady(product, a, b)
                assert_steady(lambda a, b: product(a, b.mT), a, b.mT.contiguous())


@pytest.mark.parametrize("matmul", ["highest", "medium"])
def test_small_products_are_right(matmul):
    generator = torch.Generator().manual_seed(0)
    with settings(matmul=matmul):
        for n, d, k in SMALL:
            a, b = torch.randn(3, n, d, generator=generator), torch.randn(3, d, k, generator=generator)
            torch.testing.assert_close(product(a, b), torch.einsum("end,edk->enk", a, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "matmul"), [(torch.bfloat16, "highest"), (torch.float32, "highest"), (torch.float32, "medium")]
)
def test_attention_does_not_depend_on_the_stack(dtype, matmul):
    """Sequences [E B, heads, T, c] of several members; small heads, and heads of one channel."""
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    with settings(matmul=matmul):
        for _ in range(150):
            t, c, heads, b = (
                rng.choice([1, 2, 7, 16, 32]),
                rng.choice([1, 2, 4, 16]),
                rng.choice([1, 3]),
                rng.choice([1, 4]),
            )
            q, k, v = (torch.randn(4, b, heads, t, c, generator=generator).to(dtype) for _ in range(3))

            def heads_of_all(q, k, v):
                return attend(*(x.flatten(0, 1) for x in (q, k, v))).view(q.shape[0], -1)

            assert_steady(heads_of_all, q, k, v)


def test_attention_of_one_channel_is_right():
    q, k, v = (torch.randn(2, 3, 5, 1, generator=torch.Generator().manual_seed(i)) for i in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True)
    torch.testing.assert_close(
        attend(q, k, v).double(), expected.transpose(1, 2).reshape(2, 5, 3), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_functions_do_not_depend_on_the_stack(threads):
    generator = torch.Generator().manual_seed(0)
    with settings(threads):
        for shape in ((2, 256, 300), (4, 256, 256), (7, 5, 6)):
            x = torch.randn(shape, generator=generator)
            for function in (torch.sigmoid, torch.nn.functional.silu, torch.nn.functional.gelu, torch.tanh):
                assert_steady(lambda x, f=function: pointwise(f, x), x)
            assert_steady(swiglu, x)
            whole = torch.nn.functional.pad(x.flatten(1), (0, -x[0].numel() % 64))  # as a row of all weights is
            assert_steady(lambda a, b: by_member(torch.atan2, a, b), whole, whole + 1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sums_over_a_member_do_not_depend_on_the_stack(threads):
    generator = torch.Generator().manual_seed(0)
    with settings(threads):
        for shape in ((4, 64, 768), (3, 100, 768), (7, 1000, 256), (3, 7, 5)):
            x = torch.randn(shape, generator=generator)
            assert_steady(row_sum, x)
            assert_steady(row_mean, x.double())
            assert torch.allclose(row_sum(x), x.flatten(1).sum(1), rtol=1e-4, atol=1e-2)


def test_muons_iteration_does_not_depend_on_how_many_matrices_there_are():
    generator = torch.Generator().manual_seed(0)
    for matmul in ("highest", "medium"):
        with settings(matmul=matmul):
            for shape in ((7, 1, 33), (7, 1, 1), (5, 6, 18), (7, 2, 64), (3, 16, 16), (4, 32, 128)):
                x = torch.randn(shape, generator=generator)
                together = newton_schulz(x, 5)
                for e in range(len(x)):
                    assert torch.equal(newton_schulz(x[e : e + 1], 5)[0], together[e]), (matmul, shape)


@pytest.mark.long
@pytest.mark.parametrize("settings_of_model", [{"activation": "swiglu", "norm": "layer"}, {"activation": "gelu"}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_wide_models_on_several_threads_keep_the_promise(settings_of_model, precision):
    base = Probe(
        model="transformer", width=256, heads=4, depth=1, vocab=64, context=32, batch_tokens=512, tokens=1024,
        evals=1, precision=precision, clip=0.5, ema=0.5, **settings_of_model,
    )  # fmt: skip
    probes = [base, base.replace(seed=1, lr=0.003), base.replace(seed=2, clip=None)]
    with settings(threads=3):
        together = train(probes, "cpu")
        for probe, member in zip(probes, together, strict=True):
            (alone,) = train([probe], "cpu")
            assert torch.equal(alone.weights, member.weights)
            assert alone.loss == member.loss and alone.records[-1]["train_loss"] == member.records[-1]["train_loss"]
