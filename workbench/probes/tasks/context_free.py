"""The random hierarchy: a context-free language whose rules are drawn at random.

Cagnetta & Wyart 2024 (arXiv 2406.00048) train on it as a model of language: a sentence is a tree of `levels`
levels; each symbol of a level is replaced by one of `rules` tuples of `branching` symbols of the level below,
and no tuple belongs to two symbols. Cagnetta et al. 2025 (arXiv 2505.07067) let the rules' probabilities fall
as a power law. Entropy and the distribution of every next token are known exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.probes import late_torch as torch
from workbench.probes.component import number, whole
from workbench.probes.tasks.alias import alias_tables
from workbench.probes.tasks.base import Data, Inputs, Predict, Task
from workbench.probes.tasks.exact import evaluate_exact, mean_entropy
from workbench.probes.tasks.random import hash_counters, stream_key

if TYPE_CHECKING:
    from workbench.probes.spec import Probe

__all__ = ["ContextFree", "ContextFreeData", "ContextFreeLanguage", "sentences"]

_TRAINING, _EVALUATION = 0, 1
_LOW = 2**32 - 1
_POSITIONS = 2**14
_MOST_TUPLES, _LONGEST = 2**22, 4096


@dataclass(frozen=True)
class ContextFreeLanguage:
    """One random hierarchy.

    Attributes:
        vocab: symbols of each level, v.
        branching: symbols that one symbol becomes, s.
        levels: depth of the tree, L; a sentence has s^L tokens.
        rules: tuples that each symbol may become, m; m v <= v^s.
        zipf: rule k = 1 ... m has probability proportional to k^-zipf.
        seed: draws the tuples.
    """

    vocab: int
    branching: int
    levels: int
    rules: int
    zipf: float
    seed: int

    @property
    def length(self) -> int:
        """Tokens of a sentence, s^L."""
        return self.branching**self.levels

    @property
    def rule_probabilities(self) -> np.ndarray:
        """[m], the same for every symbol."""
        p = np.arange(1.0, self.rules + 1) ** -self.zipf
        return p / p.sum()

    @cached_property
    def tuples(self) -> np.ndarray:
        """[L, v, m, s] (int64): what rule r makes of symbol a of a level, the root's level first.

        At each level m v different tuples out of v^s, without replacement, in random order.
        """
        rng = np.random.default_rng(self.seed)
        v, s = self.vocab, self.branching
        chosen = np.stack([rng.permutation(v**s)[: v * self.rules] for _ in range(self.levels)])
        digits = chosen[..., None] // v ** np.arange(s - 1, -1, -1) % v
        return digits.reshape(self.levels, v, self.rules, s)

    @property
    def entropy(self) -> float:
        """Entropy, nats per token, exact: (log v + (s^L - 1)/(s - 1) H(rule)) / s^L.

        A sentence tells its tree, because no tuple belongs to two symbols; so its entropy is that of the
        uniform root and of one choice of a rule at each of the inner nodes.
        """
        p = self.rule_probabilities
        nodes = sum(self.branching**level for level in range(self.levels))
        return float((math.log(self.vocab) - nodes * (p @ np.log(p))) / self.length)

    @property
    def uniform_entropy(self) -> float:
        """log v, nats per token: the loss of a model that knows nothing."""
        return math.log(self.vocab)

    def parents(self, sentences: np.ndarray) -> list[np.ndarray]:
        """Symbols [n, s^l] of the levels l = 0 (root) ... L (the sentences themselves [n, s^L]).

        Raises:
            ValueError: a sentence is not of the language.
        """
        v, s = self.vocab, self.branching
        found, current = [sentences], sentences
        places = v ** np.arange(s - 1, -1, -1)
        for table in self.tuples[::-1]:
            owner = np.full(v**s, -1)
            owner[table @ places] = np.arange(v)[:, None]
            current = owner[current.reshape(len(current), -1, s) @ places]
            if (current < 0).any():
                raise ValueError("a sentence is not of this language: one of its tuples belongs to no rule.")
            found.append(current)
        return found[::-1]

    def next_token(self, sentences: np.ndarray) -> np.ndarray:
        """Exact distribution of every token given those before it: [n, s^L, v] for sentences [n, s^L].

        From the root down: what precedes a token fixes the symbols of all finished subtrees beside its path,
        and each level's rules that fit them, weighted by the distribution of their symbol, give the
        distribution of the symbol below. Unfinished subtrees are on the path itself, so no information
        flows up: one pass is exact.
        """
        n, v, s = len(sentences), self.vocab, self.branching
        symbols = self.parents(sentences)
        belief = np.full((n, self.length, v), 1 / v)  # of the symbol on the path to each token
        tokens = np.arange(self.length)
        rule = np.tile(self.rule_probabilities, v)  # [v m]
        owner = np.repeat(np.arange(v), self.rules)
        for level, table in enumerate(self.tuples):
            flat = table.reshape(-1, s)  # [v m, s]
            below = s ** (self.levels - level - 1)  # tokens of a child
            child = tokens // below
            following = np.empty_like(belief)
            for j in range(s):  # the path goes through child j, the children before it are known
                here = np.flatnonzero(child % s == j)
                weight = belief[:, here][..., owner] * rule
                for i in range(j):
                    known = symbols[level + 1][:, child[here] - j + i]
                    weight *= flat[:, i] == known[..., None]
                to_child = np.zeros((len(flat), v))
                to_child[np.arange(len(flat)), flat[:, j]] = 1.0
                weight = weight @ to_child
                following[:, here] = weight / weight.sum(-1, keepdims=True)
            belief = following
        return belief


@dataclass(frozen=True)
class ContextFree(Task):
    """Next-token prediction in a random hierarchy (`ContextFreeLanguage`) of exactly known entropy.

    An input is one sentence behind a start token (id v); every token of the sentence is scored.
    """

    name: ClassVar[str] = "context_free"

    vocab: int = whole(8, 2, 1024, "symbols v of each level, the tokens among them")
    branching: int = whole(2, 2, 16, "symbols s that one symbol becomes")
    levels: int = whole(4, 1, 12, "depth L of the tree; a sentence has s^L tokens")
    rules: int = whole(4, 1, 4096, "tuples m that each symbol may become")
    zipf: float = number(0.0, 0.0, 10.0, "rule k has probability proportional to k^-zipf", member=True)
    language_seed: int = whole(0, 0, 2**31 - 1, "draws the rules", member=True)

    def check(self) -> None:
        v, s = self.vocab, self.branching
        if s**self.levels > _LONGEST:
            raise ValueError(
                f"branching={s} and levels={self.levels} make sentences of {s**self.levels} tokens; "
                f"lower one so that there are at most {_LONGEST}."
            )
        if v**s > _MOST_TUPLES:
            raise ValueError(
                f"vocab={v} and branching={s} make {v**s} tuples; lower one so that there are at most {_MOST_TUPLES}."
            )
        if self.rules > v ** (s - 1):
            raise ValueError(
                f"rules={self.rules} of vocab={v} symbols need more than the {v**s} different tuples there are; "
                f"lower rules to at most {v ** (s - 1)}."
            )

    @property
    def inputs(self) -> Inputs:
        return Inputs("tokens", self.vocab + 1, self.branching**self.levels)

    @property
    def outputs(self) -> int:
        return self.vocab

    def language(self) -> ContextFreeLanguage:
        """The language, with its entropy."""
        return _language(self.vocab, self.branching, self.levels, self.rules, self.zipf, self.language_seed)

    def build(self, probes: Sequence[Probe], device: torch.device) -> ContextFreeData:
        return ContextFreeData(probes, device)


class ContextFreeData(Data):
    """Stacked training streams of random hierarchies, and their loss against the exact distributions.

    Attributes:
        languages: the distinct languages.
        optimal: loss of the best possible predictor on the held-out sentences, [G] (float64), G = 1 or E;
            `ContextFreeLanguage.entropy` but for the sampling of the sentences.
    """

    def __init__(self, probes: Sequence[Probe], device: torch.device) -> None:
        self.probes, self.device = tuple(probes), device
        first = self.probes[0]
        self.sequences, self.vocab = first.batch, first.vocab
        each = [p.task_settings.language() for p in self.probes]
        self.languages = list(dict.fromkeys(each))
        self.tables = _tables(tuple(self.languages), str(device))
        self.chain = torch.tensor([self.languages.index(one) for one in each], device=device)  # [E]
        self.keys = torch.tensor([stream_key(p.seed, _TRAINING) for p in self.probes], device=device)
        groups = self.chain[:1] if len(self.languages) == 1 else self.chain  # [G], G = 1 or E
        held = [_heldout(self.languages[k]) for k in groups.tolist()]
        self.heldout = torch.from_numpy(np.stack([tokens for tokens, _ in held])).to(device)  # [G, n, T]
        self.truth = torch.from_numpy(np.stack([truth for _, truth in held])).to(device)  # [G, n, T, v]
        self.optimal = mean_entropy(self.heldout.shape[1], self._truth, 64)

    def block(self, first_step: int, count: int) -> tuple[torch.Tensor]:
        shape = (count, len(self.probes), self.sequences)
        numbers = torch.arange(first_step * shape[2], (first_step + count) * shape[2], device=self.device)
        flat = [x.expand(shape).reshape(-1) for x in
                (self.keys[:, None], numbers.view(count, 1, -1), self.chain[:, None])]  # fmt: skip
        return (sentences(*self.tables, *flat).to(torch.int32).view(*shape, -1),)

    def batch(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = tokens.long()
        return self._shifted(tokens), tokens.flatten(1)

    def _shifted(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(tokens[..., :1], self.vocab), tokens[..., :-1]], -1)

    def evaluate(self, predict: Predict) -> dict[str, torch.Tensor]:
        """``loss``, ``loss_excess`` and ``loss_sampled`` [E], nats per token.

        ``loss`` scores the prediction after every held-out prefix against the exact distribution of the next
        token, ``loss_excess`` is what it lies above the best possible predictor on the same prefixes.
        """
        e = len(self.probes)
        metrics = evaluate_exact(predict, e, self._shifted(self.heldout), self.heldout, self._truth, self.vocab)
        return {**metrics, "loss_excess": metrics["loss"] - self.optimal}

    def _truth(self, start: int, stop: int) -> torch.Tensor:
        return self.truth[:, start:stop]

    def facts(self, member: int) -> dict[str, Any]:
        """The entropy, and the loss that the best possible predictor has where this member is evaluated."""
        optimal = self.optimal[member if len(self.optimal) > 1 else 0]
        return {"entropy": self.languages[int(self.chain[member])].entropy, "optimal_loss": float(optimal)}


def sentences(
    tuples: torch.Tensor, threshold: torch.Tensor, alias: torch.Tensor, keys: torch.Tensor, numbers: torch.Tensor,
    chains: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Sentences [n, s^L] (int64): number numbers[i] of the stream keys[i], in the language chains[i].

    Args:
        tuples: rules of all languages, [K, L, v, m, s] (int64).
        threshold, alias: alias tables of the rules' probabilities, [K, m].
        keys, numbers, chains: [n] (int64).
    """
    _, levels, v, m, _ = tuples.shape
    flat = tuples.flatten(0, 3)  # [K L v m, s]

    def drawn(first: int, count: int, among: int) -> tuple[torch.Tensor, torch.Tensor]:
        bits = hash_counters(keys[:, None], numbers[:, None], torch.arange(first, first + count, device=keys.device))
        return (((bits >> 32) & _LOW) * among) >> 32, bits & _LOW

    symbols, _ = drawn(0, 1, v)  # the root
    chains, node = chains[:, None], 1
    for level in range(levels):
        column, low = drawn(node, symbols.shape[1], m)
        cell = chains * m + column
        rule = torch.where(low < threshold.take(cell), column, alias.take(cell))
        node += symbols.shape[1]
        symbols = flat[((chains * levels + level) * v + symbols) * m + rule].flatten(1)
    return symbols


