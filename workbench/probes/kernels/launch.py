"""What all kernels share: block sizes, and matrix products that write straight into the flat gradient."""

from __future__ import annotations

import torch
import triton

__all__ = ["BLOCKS", "EPS", "block_of", "blocks", "power_of_two", "product", "weight_gradient"]

#: Added to the mean square in RMSNorm.
EPS = 1e-6

#: Largest blocks, warps and pipeline stages of each kernel, from a size (width or context) on; as measured on an
#: H200 by ``benchmarks/kernel_lab.py``. The last two numbers are warps and stages.
BLOCKS: dict[str, dict[int, tuple[int, ...]]] = {
    "attention": {0: (128, 128, 8, 1), 129: (128, 64, 4, 3)},  # by context: queries, keys
    "attention_backward": {0: (128, 8, 1), 129: (64, 4, 2)},  # by context: queries and keys
    "branch_attention": {0: (4, 1), 128: (8, 1)},  # by context
    "branch_attention_backward": {0: (4, 1), 128: (8, 1)},  # by context
    "head": {0: (64, 8, 1)},  # by width: tokens
    "linear": {0: (128, 128, 64, 8, 3), 256: (128, 256, 64, 8, 3)},  # by inputs: tokens, outputs, inputs
    "mlp": {0: (128, 64, 4, 2), 128: (128, 64, 8, 2)},  # by width: tokens, hidden units
    "mlp_input": {0: (128, 64, 4, 2), 128: (128, 64, 8, 2)},
    "mlp_weight": {0: (64, 64, 4, 2), 128: (64, 64, 8, 2)},
    "embedding": {0: (128, 128, 64, 8, 2)},  # by width: words, features, tokens
    "rows": {0: (4096, 4, 1)},  # by width: elements of a tile in the norm and loss kernels
}


def blocks(kernel: str, size: int) -> tuple[int, ...]:
    """The entry of `BLOCKS` for a size: never a function of how many members are stacked."""
    table = BLOCKS[kernel]
    return table[max(start for start in table if start <= size)]


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return triton.next_power_of_2(n)


def block_of(n: int, largest: int) -> int:
    """The largest power of two up to `largest` that divides n.

    Raises:
        ValueError: it is below 16, the smallest edge of a matrix product on the tensor cores.
    """
    block = min(n & -n, largest)
    if block < 16:
        raise ValueError(f"{n} is not a multiple of 16; the kernels need one, take the plain path instead.")
    return block


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b, a batched product in the inputs' dtype, accumulated in float32."""
    return torch.bmm(a, b)


def weight_gradient(inputs: torch.Tensor, grad: torch.Tensor, out: torch.Tensor) -> None:
    """out = inputs^T grad: [E, n, K] and [E, n, N] to a float32 view [E, K, N] of the flat gradient.

    The product is stored in float32 as it was accumulated, straight into the view: no cast, no copy.
    """
    if inputs.is_cuda:
        torch.bmm(inputs.mT, grad, out_dtype=torch.float32, out=out)
    else:
        out.copy_(torch.bmm(inputs.mT.float(), grad.float()))
