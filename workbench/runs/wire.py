"""The wire format of protocol buffers: fields of a message, without knowing what they mean.

A message is a row of fields, each a key (number and wire type in one varint) and its content
(https://protobuf.dev/programming-guides/encoding). Nothing is copied: a field is told by where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["fields", "varint", "zigzag"]


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of the message between two places of `data`.

    Yields:
        Number, wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes), and where the content
        begins and ends.

    Raises:
        ValueError: the bytes are no message.
    """
    while at < end:
        key, at = varint(data, at, end)
        number, kind = key >> 3, key & 7
        if kind == 0:
            begin = at
            _, at = varint(data, at, end)
            yield number, kind, begin, at
            continue
        if kind == 2:
            size, at = varint(data, at, end)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > end:
            raise ValueError("a field ends behind its message")
        yield number, kind, at, at + size
        at += size


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The unsigned number that begins at a place of `data`, seven bits a byte, and where it ends.

    Raises:
        ValueError: it has no end before `end`, or more than 64 bits.
    """
    value = shift = 0
    while at < end:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            break
    raise ValueError("a varint without an end")


def zigzag(value: int) -> int:
    """The signed number of a ``sint`` field: 0, -1, 1, -2, ... are stored as 0, 1, 2, 3, ..."""
    return (value >> 1) ^ -(value & 1)
