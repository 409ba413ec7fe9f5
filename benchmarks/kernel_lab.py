"""Timings of the CUDA kernels and of whole training steps built from them: ``python benchmarks/kernel_lab.py``.

For each shape and plan: tokens per second of a whole step (forward, backward, AdamW) in a replayed CUDA graph on
random tokens, model FLOPs utilization, the equality of a member's gradients between stacks of different size, and
the kernels that take the time. ``--sweep`` tries other block sizes than those in `kernels.launch.BLOCKS`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from workbench.probes.kernels import launch
from workbench.probes.kernels.adamw import adamw_
from workbench.probes.kernels.transformer import FusedTransformer, Plan, choose_plan

PEAK = 790e12  # bf16 FLOP/s of one H200 on random data, measured
F32, B16 = torch.float32, torch.bfloat16

#: width, depth, heads, context, vocabulary, sequences a member, members
SHAPES = {
    "d64": (64, 2, 1, 128, 256, 8, 256),
    "d128": (128, 4, 2, 128, 256, 16, 256),
    "d256": (256, 4, 4, 256, 1024, 32, 16),
    "d512": (512, 8, 8, 512, 4096, 32, 1),
    "d768": (768, 12, 12, 512, 256, 64, 1),
}
#: attention, mlp, head, products and rows of a `Plan`, and the dtype of the residual stream
VARIANTS = {
    "d64": [
        ("branch", "branch", "branch", "own", True, F32),
        ("branch", "branch", "branch", "own", True, B16),
        ("branch", "branch", "branch", "stack", False, B16),
    ],
    "d128": [
        ("parts", "branch", "branch", "own", True, F32),
        ("parts", "branch", "branch", "own", True, B16),
        ("parts", "branch", "branch", "stack", False, B16),
        ("parts", "epilogue", "branch", "own", True, B16),
    ],
    "d256": [
        ("parts", "epilogue", "parts", "own", True, F32),
        ("parts", "epilogue", "parts", "own", True, B16),
        ("parts", "epilogue", "parts", "own", False, B16),
        ("parts", "epilogue", "parts", "stack", False, B16),
    ],
    "d512": [
        ("parts", "epilogue", "parts", "each", False, F32),
        ("parts", "epilogue", "parts", "each", False, B16),
        ("parts", "epilogue", "parts", "own", False, B16),
    ],
    "d768": [
        ("parts", "epilogue", "parts", "each", False, F32),
        ("parts", "epilogue", "parts", "each", False, B16),
        ("parts", "epilogue", "parts", "own", False, B16),
    ],
}
#: Variant of each shape whose blocks are swept and whose kernels are listed.
BEST = {"d64": 0, "d128": 1, "d256": 1, "d512": 1, "d768": 1}
#: Other block sizes to try, by shape: kernel, then candidates in the order of `launch.BLOCKS`.
SWEEPS = {
    "d64": {"weight_gradient": [(128, 64, 64, 4, 3)], "mlp": [(64, 64, 4, 3)]},
    "d128": {"linear_row": [(128, 128, 64, 4, 3)], "weight_gradient": [(64, 128, 128, 8, 4)]},
    "d256": {
        "linear": [(128, 128, 64, 4, 3), (128, 64, 64, 4, 3), (64, 256, 64, 4, 3), (128, 128, 32, 4, 4)],
        "linear_row": [(128, 256, 64, 8, 3), (128, 256, 32, 8, 4)],
        "weight_gradient": [(64, 128, 256, 8, 4), (32, 128, 256, 8, 5), (64, 128, 128, 4, 3)],
    },
    "d512": {"linear": [(128, 256, 64, 8, 4)], "attention_backward": [(64, 4, 1)]},
    "d768": {},
}


class Step:
    """Weights, optimizer state and tokens of a stack, and one training step of it."""

    def __init__(self, shape: tuple, plan: Plan, residual: torch.dtype, members: int | None = None) -> None:
        width, self.depth, heads, context, vocab, batch, many = shape
        self.members = members or many
        self.shapes = {"embedding": (vocab, width), "positions": (context, width)}
        for layer in range(self.depth):
            self.shapes |= {
                f"{layer}.qkv": (width, 3 * width), f"{layer}.attention_out": (width, width),
                f"{layer}.up": (width, 4 * width), f"{layer}.down": (4 * width, width),
            }  # fmt: skip
        self.shapes["head"] = (width, vocab)
        self.params = sum(math.prod(s) for s in self.shapes.values())
        padded = -(-self.params // 64) * 64
        generator = torch.Generator("cuda").manual_seed(0)
        self.data = torch.empty(self.members, padded, device="cuda")
        for row in self.data:  # member by member, so that the first members are equal in every stack
            row.normal_(0, width**-0.5, generator=generator)
        self.low, self.grad = self.data.to(B16), torch.zeros_like(self.data)
        self.m, self.v = torch.zeros_like(self.data), torch.zeros_like(self.data)
        low = {n: v for n, v in self.views(self.low).items() if n not in ("embedding", "positions")}
        self.fused = FusedTransformer(
            low, self.views(self.data), self.views(self.grad), self.depth, heads, residual, plan
        )
        self.tokens = torch.empty(self.members, batch, context + 1, dtype=torch.int32, device="cuda")
        for one in self.tokens:
            one.random_(vocab, generator=generator)
        self.count = self.members * batch * context
        self.flops = 6 * (12 * self.depth * width**2 + width * vocab) + 6 * self.depth * width * context
        self.now = torch.zeros(1, dtype=torch.int64, device="cuda")
        one = torch.ones(1000, self.members, device="cuda")
        self.tables = (-1e-3 * one, 1e-8 * one, one, 0.1 * one[0], 0.05 * one[0])

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = flat[:, : sum(sizes)].split(sizes, dim=1)
        return {n: p.view(-1, *shape) for (n, shape), p in zip(self.shapes.items(), parts, strict=True)}

    def run(self) -> torch.Tensor:
        loss = self.fused.loss_and_gradient(self.tokens[..., :-1], self.tokens[..., 1:])
        adamw_(self.data, self.grad, self.m, self.v, self.low, self.now, *self.tables)
        return loss

    def graph(self, unroll: int = 2) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(unroll):
                self.run()
        return graph

    def milliseconds(self, seconds: float = 0.25) -> float:
        """Median time of a step, over replays that last some `seconds`."""
        graph, laps, start = self.graph(), [], time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        while time.perf_counter() - start < seconds or len(laps) < 5:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            laps.append(begin.elapsed_time(end) / 2)
        return sorted(laps)[len(laps) // 2]


def title(variant: tuple) -> str:
    rows = "+rows" if variant[4] else ""
    return f"{'/'.join(variant[:4])}{rows} {'fp32' if variant[5] == F32 else 'bf16'} stream"


def measure(name: str, variant: tuple, members: int | None = None) -> dict:
    step = Step(SHAPES[name], Plan(*variant[:5]), variant[5], members)
    ms = step.milliseconds()
    rate = step.count / ms * 1e3
    del step
    torch.cuda.empty_cache()
    return {"shape": name, "variant": title(variant), "ms": ms, "mtok_s": rate / 1e6}


def profile(name: str, variant: tuple, top: int = 14) -> list:
    """The kernels of one step by time, microseconds."""
    step = Step(SHAPES[name], Plan(*variant[:5]), variant[5])
    step.run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as prof:
        for _ in range(3):
            step.run()
        torch.cuda.synchronize()
    rows = [(e.self_device_time_total / 3, e.count / 3, e.key[:70]) for e in prof.key_averages()]
    return sorted(rows, reverse=True)[:top]


def equality(name: str, variant: tuple) -> dict:
    """Whether member 0's loss and gradients carry the same bits alone, among 3 and in the whole stack."""

    def member(members: int) -> tuple:
        step = Step(SHAPES[name], Plan(*variant[:5]), variant[5], members)
        full = Step(SHAPES[name], Plan(*variant[:5]), variant[5], 1)
        step.data[0].copy_(full.data[0])
        step.low[0].copy_(full.low[0])
        step.tokens[0].copy_(full.tokens[0])
        step.grad.fill_(math.nan)
        losses = [step.run()[0].item() for _ in range(3)]
        return losses, step.data[0, : step.params].clone(), {n: g[0].clone() for n, g in step.views(step.grad).items()}

    many = SHAPES[name][-1]
    solo = member(1)
    result = {}
    for count in sorted({1, 3, 16, many}):
        if count > max(many, 3):
            continue
        other = member(count)
        unequal = [n for n in solo[2] if not torch.equal(solo[2][n], other[2][n])]
        result[count] = bool(torch.equal(solo[1], other[1]) and solo[0] == other[0]) or f"differs in {unequal}"
    torch.cuda.empty_cache()
    return result


