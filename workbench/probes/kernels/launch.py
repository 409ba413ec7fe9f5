"""What all kernels share: block sizes, and matrix products that write straight into the flat gradient."""

from __future__ import annotations

import torch
import triton

__all__ = ["BLOCKS", "EPS", "block_of", "blocks", "even_ids", "power_of_two", "product", "weight_gradient"]

#: Added to the mean square in RMSNorm.
EPS = 1e-6

#: Largest blocks, warps and pipeline stages of each kernel, from a size (width or context) on; as measured on an
#: H200 by ``benchmarks/kernel_lab.py``. The last two numbers are warps and stages.
BLOCKS: dict[str, dict[int, tuple[int, ...]]] = {
    "attention": {0: (64, 64, 4, 2), 257: (128, 64, 4, 3)},  # by context: queries, keys
    "attention_backward": {0: (64, 4, 1), 257: (64, 4, 2)},  # by context: queries and keys
    "branch_attention": {0: (4, 1)},  # by context
    "branch_attention_backward": {0: (4, 1), 128: (8, 1)},  # by context
    "head": {0: (64, 4, 1)},  # by width: tokens
    "linear": {0: (128, 128, 64, 4, 3), 256: (128, 128, 64, 8, 3), 512: (128, 256, 64, 8, 3)},  # by inputs
    "linear_row": {0: (128, 64, 64, 4, 3), 128: (64, 128, 64, 4, 3), 256: (128, 256, 64, 8, 4)},  # by outputs
    "weight_gradient": {0: (64, 64, 64, 4, 4), 128: (64, 128, 128, 4, 4), 256: (64, 128, 256, 8, 3)},  # by inputs
    "mlp": {0: (128, 64, 4, 3), 128: (128, 64, 8, 3)},  # by width: tokens, hidden units
    "mlp_input": {0: (64, 64, 4, 3), 128: (64, 64, 4, 2)},
    "mlp_weight": {0: (64, 64, 4, 3), 128: (64, 64, 4, 2)},
    "embedding": {0: (64, 128, 64, 4, 3)},  # by width: words, features, tokens
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


def even_ids(ids: torch.Tensor) -> torch.Tensor:
    """Ids [E, B, T] such that all E B sequences lie one stride apart: a slice of longer sequences stays a view."""
    even = ids.stride(2) == 1 and ids.stride(0) == ids.stride(1) * ids.shape[1]
    return ids if even else ids.contiguous()


def product(a: torch.Tensor, b: torch.Tensor, each: bool = False) -> torch.Tensor:
    """a b by the vendor's library; member by member with `each`, so that no member's kernel depends on the others."""
    if not each or len(a) == 1:
        return torch.bmm(a, b)
    out = torch.empty(*a.shape[:2], b.shape[2], dtype=a.dtype, device=a.device)
    for i in range(len(a)):  # a stack of one: the same library call as for a member alone
        torch.bmm(a[i : i + 1], b[i : i + 1], out=out[i : i + 1])
    return out


def weight_gradient(
    inputs: torch.Tensor, grad: torch.Tensor, out: torch.Tensor, factor: float = 1.0, each: bool = False
) -> None:
    """out = inputs^T grad times `factor`, by the vendor's library: [E, n, K], [E, n, N] to a float32 view [E, K, N].

    The product is stored in float32 as it was accumulated, straight into the view: no cast, no copy.
    """
    if not inputs.is_cuda:
        out.copy_(torch.bmm(inputs.mT.float(), grad.float()))
    elif not each or len(inputs) == 1:
        torch.bmm(inputs.mT, grad, out_dtype=torch.float32, out=out)
    else:
        for i in range(len(inputs)):
            torch.bmm(inputs[i : i + 1].mT, grad[i : i + 1], out_dtype=torch.float32, out=out[i : i + 1])
    if factor != 1.0:
        out.mul_(factor)
