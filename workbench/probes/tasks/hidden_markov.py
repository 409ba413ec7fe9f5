"""A hidden-Markov language: what comes next depends on a hidden state that lasts a power law of times.

Each hidden state i = 1 ... S emits tokens with logits of power-law singular values (as the bigram language
has them) and is left with probability i^-memory a step, so that times from 1 to S^memory occur together and
the gain from a longer context falls slowly. The construction is the workbench's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.tasks.alias import alias_tables
from workbench.probes.tasks.base import Data, Inputs, Predict, Task
from workbench.probes.tasks.exact import evaluate_exact, mean_entropy
from workbench.probes.tasks.hidden_markov_language import HiddenMarkovLanguage
from workbench.probes.tasks.markov import MarkovSampler
from workbench.probes.tasks.random import hash_counters, stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["HiddenMarkov", "HiddenMarkovData", "HiddenMarkovLanguage"]

_TRAINING, _EVALUATION, _EMITTED = 0, 1, 2
_LOW = 2**32 - 1
#: Held-out positions that the loss is averaged over.
_POSITIONS = 2**14
_LONGEST = 4096


@dataclass(frozen=True)
class HiddenMarkov(Task):
    """Next-token prediction in a hidden-Markov language (`HiddenMarkovLanguage`); the best loss is known."""

    name: ClassVar[str] = "hidden_markov"

    vocab: int = whole(64, 2, 4096, "vocabulary size V")
    context: int = whole(64, 1, 4096, "tokens of a sequence")
    states: int = whole(32, 1, 512, "hidden states S")
    memory: float = number(1.0, 0.0, 4.0, "state i is left with probability i^-memory a step", member=True)
    tau: float = number(1.0, 0.0, 4.0, "size of the logits of transitions and emissions", member=True)
    s: float = number(1.0, 0.0, 10.0, "exponent of the power law of their singular values", member=True)
    language_seed: int = whole(0, 0, 2**31 - 1, "draws the language itself", member=True)

    def check(self) -> None:
        if self.states**self.memory > _LONGEST:
            raise ValueError(
                f"states={self.states} with memory={self.memory} makes states that last {self.states**self.memory:.3g} "
                f"tokens; lower one of them so that states^memory is at most {_LONGEST}."
            )

    @property
    def inputs(self) -> Inputs:
        return Inputs("tokens", self.vocab, self.context)

    @property
    def outputs(self) -> int:
        return self.vocab

    def language(self) -> HiddenMarkovLanguage:
        """The language, with its entropies."""
        return _language(self.vocab, self.states, self.tau, self.s, self.memory, self.language_seed)

    def build(self, probes: Sequence[Probe], device: torch.device) -> HiddenMarkovData:
        return HiddenMarkovData(probes, device)


class HiddenMarkovData(Data):
    """Stacked training streams of hidden-Markov languages, and their loss against the Bayes-optimal predictor.

    Attributes:
        languages: the distinct languages.
        optimal: loss of the best possible predictor on the held-out prefixes, [G] (float64), G = 1 or E.
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes, self.device = tuple(probes), device
        first = self.probes[0]
        self.sequences, self.context, self.vocab = first.batch, first.context, first.vocab
        each = [p.task_settings.language() for p in self.probes]
        self.languages = list(dict.fromkeys(each))
        self.sampler, self.threshold, self.alias = _tables(tuple(self.languages), str(device))
        self.chain = torch.tensor([self.languages.index(one) for one in each], device=device)  # [E]
        self.keys, self.emitted = (
            torch.tensor([stream_key(p.seed, purpose) for p in self.probes], device=device)
            for purpose in (_TRAINING, _EMITTED)
        )
        # One evaluation text serves all members of one language; a stack of several carries one each.
        groups = self.chain[:1] if len(self.languages) == 1 else self.chain  # [G], G = 1 or E
        held = [_heldout(self.languages[k], self.context) for k in groups.tolist()]
        self.heldout = torch.from_numpy(np.stack([tokens for tokens, _ in held])).to(device)  # [G, n, T + 1]
        self.beliefs = torch.from_numpy(np.stack([beliefs for _, beliefs in held])).to(device)  # [G, n, T, S]
        emission = np.stack([self.languages[k].emission for k in groups.tolist()])
        self.emission = torch.tensor(emission, dtype=torch.float32, device=device)  # [G, S, V]
        # [G, n, T]: under these weights the mean belief is pi exactly, which takes out the noise of how often
        # the held-out texts happened to visit the long-lived states
        pi = [self.languages[k].stationary for k in groups.tolist()]
        weights = [_calibrated(beliefs, one) for (_, beliefs), one in zip(held, pi, strict=True)]
        self.weights = torch.from_numpy(np.stack(weights)).to(device)
        chunk = max(1, 2**20 // (self.context * self.vocab))
        self.optimal = mean_entropy(self.heldout.shape[1], self._truth, chunk, self.weights)

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor]:
        e, b = len(self.probes), self.sequences
        shape = (count, e, b)
        sequences = torch.arange(first_step * b, (first_step + count) * b, device=self.device).view(count, 1, b)
        flat = [
            x.expand(shape).reshape(-1)
            for x in (self.keys[:, None], self.emitted[:, None], sequences, self.chain[:, None])
        ]
        tokens = draw_tokens(self.sampler, self.threshold, self.alias, *flat, self.context + 1)
        return (tokens.to(torch.int32).view(*shape, self.context + 1),)

    def batch(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = tokens.long()
        return tokens[..., :-1], tokens[..., 1:].flatten(1)

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``loss``, ``loss_excess`` and ``loss_sampled`` [E], nats per token.

        ``loss`` scores the prediction after every held-out prefix of 1 ... T tokens against the exact
        distribution of the next token; prefixes are weighted so that the hidden states have their true
        frequencies (calibration, Deville & Sarndal 1992). ``loss_excess`` is what it lies above the best
        possible predictor on the same prefixes: the mean Kullback-Leibler divergence, free of the noise that
        both share.
        """
        x, y = self.heldout[..., :-1], self.heldout[..., 1:]
        metrics = evaluate_exact(predict, len(self.probes), x, y, self._truth, self.vocab, self.weights)
        return {**metrics, "loss_excess": metrics["loss"] - self.optimal}

    def _truth(self, start: int, stop: int) -> torch.Tensor:
        """Exact next-token distributions [G, b, T, V] (float32)."""
        from workbench.probes.functional import product

        beliefs = self.beliefs[:, start:stop]
        return product(beliefs.flatten(1, 2), self.emission).view(*beliefs.shape[:3], -1)

    def facts(self, member: int) -> dict[str, Any]:
        """The loss that the best possible predictor has where this member is evaluated."""
        return {"optimal_loss": float(self.optimal[member if len(self.optimal) > 1 else 0])}


def draw_tokens(
    sampler: MarkovSampler, threshold: torch.Tensor, alias: torch.Tensor, keys: torch.Tensor, emitted: torch.Tensor,
    sequences: torch.Tensor, chains: torch.Tensor, length: int,
) -> torch.Tensor:  # fmt: skip
    """Tokens [n, length] (int64) of the n texts (keys[i], sequences[i]) of the languages chains[i].

    Args:
        sampler: of the hidden states of all languages.
        threshold, alias: alias tables of the emissions, [K, S, V].
        keys, emitted: stream keys of states and of tokens, [n].
        sequences, chains: numbers of the texts and of their languages, [n].
        length: tokens of a text.
    """
    states = sampler.draw(keys, sequences, length, chains).t()  # [n, length]
    _, s, v = threshold.shape
    positions = torch.arange(length, device=keys.device)
    bits = hash_counters(emitted[:, None], sequences[:, None], positions)
    column = (((bits >> 32) & _LOW) * v) >> 32
    cell = (chains[:, None] * s + states) * v + column
    return torch.where((bits & _LOW) < threshold.take(cell), column, alias.take(cell))


@lru_cache(maxsize=32)
def _language(*key: Any) -> HiddenMarkovLanguage:
    return HiddenMarkovLanguage(*key)


@lru_cache(maxsize=4)
def _tables(
    languages: tuple[HiddenMarkovLanguage, ...], device: str
) -> tuple[MarkovSampler, torch.Tensor, torch.Tensor]:
    """The sampler of the states, and alias tables [K, S, V] of the emissions."""
    sampler = MarkovSampler([(one.transition, one.stationary) for one in languages], torch.device(device))
    tables = [alias_tables(one.emission) for one in languages]
    return sampler, *(torch.from_numpy(np.stack(part)).to(device) for part in zip(*tables, strict=True))


@lru_cache(maxsize=16)
def _heldout(language: HiddenMarkovLanguage, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out texts [n, T + 1] (int64) and beliefs after each of their prefixes [n, T, S] (float32)."""
    n = math.ceil(_POSITIONS / context)
    key, emitted = (torch.tensor(stream_key(language.seed, p)).expand(n) for p in (_EVALUATION, _EVALUATION + _EMITTED))
    chains = torch.zeros(n, dtype=torch.int64)
    tokens = draw_tokens(*_tables((language,), "cpu"), key, emitted, torch.arange(n), chains, context + 1).numpy()
    return tokens, language.beliefs(tokens[:, :-1]).astype(np.float32)


def _calibrated(beliefs: np.ndarray, stationary: np.ndarray) -> np.ndarray:
    """Weights [n, T] of prefixes, sum 1, nearest to equal ones, under which the mean belief is `stationary`."""
    x = beliefs.reshape(-1, beliefs.shape[-1]).astype(float)
    shift = np.linalg.pinv(x.T @ x / len(x), rcond=1e-9, hermitian=True) @ (stationary - x.mean(0))
    weights = 1 + x @ shift
    return (weights / weights.sum()).reshape(beliefs.shape[:2])