def attention_against_torch(name: str) -> dict:
    """Forward and backward of the attention kernel beside torch's fused one, microseconds."""
    from torch.nn.functional import scaled_dot_product_attention
    from triton.testing import do_bench

    from workbench.probes.kernels.attention import attention, attention_backward

    width, _, heads, context, _, batch, members = SHAPES[name]
    sequences = min(batch * members, 2**18 // context)
    qkv = torch.randn(sequences, context, 3 * width, device="cuda", dtype=B16)
    out, lse = attention(qkv, heads)
    leaf = qkv.view(sequences, context, 3, heads, -1).permute(2, 0, 3, 1, 4).detach().requires_grad_()
    mixed = scaled_dot_product_attention(*leaf, is_causal=True)
    dout = torch.randn_like(mixed)

    def us(function) -> float:
        return 1e3 * do_bench(function, warmup=5, rep=30, return_mode="median")

    return {
        "ours": us(lambda: attention(qkv, heads)),
        "ours backward": us(lambda: attention_backward(qkv, out, lse, torch.empty_like(out), heads)),
        "torch": us(lambda: scaled_dot_product_attention(*leaf, is_causal=True)),
        "torch backward": us(lambda: torch.autograd.grad(mixed, leaf, dout, retain_graph=True)),
    }


def quality(width: int, depth: int, members: int, residual: torch.dtype, steps: int = 400) -> torch.Tensor:
    """Training loss of every member over the last 50 steps, on sequences of one random Markov chain."""
    generator = torch.Generator("cuda").manual_seed(1)
    shape = (width, depth, width // 64, 128, 256, 8, members)
    step = Step(shape, choose_plan(width, max(1, width // 64), 128, 256), residual)
    for name, view in step.views(step.data).items():
        std = 0.5 if name in ("embedding", "positions") else view.shape[1] ** -0.5
        std *= (2 * depth) ** -0.5 if name.endswith(("out", "down")) else 1.0
        view.normal_(0, std * (name != "head"), generator=generator)
    step.low.copy_(step.data)
    chain = (2 * torch.randn(256, 256, device="cuda", generator=generator)).softmax(1).cumsum(1)
    count = torch.arange(1, steps + 1, device="cuda", dtype=torch.float64)[:, None]
    second = (1 - 0.95**count).sqrt()
    ones = torch.ones(steps, members, device="cuda")
    rate = 5e-3 * torch.minimum(count / 20, torch.ones_like(count))
    step.tables = (
        (-rate / (1 - 0.9**count) * second * ones).float().contiguous(), (1e-8 * second * ones).float().contiguous(),
        ones, 0.1 * ones[0], 0.05 * ones[0],
    )  # fmt: skip
    losses = []
    for _ in range(steps):
        token = torch.randint(256, (members * 8,), device="cuda", generator=generator)
        path = [token]
        for _ in range(128):
            drawn = torch.rand(len(token), 1, device="cuda", generator=generator)
            token = torch.searchsorted(chain[token], drawn)[:, 0].clamp_max(255)
            path.append(token)
        step.tokens.copy_(torch.stack(path, -1).view(members, 8, 129))
        losses.append(step.run())
        step.now += 1
    return torch.stack(losses[-50:]).double().mean(0)


def candidates(name: str) -> list[tuple[str, tuple]]:
    return [(kernel, entry) for kernel, entries in SWEEPS[name].items() for entry in entries]


def swapped(kernel: str, entry: tuple) -> dict:
    """Put `entry` in the place of all of a kernel's; returns what was there."""
    before = launch.BLOCKS[kernel]
    launch.BLOCKS[kernel] = dict.fromkeys(before, entry)
    return before


def sweep(name: str, variant: tuple) -> list[dict]:
    rows = []
    base = measure(name, variant)["ms"]
    for kernel, entry in candidates(name):
        before = swapped(kernel, entry)
        try:
            ms = measure(name, variant)["ms"]
        except Exception as error:
            rows.append({"shape": name, "kernel": kernel, "blocks": entry, "error": str(error).splitlines()[0][:80]})
            continue
        finally:
            launch.BLOCKS[kernel] = before
        rows.append({"shape": name, "kernel": kernel, "blocks": entry, "us": (ms - base) * 1e3})
    return rows


def warm(jobs: int, with_sweep: bool, shapes: list[str]) -> None:
    """Compile everything in parallel processes; their files end in Triton's cache."""
    tasks = [(n, i, -1) for n in shapes for i in range(len(VARIANTS[n]))]
    if with_sweep:
        tasks += [(n, BEST[n], c) for n in shapes for c in range(len(candidates(n)))]
    running = []
    for part in range(jobs):
        mine = tasks[part::jobs]
        if mine:
            running.append(subprocess.Popen([sys.executable, __file__, "--compile", json.dumps(mine)]))
    for process in running:
        process.wait()


def compile_only(tasks: list) -> None:
    for name, index, candidate in tasks:
        *small, _batch, _members = SHAPES[name]
        variant = VARIANTS[name][index]
        kernel, entry = candidates(name)[candidate] if candidate >= 0 else (None, None)
        before = swapped(kernel, entry) if kernel else None
        try:
            Step((*small, SHAPES[name][5], 1), Plan(*variant[:5]), variant[5]).run()
        except Exception as error:
            print("compile", name, title(variant), kernel, entry, str(error).splitlines()[0][:100], flush=True)
        if kernel:
            launch.BLOCKS[kernel] = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", help=argparse.SUPPRESS)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--quality", action="store_true", help="train with both dtypes of the residual stream")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=None)
    args = parser.parse_args()
    if args.compile:
        compile_only(json.loads(args.compile))
        return
    shapes = args.shapes.split(",")
    start = time.perf_counter()
    warm(args.jobs, args.sweep, shapes)
    print(f"compiled in {time.perf_counter() - start:.0f} s", flush=True)
    results = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": [], "sweep": []}
    for name in shapes:
        flops = 0
        for variant in VARIANTS[name]:
            try:
                row = measure(name, variant)
            except Exception as error:
                print(name, title(variant), "FAILED", str(error)[:300], flush=True)
                continue
            width, depth, _, context, vocab, *_ = SHAPES[name]
            flops = 6 * (12 * depth * width**2 + width * vocab) + 6 * depth * width * context
            row["mfu"] = row["mtok_s"] * 1e6 * flops / PEAK
            results["rows"].append(row)
            print(
                f"{name:5} {row['variant']:46} {row['ms']:8.3f} ms {row['mtok_s']:8.2f} Mtok/s {row['mfu']:6.1%} MFU",
                flush=True,
            )
        try:
            row = equality(name, VARIANTS[name][BEST[name]])
            results.setdefault("equality", {})[name] = {str(k): v for k, v in row.items()}
            print(name, "member equals solo among", row, flush=True)
        except Exception as error:
            print(name, "equality FAILED", str(error)[:300], flush=True)
        try:
            rows = profile(name, VARIANTS[name][BEST[name]])
            results.setdefault("profile", {})[name] = rows
            for us, count, key in rows:
                print(f"    {us:9.1f} us {count:5.1f}x {key}", flush=True)
        except Exception as error:
            print(name, "profile FAILED", str(error)[:300], flush=True)
        try:
            row = attention_against_torch(name)
            results.setdefault("attention", {})[name] = row
            print("    attention, us:", {k: round(v, 1) for k, v in row.items()}, flush=True)
        except Exception as error:
            print(name, "attention FAILED", str(error)[:300], flush=True)
        if args.out:
            Path(args.out).write_text(json.dumps(results, indent=1))
    for name, few in (("d64", (1, 16)), ("d128", (1, 16)), ("d256", (1, 4)), ("d512", (4,))):
        for members in few if name in shapes else ():
            row = measure(name, VARIANTS[name][BEST[name]], members) | {"members": members}
            results["rows"].append(row)
            print(name, members, "members", round(row["mtok_s"], 2), "Mtok/s", flush=True)
    for width, depth, members in ((64, 2, 64), (128, 4, 16)) if args.quality else ():
        exact, rough = (quality(width, depth, members, dtype) for dtype in (F32, B16))
        gap = rough - exact
        row = [float(v) for v in (exact.mean(), gap.mean(), gap.std() / members**0.5, exact.std())]
        results.setdefault("quality", {})[f"d{width}"] = row
        print(
            f"d{width} loss {row[0]:.5f}, bf16 stream {row[1]:+.5f} +- {row[2]:.5f}; seeds spread {row[3]:.5f}",
            flush=True,
        )
    for name in shapes if args.sweep else []:
        rows = sweep(name, VARIANTS[name][BEST[name]])
        results["sweep"] += rows
        for row in rows:
            print(name, row["kernel"], row["blocks"], row.get("error") or f"{row['us']:+.0f} us", flush=True)
        if args.out:
            Path(args.out).write_text(json.dumps(results, indent=1))
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
