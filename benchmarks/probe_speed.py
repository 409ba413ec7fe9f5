"""Probe training speed against how people train small models, in one run: ``python benchmarks/probe_speed.py``.

On a GPU, for five shapes from 64 to 768 wide, tokens per second of all members together:

* ours: `workbench.probes` through its public `train`, in bf16, and the step of `probes.kernels` alone;
* nanoGPT-style PyTorch: one model, autocast, fused AdamW, eager and through torch.compile;
* JAX, where installed: ``jit(vmap(scan))`` over as many members.

On a CPU, on one core: the model of nanoGPT's CPU recipe (4 layers of 128, context 64, batch 12) in its own form
and in ours, alone and stacked, eager and compiled, with the loss that each reaches on the same language after the
same number of tokens.

Beside each rate: the ratio to the fastest PyTorch peer, the share of peak arithmetic (MFU; 6 FLOPs a weight and
token, and causal attention) and the share of the model's own roofline: the larger of arithmetic over its peak and
the bytes that a fused step must move over bandwidth. Architecture, shapes and number formats are the same for all.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import sys
import time
from pathlib import Path

if "--cpu" in sys.argv:
    os.environ["OMP_NUM_THREADS"] = "1"

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from probe_peers import Shape, attempt, jax_peer, torch_peer

#: Shape, members, and the steps of our timed run
GPU = {
    "d64 L2": (Shape(64, 2, 1, 128, 256, 8), 256, 1500),
    "d128 L4": (Shape(128, 4, 2, 128, 256, 16), 256, 250),
    "d256 L4": (Shape(256, 4, 4, 256, 1024, 32), 16, 400),
    "d512 L8": (Shape(512, 8, 8, 512, 4096, 32), 1, 400),
    "d768 L12": (Shape(768, 12, 12, 512, 256, 64), 1, 100),
}
#: nanoGPT's CPU recipe; its 65 characters rounded up to 64 tokens of a language with known entropy
CPU = Shape(128, 4, 4, 64, 64, 12)
#: FLOP/s in bf16 and bytes/s, measured on one H200 with random data; other devices give their own
PEAK = {"NVIDIA H200": (790e12, 4.3e12)}


def ours(shape: Shape, members: int, steps: int, precision: str, device: str, **options: object) -> dict:
    """Our trainer, through its public door: its pace after the first third of the run, and the losses it ends with."""
    from workbench.probes import Probe
    from workbench.probes.trainer import train

    batch_tokens = shape.batch * shape.context
    probe = Probe(
        task="bigram", vocab=shape.vocab, context=shape.context, model="transformer", width=shape.width,
        depth=shape.depth, heads=shape.heads, batch_tokens=batch_tokens, tokens=batch_tokens * steps,
        precision=precision, lr=options.pop("lr", 1e-3), evals=1,
    )  # fmt: skip
    clock = time.perf_counter if device == "cuda" else time.process_time
    seen: list[tuple[float, float]] = []
    results = train(
        [probe.replace(seed=seed) for seed in range(members)], device,
        on_progress=lambda fraction, _: seen.append((clock(), fraction)), **options,
    )  # fmt: skip
    start, before = seen[len(seen) // 3]  # the first slices compile and capture
    end, after = seen[-1]
    rate = members * probe.tokens * (after - before) / (end - start)
    losses = [result.records[-1]["loss"] for result in results]
    return {"tokens_s": rate, "ms": 1e3 * members * batch_tokens / rate, "loss": sum(losses) / len(losses)}


def kernels(shape: Shape, members: int, residual: torch.dtype) -> dict:
    """A step of `probes.kernels` alone: forward, backward and AdamW in a replayed graph, on random tokens."""
    from kernel_lab import Step

    from workbench.probes.kernels.transformer import choose_plan

    sizes = (shape.width, shape.depth, shape.heads, shape.context, shape.vocab, shape.batch, members)
    step = Step(sizes, choose_plan(shape.width, shape.heads, shape.context, shape.vocab), residual)
    ms = step.milliseconds(0.5)
    return {"tokens_s": 1e3 * step.count / ms, "ms": ms}


def roofline(shape: Shape, members: int, device: str) -> tuple[float, float]:
    """Peak FLOP/s, and the tokens/s that neither arithmetic nor memory traffic of a fused step would allow to pass.

    Bytes: 110 L d + 14 V a token for activations in bf16, 36 a parameter and step for AdamW with a bf16 copy.
    """
    peak, bandwidth = next((v for k, v in PEAK.items() if k in device), (math.nan, math.nan))
    params = 12 * shape.depth * shape.width**2 + (2 * shape.vocab + shape.context) * shape.width
    tokens = shape.batch * shape.context
    traffic = 110 * shape.depth * shape.width + 14 * shape.vocab + 36 * params / tokens
    return peak, 1 / max(shape.flops / peak, traffic / bandwidth) if peak == peak else math.nan


def gpu(names: list[str], seconds: float, skip: set[str]) -> list[dict]:
    device = torch.cuda.get_device_name()
    rows = []
    for name in names:
        shape, members, steps = GPU[name]
        large = wider(shape, members)
        todo = {
            "ours, train": (members, lambda s=shape, m=members, n=steps: ours(s, m, n, "bf16", "cuda")),
            "ours, kernels": (members, lambda s=shape, m=members: kernels(s, m, torch.float32)),
            "ours, kernels, bf16 stream": (members, lambda s=shape, m=members: kernels(s, m, torch.bfloat16)),
            "torch, eager": (1, lambda s=shape: torch_peer(s, "cuda", False, seconds)),
            "torch, compiled": (1, lambda s=shape: torch_peer(s, "cuda", True, seconds)),
            "torch, compiled, large batch": (1, lambda s=large: torch_peer(s, "cuda", True, seconds)),
        }
        if importlib.util.find_spec("jax"):
            todo["jax, jit(vmap(scan))"] = (members, lambda s=shape, m=members: jax_peer(s, m))
        found = {}
        for label, (count, function) in todo.items():
            if any(word in label for word in skip):
                continue
            found[label] = {"shape": name, "who": label, "members": count} | attempt(function)
            torch.cuda.empty_cache()
        best = max((r["tokens_s"] for k, r in found.items() if k in PEERS and "tokens_s" in r), default=math.nan)
        peak, ceiling = roofline(shape, members, device)
        for row in found.values():
            if "tokens_s" in row:
                rate = row["tokens_s"]
                row |= {"ratio": rate / best, "mfu": rate * shape.flops / peak, "roofline": rate / ceiling}
            print(line(row), flush=True)
        rows += found.values()
    return rows


#: One model in PyTorch, the way of most people: what the ratio is taken to
PEERS = ("torch, eager", "torch, compiled")


def wider(shape: Shape, members: int) -> Shape:
    """One model at a batch that fills the GPU (up to 128 sequences): the most that a lone model could do."""
    return Shape(shape.width, shape.depth, shape.heads, shape.context, shape.vocab, min(128, shape.batch * members))


def cpu(steps: int) -> list[dict]:
    """One core; every row trains on the same language for the same tokens, and its last losses are compared."""
    torch.set_num_threads(1)
    batches, entropy = language(CPU, steps)
    tail = max(1, steps // 10)
    rows = []

    def peer(compiled: bool, classic: bool) -> dict:
        row = torch_peer(CPU, "cpu", compiled, 0, classic, batches)
        return row | {"loss": sum(row.pop("losses")[-tail:]) / tail}

    todo = {
        "nanoGPT recipe (LayerNorm, GELU), eager fp32": (1, lambda: peer(False, True)),
        "same loop, our architecture, eager fp32": (1, lambda: peer(False, False)),
        "nanoGPT recipe, compiled fp32": (1, lambda: peer(True, True)),
        "ours, fp32": (1, lambda: ours(CPU, 1, steps, "fp32", "cpu")),
        "ours, fp32, 8 stacked": (8, lambda: ours(CPU, 8, max(20, steps // 4), "fp32", "cpu")),
        "ours, bf16": (1, lambda: ours(CPU, 1, steps, "bf16", "cpu")),
        "ours, bf16, 8 stacked": (8, lambda: ours(CPU, 8, max(20, steps // 4), "bf16", "cpu")),
    }
    base = math.nan
    for label, (count, function) in todo.items():
        row = {"shape": "d128 L4", "who": label, "members": count} | attempt(function)
        if "tokens_s" in row:
            base = row["tokens_s"] if math.isnan(base) else base
            row["ratio"] = row["tokens_s"] / base
        rows.append(row)
        print(line(row), flush=True)
    print(f"entropy of the language: {entropy:.4f} nats")
    return rows


def language(shape: Shape, steps: int) -> tuple[torch.Tensor, float]:
    """Training batches [steps, B, T + 1] of the language that our probes of this shape learn, and its entropy."""
    from workbench.probes import Probe

    tokens = shape.batch * shape.context
    probe = Probe(task="bigram", vocab=shape.vocab, context=shape.context, batch_tokens=tokens, tokens=tokens * steps)
    data = probe.task_settings.build([probe], torch.device("cpu"))
    inputs, targets = [], []
    for step in range(steps):
        x, y = data.batch(*(rows[0] for rows in data.block(step, 1)))
        inputs.append(x[0])
        targets.append(y[0].view(x[0].shape))
    joined = torch.cat([torch.stack(inputs), torch.stack(targets)[..., -1:]], -1)
    return joined, float(data.languages[0].entropy)


def line(row: dict) -> str:
    start = f"{row['shape']:9} {row['who']:46} E={row['members']:<4}"
    if "error" in row:
        return f"{start} failed: {row['error']}"
    rate = row["tokens_s"]
    text = f"{start} {rate / 1e6:9.3f} Mtok/s {row['ms']:9.3f} ms {row['ratio']:7.2f}x"
    if "mfu" in row:
        text += f" {row['mfu']:6.1%} MFU {row['roofline']:6.1%} of roofline"
    return text + (f" loss {row['loss']:.4f}" if "loss" in row else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="one core of the CPU, also where there is a GPU")
    parser.add_argument("--shapes", default=",".join(GPU), help="of the GPU table, separated by commas")
    parser.add_argument("--seconds", type=float, default=2.0, help="timed for each PyTorch peer")
    parser.add_argument("--steps", type=int, default=400, help="of training in the CPU table")
    parser.add_argument("--skip", default="", help="rows whose name holds one of these words are left out")
    parser.add_argument("--out", help="JSON file for the rows")
    args = parser.parse_args()
    on_gpu = torch.cuda.is_available() and not args.cpu
    skip = {word for word in args.skip.split(",") if word}
    rows = gpu(args.shapes.split(","), args.seconds, skip) if on_gpu else cpu(args.steps)
    if args.out:
        about = {
            "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
            "torch": torch.__version__, "python": platform.python_version(), "rows": rows,
        }  # fmt: skip
        Path(args.out).write_text(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