@lru_cache(maxsize=32)
def _language(*key: Any) -> ContextFreeLanguage:
    return ContextFreeLanguage(*key)


@lru_cache(maxsize=4)
def _tables(languages: tuple[ContextFreeLanguage, ...], device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Arguments of `sentences` for these languages."""
    threshold, alias = alias_tables(np.stack([one.rule_probabilities for one in languages]))
    tuples = np.stack([one.tuples for one in languages])
    return tuple(torch.from_numpy(part).to(device) for part in (tuples, threshold, alias))


@lru_cache(maxsize=16)
def _heldout(language: ContextFreeLanguage) -> tuple[np.ndarray, np.ndarray]:
    """Held-out sentences [n, T] (int64) and the exact distribution of each token [n, T, v] (float32)."""
    n = math.ceil(_POSITIONS / language.length)
    key, chains = torch.tensor(stream_key(language.seed, _EVALUATION)).expand(n), torch.zeros(n, dtype=torch.int64)
    tokens = sentences(*_tables((language,), "cpu"), key, torch.arange(n), chains).numpy()
    # in pieces: one holds the weight of every rule at every position
    pieces = max(1, n * language.length * language.vocab * language.rules // 2**23)
    truth = [language.next_token(part) for part in np.array_split(tokens, min(n, pieces))]
    return tokens, np.concatenate(truth).astype(np.float32)
