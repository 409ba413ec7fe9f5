"""Triton kernels for stacks of small transformers on CUDA; nothing outside this package imports triton.

Import the modules only where a CUDA device is used. Every kernel runs over a grid (blocks, members) whose
block sizes depend on the shape of one member alone, adds in one fixed order and uses no atomics: a member's
bits do not depend on how many are stacked beside it.

`transformer` holds a whole forward and backward pass; the other modules hold its parts.
"""
