"""Real text: the standard library's own source, or a prepared text, in windows without replacement."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import choice, own, whole
from workbench.probes.rows import row_sum
from workbench.probes.tasks.base import Data, Inputs, Predict, Task
from workbench.probes.tasks.corpus import Corpus, corpus
from workbench.probes.tasks.random import stream_key
from workbench.probes.tasks.shuffle import shuffled

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["Text", "TextData"]

_TRAINING, _SUBSET = 0, 2


def _checksum(name: str, value: object) -> str:
    """The start of a SHA-256 in hexadecimal digits, or nothing."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{0,64}", value.lower()):
        raise ValueError(f"{name}={value!r} is not the start of a SHA-256; give up to 64 hexadecimal digits.")
    return value.lower()


def _length(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool | str) or not hasattr(value, "__float__") or float(value) != int(value):
        raise TypeError(f"{name}={value!r} is neither a whole number nor None.")
    if not 1 <= int(value) <= 10**12:
        raise ValueError(f"{name}={value!r} is out of range; it must lie between 1 and 1e12, or be None for all.")
    return int(value)


@dataclass(frozen=True)
class Text(Task):
    """Next-token prediction in real text. There is no known floor: only what is held out can be compared.

    The training text is cut into windows of `context` + 1 tokens that overlap by one, so that every token
    is a target once an epoch. Each epoch is an order of its own of all windows: nothing is seen twice
    before everything is seen once, and `tokens` / `unique_tokens` is the number of epochs.
    """

    name: ClassVar[str] = "text"

    vocab: int = whole(256, 2, 65536, "vocabulary size V; for the standard library 256 is bytes, more adds byte pairs")
    context: int = whole(64, 1, 65536, "tokens of a sequence")
    corpus: str = choice("stdlib", ("stdlib", "prepared"), "the standard library's source, or a registered token file")
    checksum: str = own("", _checksum, "start of the text's SHA-256; any other text is refused")
    unique_tokens: int | None = own(
        None, _length, "training tokens to draw from, a random part of the text; None: all of it", member=True
    )
    heldout_tokens: int = whole(2**15, 1, 2**30, "held-out tokens that the loss is averaged over")

    def check(self) -> None:
        if self.corpus == "prepared" and len(self.checksum) < 16:
            raise ValueError(
                f"corpus='prepared' with checksum={self.checksum!r} names no text; "
                "give at least 16 digits, as workbench.probes.tasks.corpus.register(path) returns them."
            )
        if self.corpus == "stdlib" and self.vocab < 256:
            raise ValueError(f"vocab={self.vocab} cannot hold bytes; the standard library's source needs at least 256.")
        if self.unique_tokens is not None and self.unique_tokens < self.context:
            raise ValueError(
                f"unique_tokens={self.unique_tokens} is less than one context of {self.context} tokens; raise it."
            )

    @property
    def inputs(self) -> Inputs:
        return Inputs("tokens", self.vocab, self.context)

    @property
    def outputs(self) -> int:
        return self.vocab

    def text(self) -> Corpus:
        """The text itself.

        Raises:
            FileNotFoundError: it is not registered on this machine.
            ValueError: the text on this machine is another one.
        """
        return corpus(self.corpus, self.checksum, self.vocab)

    def build(self, probes: Sequence[Probe], device: torch.device) -> TextData:
        return TextData(probes, device)


