"""The mathematics of hidden-Markov languages: beliefs, and the entropy rate with its bounds. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["HiddenMarkovLanguage"]


@dataclass(frozen=True)
class HiddenMarkovLanguage:
    """One hidden-Markov language, in the stationary state from the first token on.

    Attributes:
        vocab: number of tokens V.
        states: number of hidden states S.
        tau: size of the logits of transitions and emissions.
        s: exponent of the power law of their singular values.
        memory: state i is left with probability i^-memory.
        seed: draws transitions and emissions.
    """

    vocab: int
    states: int
    tau: float
    s: float
    memory: float
    seed: int

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Where a state goes that is left [S, S], and what each emits [S, V]."""
        rng = np.random.default_rng(self.seed)
        jumps = _softmax(_power_law(rng, self.states, self.states, self.tau, self.s))
        return jumps, _softmax(_power_law(rng, self.states, self.vocab, self.tau, self.s))

    @cached_property
    def transition(self) -> np.ndarray:
        """P [S, S] (float64): P[i, j] is the probability that state j follows state i."""
        leave = np.arange(1.0, self.states + 1) ** -self.memory
        return np.diag(1 - leave) + leave[:, None] * self._drawn[0]

    @property
    def emission(self) -> np.ndarray:
        """Q [S, V] (float64): Q[i, x] is the probability that state i emits token x."""
        return self._drawn[1]

    @cached_property
    def stationary(self) -> np.ndarray:
        """pi [S] (float64) with pi P = pi, from the linear system."""
        system = self.transition.T - np.eye(self.states)
        system[-1] = 1.0
        pi = np.linalg.solve(system, np.eye(self.states)[-1])
        if not (np.isfinite(pi).all() and pi.min() > 1e-12):
            raise ValueError(f"tau={self.tau} with s={self.s} makes states that never occur; lower tau or raise s.")
        return pi / pi.sum()

    @property
    def unigram_entropy(self) -> float:
        """Entropy of the token frequencies, nats per token: the loss of a model without context."""
        p = self.stationary @ self.emission
        return float(-(p @ np.log(p)))

    def beliefs(self, tokens: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Distribution of the next hidden state after every prefix: [n, T, S] for tokens [n, T].

        The forward algorithm, normalized at each step. `beliefs @ emission` is the exact distribution of the
        next token, which no predictor can beat.

        Args:
            tokens: token ids [n, T].
            start: distribution of the first state, [n, S]; stationary unless given.
        """
        belief = np.broadcast_to(self.stationary, (len(tokens), self.states)) if start is None else start
        found = np.empty((*tokens.shape, self.states))
        for t, token in enumerate(tokens.T):
            belief = belief * self.emission[:, token].T
            belief = belief / belief.sum(1, keepdims=True) @ self.transition
            found[:, t] = belief
        return found

    def bracket(self, length: int) -> tuple[float, float]:
        """Bounds of the entropy rate by enumeration of all texts of `length` tokens, nats per token.

        ``H(X_n | X_1 ... X_{n-1}, S_1) <= H <= H(X_n | X_1 ... X_{n-1})`` for n = `length` (Birch 1962; Cover &
        Thomas, Elements of Information Theory, theorem 4.5.1). Exact to rounding; the two meet as n grows.

        Raises:
            ValueError: there are too many texts to enumerate.
        """
        if length < 1 or self.vocab**length * self.states**2 > 5e7:
            raise ValueError(
                f"length={length} asks for {self.vocab}^{length} texts; bracket() is for small languages, use entropy."
            )
        # joint[first state, text, state]: probability of the text so far and the state before its next token
        joint = np.diag(self.stationary)[:, None]
        entropies = [_entropies(joint)]
        for _ in range(length):
            emitted = joint[..., None] * self.emission  # [S, texts, S, V]
            entropies.append(_entropies(emitted.sum(2, keepdims=True).reshape(self.states, -1, 1)))
            joint = np.moveaxis(emitted, 3, 2).reshape(self.states, -1, self.states) @ self.transition
        before, after = entropies[-2], entropies[-1]
        return after[1] - before[1], after[0] - before[0]

    @cached_property
    def _estimate(self) -> tuple[float, float]:
        rng = np.random.default_rng((self.seed, 1))
        n = 4 * self.states + 256
        dwell = self.states**self.memory
        length, every = math.ceil(8 * dwell) + 256, max(1, math.ceil(dwell / 4))
        state = _draw(rng, np.broadcast_to(self.stationary, (n, self.states)))
        loose = np.broadcast_to(self.stationary, (n, self.states))
        tight = np.eye(self.states)[state]  # the belief of one who knows the first state
        upper, lower, controls = [], [], []
        for t in range(length):
            if t >= length // 2 and t % every == 0:
                for belief, into in ((loose, upper), (tight, lower)):
                    p = belief @ self.emission
                    into.append(-(p * np.log(p)).sum(1))
                controls.append(loose)
            token = _draw(rng, self.emission[state])
            state = _draw(rng, self.transition[state])
            seen = self.emission[:, token].T
            loose, tight = ((b * seen) / (b * seen).sum(1, keepdims=True) @ self.transition for b in (loose, tight))
        ends = []
        # The mean belief is pi exactly, so what correlates with beliefs is noise that can be taken out.
        design = np.column_stack([np.ones(n), np.mean(controls, 0)[:, 1:] - self.stationary[1:]])
        for values in (upper, lower):
            mean = np.mean(values, 0)
            solution, *_ = np.linalg.lstsq(design, mean, rcond=None)
            residual = mean - design @ solution
            variance = residual @ residual / (n - design.shape[1])
            ends.append((solution[0], math.sqrt(variance * np.linalg.pinv(design.T @ design)[0, 0])))
        (high, error), (low, _) = ends
        return float((high + low) / 2), float(math.hypot(error, (high - low) / 2))

    @property
    def entropy(self) -> float:
        """Entropy rate, nats per token: the loss of the best possible model with unlimited context.

        Mean entropy of the exact next-token distribution over sampled texts, halfway between the two bounds
        of `bracket`, each estimated after at least 4 S^memory tokens, with the beliefs as control variates;
        `entropy_error` is its error.
        """
        return self._estimate[0]

    @property
    def entropy_error(self) -> float:
        """Standard error of `entropy`: of the sample, and half the distance of the bounds."""
        return self._estimate[1]

    @property
    def uniform_entropy(self) -> float:
        """log V, nats per token: the loss of a model that knows nothing."""
        return math.log(self.vocab)


def _power_law(rng: np.random.Generator, rows: int, columns: int, tau: float, s: float) -> np.ndarray:
    """Logits [rows, columns] = tau sum_k k^-s a_k b_k with Haar-random orthogonal a, b of mean square 1."""
    rank = min(rows, columns)
    a, b = (_orthogonal(rng, size)[:, :rank] for size in (rows, columns))
    strength = tau * math.sqrt(rows * columns) * np.arange(1.0, rank + 1) ** -s
    # LAPACKs that differ in the last bit give one language
    return np.round((a * strength) @ b.T * 2**24) / 2**24


def _orthogonal(rng: np.random.Generator, size: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diag(r))


def _softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def _entropies(joint: np.ndarray) -> tuple[float, float]:
    """H(text) and H(text | first state) of joint[first state, text, state], nats."""
    each = joint.sum(2)  # [S, texts]
    first = each.sum(1)
    marginal = each.sum(0)
    return _sum_plogp(marginal), _sum_plogp(each) - _sum_plogp(first)


def _sum_plogp(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _draw(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """One outcome of each row of probabilities [n, K]."""
    chosen = (np.cumsum(p, 1) < rng.random((len(p), 1))).sum(1)
    return np.minimum(chosen, p.shape[1] - 1)
