"""The power-law bigram language: text of exactly known entropy whose structure is a power law of rank.

Next-token logits z[i, j] = tau * sum_k k^-s a_k[i] b_k[j] with two random orthogonal bases a, b. A model
of width d can represent logits of rank about d only (the softmax bottleneck, Yang et al. 2018, arXiv
1711.03953), so what it cannot learn is the power-law tail of the sum: a scaling law in width with a known
floor, the entropy rate. The construction is the workbench's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.rows import row_mean
from workbench.probes.tasks.base import Data, Inputs, Predict, Task
from workbench.probes.tasks.markov import MarkovSampler
from workbench.probes.tasks.random import stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["Bigram", "BigramData", "BigramLanguage"]

_TRAINING, _EVALUATION = 0, 1


@dataclass(frozen=True)
class BigramLanguage:
    """One power-law bigram language.

    Attributes:
        vocab: number of tokens V.
        tau: size of the logits; each term k has entries of typical size tau * k^-s.
        s: exponent of the power law.
        seed: draws the two orthogonal bases.

    Scaling: a_k and b_k are columns of Haar-random orthogonal V x V matrices times sqrt(V), so that
    their entries have mean square 1 and tau means the same at every V.
    """

    vocab: int
    tau: float
    s: float
    seed: int

    @cached_property
    def logits(self) -> np.ndarray:
        """z [V, V], rounded to multiples of 2^-24: LAPACKs that differ in the last bit give one language."""
        rng = np.random.default_rng(self.seed)
        a, b = _orthogonal(rng, self.vocab), _orthogonal(rng, self.vocab)
        strength = self.tau * self.vocab * np.arange(1.0, self.vocab + 1) ** -self.s
        return np.round((a * strength) @ b.T * 2**24) / 2**24

    @cached_property
    def log_transition(self) -> np.ndarray:
        """Natural logarithm of `transition`, [V, V]."""
        shifted = self.logits - self.logits.max(1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))

    @cached_property
    def transition(self) -> np.ndarray:
        """P [V, V] (float64): P[i, j] is the probability that token j follows token i."""
        return np.exp(self.log_transition)

    @cached_property
    def stationary(self) -> np.ndarray:
        """pi [V] (float64) with pi P = pi, from the linear system, not from iteration."""
        system = self.transition.T - np.eye(self.vocab)
        system[-1] = 1.0
        pi = np.linalg.solve(system, np.eye(self.vocab)[-1])
        # Rarer tokens than this would be known to a few digits only, and no run would ever see them.
        if not (np.isfinite(pi).all() and pi.min() > 1e-9):
            raise ValueError(f"tau={self.tau} with s={self.s} makes tokens that never occur; lower tau or raise s.")
        return pi / pi.sum()

    @property
    def entropy(self) -> float:
        """Entropy rate H = sum_i pi_i H(P_i), nats per token: the loss of the best possible model."""
        return float(-(self.stationary @ (self.transition * self.log_transition).sum(1)))

    @property
    def unigram_entropy(self) -> float:
        """Entropy of pi, nats per token: the loss of a model that knows the frequencies only."""
        return float(-(self.stationary @ np.log(self.stationary)))

    @property
    def uniform_entropy(self) -> float:
        """log V, nats per token: the loss of a model that knows nothing."""
        return math.log(self.vocab)


@dataclass(frozen=True)
class Bigram(Task):
    """Next-token prediction in a power-law bigram language (`BigramLanguage`) of exactly known entropy."""

    name: ClassVar[str] = "bigram"

    vocab: int = whole(256, 2, 4096, "vocabulary size V")
    context: int = whole(32, 1, 4096, "tokens of a sequence")
    tau: float = number(1.5, 0.0, 4.0, "sharpness of the language's logits; 0 is uniform noise", member=True)
    s: float = number(1.0, 0.0, 10.0, "exponent of the power law of its singular values", member=True)
    language_seed: int = whole(0, 0, 2**31 - 1, "draws the language itself", member=True)

    @property
    def inputs(self) -> Inputs:
        return Inputs("tokens", self.vocab, self.context)

    @property
    def outputs(self) -> int:
        return self.vocab

    def build(self, probes: Sequence[Probe], device: torch.device) -> BigramData:
        return BigramData(probes, device)


class BigramData(Data):
    """Stacked training streams of bigram languages, and their population loss.

    The first token of each sequence is drawn from pi. A probe's `seed` keys its training stream and its
    `language_seed` the evaluation stream, in separate key spaces: no member trains on evaluation text.
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes, self.device = tuple(probes), device
        first = self.probes[0]
        self.sequences, self.context, self.vocab = first.batch_tokens // first.context, first.context, first.vocab
        keys = [(p.vocab, p.tau, p.s, p.language_seed) for p in self.probes]
        distinct = tuple(dict.fromkeys(keys))
        self.languages = [_language(*key) for key in distinct]
        self.sampler, transition = _tables(distinct, str(device))
        self.chain = torch.tensor([distinct.index(key) for key in keys], device=device)  # [E]
        self.keys = torch.tensor([stream_key(p.seed, _TRAINING) for p in self.probes], device=device)  # [E]
        # One evaluation text serves all members of one language; a stack of several carries one each.
        self.groups = self.chain[:1] if len(distinct) == 1 else self.chain  # [G], G = 1 or E
        self.transition = transition  # [K V, V] float32
        self.stationary = torch.tensor(
            np.stack([self.languages[k].stationary for k in self.groups.tolist()]), device=device
        )  # [G, V]
        self.heldout = self._heldout()

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor]:
        e, b = len(self.probes), self.sequences
        sequences = torch.arange(first_step * b, (first_step + count) * b, device=self.device).view(count, 1, b)
        shape = (count, e, b)
        tokens = self.sampler.draw(
            self.keys[None, :, None].expand(shape).reshape(-1),
            sequences.expand(shape).reshape(-1),
            self.context + 1,
            self.chain[None, :, None].expand(shape).reshape(-1),
        )  # [T + 1, count E B]
        return (tokens.to(torch.int32).t().reshape(*shape, self.context + 1),)

    def batch(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = tokens.long()
        return tokens[..., :-1], tokens[..., 1:].flatten(1)

    def _heldout(self) -> torch.Tensor:
        """Evaluation sequences [G, n, T + 1]: about 32 V positions, a number fixed by V and T alone."""
        n = math.ceil(32 * self.vocab / self.context)
        key = [stream_key(self.languages[k].seed, _EVALUATION) for k in self.groups.tolist()]
        g = len(key)
        tokens = self.sampler.draw(
            torch.tensor(key, device=self.device).repeat_interleave(n),
            torch.arange(n, device=self.device).repeat(g),
            self.context + 1,
            self.groups.repeat_interleave(n),
        )
        return tokens.t().reshape(g, n, self.context + 1)

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``loss`` and ``loss_sampled`` [E], nats per token.

        ``loss`` is the population cross-entropy. At every held-out position the model's prediction is
        scored against the *exact* next-token distribution P[x_t] rather than against one sampled token,
        which removes the label noise; positions are then averaged per current token i and weighted by the
        exact pi_i (post-stratification), which removes the noise of the token counts. The entropy H is
        used nowhere in it. A token that no held-out position shows is scored in the context of itself
        alone, its distribution at the first position.

        ``loss_sampled`` is the ordinary mean cross-entropy of the sampled next tokens.
        """
        e, v, device = len(self.probes), self.vocab, self.device
        # Entries of one member's chunk of logits. On a CPU it must not depend on E: the shape of a matrix
        # product decides the order of its sums, and a stacked member must equal the solo run bit for bit.
        budget = 2**27 // e if device.type == "cuda" else 2**17
        chunk = max(1, budget // (self.context * v))
        total = torch.zeros(e, v, dtype=torch.float64, device=device)
        sampled = []
        for part in self.heldout.split(chunk, dim=1):
            x, y = part[..., :-1], part[..., 1:]  # [G, b, T]
            logp, exact = self._score(predict, x)
            total.scatter_add_(1, x.flatten(1).expand(e, -1), exact.flatten(1))
            sampled.append(logp.gather(-1, y.expand(e, -1, -1)[..., None])[..., 0])
        counts = torch.stack([torch.bincount(x, minlength=v) for x in self.heldout[..., :-1].flatten(1)])  # [G, V]
        mean = total / counts.clamp_min(1)
        if not bool((counts > 0).all()):
            alone = torch.arange(v, device=device).expand(len(counts), v)[..., None]  # [G, V, 1]
            mean = torch.where(counts > 0, mean, self._score(predict, alone)[1][..., 0])
        return {
            "loss": (mean * self.stationary).sum(1).cpu(),
            "loss_sampled": row_mean(torch.cat(sampled, 1).double()).neg().cpu(),
        }

    def _score(self, predict: Predict, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities [E, b, T, V] (float32) and cross-entropies against P[x] [E, b, T] (float64).

        A float32 cross-entropy errs by about 2e-7 at random; the means over positions are in float64.
        """
        logp = torch.log_softmax(predict(x), -1)
        rows = (self.groups[:, None, None] * self.vocab + x).flatten()
        truth = self.transition.index_select(0, rows).view(*x.shape, self.vocab)  # [G, b, T, V]
        return logp, (logp * truth).sum(-1).neg_().double()


@lru_cache(maxsize=32)
def _language(vocab: int, tau: float, s: float, seed: int) -> BigramLanguage:
    return BigramLanguage(vocab, tau, s, seed)


@lru_cache(maxsize=4)
def _tables(languages: tuple[tuple, ...], device: str) -> tuple[MarkovSampler, torch.Tensor]:
    """The sampler and P [K V, V] (float32) of some languages; a sweep asks for the same ones again and again."""
    built = [_language(*key) for key in languages]
    sampler = MarkovSampler([(one.transition, one.stationary) for one in built], torch.device(device))
    return sampler, torch.tensor(np.vstack([one.transition for one in built]), dtype=torch.float32, device=device)


def _orthogonal(rng: np.random.Generator, size: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    # Signs of R's diagonal are LAPACK's choice; fixing them makes Q unique and Haar-distributed (Mezzadri 2007).
    return q * np.sign(np.diag(r))