class TextData(Data):
    """Windows of one text for E members; the text lies on the device once.

    Attributes:
        text: the `Corpus`.
        windows: windows that each member draws from, E of them.
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes, self.device = tuple(probes), device
        first = self.probes[0]
        self.text, self.context = first.task_settings.text(), first.context
        self.sequences = first.batch
        self.tokens = _resident(first.corpus, first.checksum, first.vocab, str(device))
        total = (self.text.heldout_from - 1) // self.context
        held = (len(self.text.tokens) - self.text.heldout_from - 1) // self.context
        if not (total and held):
            raise ValueError(f"the text is too short for context={self.context}; lower it.")
        self.windows = []
        for probe in self.probes:
            asked = total if probe.unique_tokens is None else probe.unique_tokens // self.context
            if asked > total:
                raise ValueError(
                    f"unique_tokens={probe.unique_tokens} is more than the {total * self.context} of this text; "
                    "lower it, or leave it out for all."
                )
            self.windows.append(asked)
        self.sizes = torch.tensor(self.windows, device=device)[:, None]  # [E, 1]
        self.total = torch.tensor(total, device=device)
        self.keys = torch.tensor([stream_key(p.seed, _TRAINING) for p in self.probes], device=device)[:, None]
        # One order of all windows for all seeds: of two parts of the text the smaller lies in the larger.
        self.subset = torch.tensor(stream_key(0, _SUBSET), device=device)
        self.offsets = torch.arange(self.context + 1, device=device)
        count = min(held, math.ceil(first.heldout_tokens / self.context))
        self.heldout = np.arange(count) * held // count * self.context + self.text.heldout_from  # spread evenly

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor]:
        b = self.sequences
        stream = torch.arange(first_step * b, (first_step + count) * b, device=self.device).view(count, 1, b)
        place = shuffled(self.keys, stream // self.sizes, stream % self.sizes, self.sizes)
        window = shuffled(self.subset, self.subset.new_zeros(()), place, self.total)
        return (window * self.context,)

    def batch(self, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self._rows(starts)
        return tokens[..., :-1], tokens[..., 1:].flatten(1)

    def _rows(self, starts: torch.Tensor) -> torch.Tensor:
        """Tokens [..., T + 1] (int64) from these places on."""
        tokens = self.tokens.take(starts[..., None] + self.offsets).long()
        return tokens & 0xFFFF  # of 16 bits that torch takes for signed

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``loss`` (nats per token) on the held-out windows, and ``bits_per_byte`` where bytes are known.

        The same windows at every point and for every member. They are a sample of real text: differences
        between members are sharper than the level.
        """
        # A chunk of logits must not depend on E on a CPU, where the shape of a product decides its rounding.
        budget = 2**27 // len(self.probes) if self.device.type == "cuda" else 2**17
        chunk = max(1, budget // (self.context * self.text.vocab))
        total = torch.zeros(len(self.probes), dtype=torch.float64, device=self.device)
        for part in torch.from_numpy(self.heldout).to(self.device).split(chunk):
            tokens = self._rows(part)[None]
            logp = torch.log_softmax(predict(tokens[..., :-1]), -1)
            targets = tokens[..., 1:, None].expand(len(logp), -1, -1, -1)
            total -= row_sum(logp.gather(-1, targets).double())
        loss = (total / (len(self.heldout) * self.context)).cpu()
        metrics = {"loss": loss}
        if self.text.heldout_bytes:
            per_token = self.text.heldout_bytes / (len(self.text.tokens) - self.text.heldout_from)
            metrics["bits_per_byte"] = loss / (math.log(2) * per_token)
        return metrics

    def facts(self, member: int) -> dict[str, Any]:
        """Checksum and origin of the text, its unique training tokens, and the epochs that the run asks for."""
        unique = self.windows[member] * self.context
        epochs = self.probes[member].tokens / unique
        return {**self.text.facts, "unique_tokens": unique, "epochs": epochs,
                "heldout_tokens": len(self.heldout) * self.context}  # fmt: skip


@lru_cache(maxsize=4)
def _resident(name: str, checksum: str, vocab: int, device: str) -> torch.Tensor:
    """The tokens on the device, uint8 or int16 (of the same bits); a sweep asks for the same text again and again."""
    tokens = corpus(name, checksum, vocab).tokens
    if tokens.dtype == np.uint16:
        tokens = tokens.view(np.int16)
    if device == "cpu" and tokens.flags.writeable:
        return torch.from_numpy(tokens)  # where it is a file, mapped and not read
    return torch.tensor(tokens, device=device)
