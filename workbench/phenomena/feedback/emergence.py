"""Emergence: an accuracy that jumps over a pass rate that creeps, and one that falls before it rises."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import digamma
from scipy.stats import gamma

from workbench.laws.tasks.pass_rate import pass_until
from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean

__all__ = ["Emergence", "cue_accuracy", "greedy_accuracy", "log_pass_rate", "pass_rate"]

#: Pass rates: exponent, size at which the mean token reaches LEVEL, tokens an answer has, and how evenly hard they are.
ALPHA, MIDDLE, LEVEL, TOKENS, EVENNESS = 0.3, 1e9, 0.533, 4, 20.0
SIZES = tuple(float(f"{n:.6g}") for n in 10 ** np.arange(7.0, 11.01, 0.25))  # as exact as files hold them
SMALL, BEFORE, AFTER = 10**8.51, 10**8.5, 10**9.5  # forecasts are made from sizes up to SMALL
PROBLEMS, PASSES = 200, 2
#: The control's ability: a guess that is right this often below MIDDLE, and nearly always above.
GUESSED, MASTERED = 1e-3, 0.9
#: The cue: features of the rule, place of the cue among the features, its correlation with what the rule says.
RULE, PLACE, CUE = 63, 8, 0.6
WIDTHS, TRAINING, TEST = (1, 2, 4, 8, 16, 32, 64), 4000, 20000
REPETITIONS = {"cpu": 20, "gpu": 400}


def pass_rate(size: np.ndarray) -> np.ndarray:
    """Exact mean pass rate over problems, E exp(-u (g_1 + .. + g_4)) with u = c N^-alpha and Gamma-distributed g."""
    return (1 + _hardness(size) / EVENNESS) ** (-EVENNESS * TOKENS)


def greedy_accuracy(size: np.ndarray) -> np.ndarray:
    """Exact share of problems all of whose tokens have a probability above 1/2: u g < log 2 for each of them."""
    return gamma.cdf(np.log(2) / _hardness(size), EVENNESS, scale=1 / EVENNESS) ** TOKENS


def log_pass_rate(passes: int, tries: np.ndarray) -> np.ndarray:
    """Unbiased estimate of log p from the number of tries until `passes` passes, digamma(r) - digamma(K).

    For r = 1 the expectation of 1 + 1/2 + .. + 1/(K-1) is sum_j (1-p)^j / j = -log p; each further pass takes away
    one term.
    """
    return digamma(passes) - digamma(tries)


def cue_accuracy(width: int, cue: float = CUE) -> tuple[float, float]:
    """Exact accuracy of the best linear model of so many features: on all examples, and where cue and rule conflict.

    All is Gaussian: the rule's value z, the cue u, and the model's prediction. Its correlations with the two follow
    from conditioning, and the probability that three centred Gaussians are positive is
    1/8 + (arcsin r12 + arcsin r13 + arcsin r23) / (4 pi) (Sheppard 1899).
    """
    seen = width >= PLACE
    explained = (width - seen) / RULE
    if seen:  # what the cue adds about the part of z that the model does not see
        left = 1 - explained
        known = explained + (cue * left) ** 2 / (cue**2 * left + 1 - cue**2)
        with_cue = cue / np.sqrt(known)
    else:
        known, with_cue = explained, cue * np.sqrt(explained)
    with_rule = np.sqrt(min(known, 1.0))
    right = np.arcsin(with_rule) - np.arcsin(with_cue) - np.arcsin(cue)
    conflict = (1 / 8 + right / (4 * np.pi)) / (1 / 4 - np.arcsin(cue) / (2 * np.pi))
    return 0.5 + np.arcsin(with_rule) / np.pi, conflict


def _hardness(size: np.ndarray) -> np.ndarray:
    return LEVEL * (np.asarray(size) / MIDDLE) ** -ALPHA


_GAIN = float(np.subtract(*greedy_accuracy([AFTER, BEFORE])) / np.subtract(*pass_rate([AFTER, BEFORE])))
_DIP, _PLAIN = cue_accuracy(PLACE)[1], cue_accuracy(PLACE, 0.0)[1]


class Emergence(Phenomenon):
    """Two ways in which accuracy misleads about scale.

    *Pass rate*: an answer has four tokens, and the model gives each its right value with probability
    exp(-c g N^-alpha), g differing from token to token; the rest goes to one wrong value. Sampled, the whole answer
    is right with a probability whose logarithm is a power law of N (Hu et al. 2024). Greedy decoding is right once
    each token's probability exceeds 1/2, and that happens to most problems at about the same size. Pass rates are
    measured by sampling each problem until it has passed twice.

    *Cue*: least squares on the N most prominent of 64 features. The label is the sign of a rule spread evenly over
    63 of them. The eighth is a cue, right most of the time. On examples where cue and rule conflict, accuracy falls
    below chance when a model is large enough for the cue, and rises when it is large enough for the rule.
    """

    name = "emergence"
    title = "Emergence, and scaling that turns around"
    question = "Can an ability that large models suddenly have be foreseen from models that never show it?"
    papers = (
        Paper(
            "Hu et al. 2024", "Predicting Emergent Abilities with Infinite Resolution Evaluation", "arXiv 2310.03262"
        ),
        Paper("McKenzie et al. 2023", "Inverse Scaling: When Bigger Isn't Better", "arXiv 2306.09479"),
        Paper("Wei et al. 2022", "Inverse Scaling Can Become U-Shaped", "arXiv 2211.02011"),
    )
    claims = (
        Claim(
            "exponent of −log pass rate, sizes that fail", -ALPHA - 0.02, -ALPHA + 0.02, expected=-ALPHA, rival=0.0,
            digits=3, source="exact: a power law was put in; 0.02 is several times the error of 20 sets of problems",
        ),
        Claim(
            "−log pass rate of largest, forecast over measured", 0.9, 1.1, expected=1.0, digits=3,
            source="Hu et al. 2024: small models foretell large ones; 10 % is three times the forecast's error",
        ),
        Claim(
            "greedy accuracy over pass rate gained in the jump's decade", 2.0, np.inf, expected=_GAIN, rival=1.0,
            source="exact for this spread of tokens; 2 so that it deserves to be called a jump",
        ),
        Claim(
            "accuracy on conflicts at the cue's size", round(_DIP - 0.05, 3), round(_DIP + 0.05, 3),
            expected=_DIP, rival=_PLAIN,
            source="exact (three Gaussians); 0.05 for 4000 training examples; rival: the cue says nothing",
        ),
        Claim(
            "accuracy on conflicts, largest model", 0.9, 1.0, expected=1.0, rival=0.5, controlled=False,
            source="exact without sampling error: 1; 0.1 for 4000 training examples",
        ),
        Claim(
            "smallest gain of ordinary accuracy from size to size", 0.0, np.inf, rival=-0.01, controlled=False,
            expected=float(np.diff([cue_accuracy(n)[0] for n in WIDTHS]).min()),
            source="exact: more features never hurt the best linear model on the distribution it was trained on",
        ),
    )  # fmt: skip
    control = "The ability is a guess below a size and whole above it, and the cue says nothing about the label."
    outcome = ("value",)
    caveats = (
        "The pass rate's power law is put in; what is tested is whether it can be measured where accuracy shows none.",
        "Greedy decoding jumps because all tokens are about equally hard; a wide spread of problems smooths it.",
        "A pass rate of 2e-4 takes ten thousand samples a problem; what is a thousand times rarer is out of reach.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        switched = arm == "control"
        rows = []
        for repetition in range(REPETITIONS[budget]):
            rng = np.random.default_rng([seed, repetition, switched])
            found = [("pass rate", *row) for row in _passes(rng, switched)]
            found += [("cue", *row) for row in _conflicts(rng, 0.0 if switched else CUE)]
            rows += [(repetition, *row) for row in found]
            tell((repetition + 1) / REPETITIONS[budget])
        return pd.DataFrame(rows, columns=["repetition", "part", "size", "what", "value"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        table = runs.pivot_table(index="repetition", columns=["what", "size"], values="value")
        level = np.log(table["−log pass rate"].clip(lower=1e-12))
        small = [n for n in SIZES if n <= SMALL]
        lines = [np.polyfit(np.log(small), row, 1) for row in level[small].to_numpy()]
        forecast = np.array([np.polyval(line, np.log(SIZES[-1])) for line in lines])
        gained = [table[what, _at(AFTER)] - table[what, _at(BEFORE)] for what in ("greedy accuracy", "pass rate")]
        conflict, ordinary = table["accuracy on conflicts"], table["accuracy"]
        return {
            "exponent of −log pass rate, sizes that fail": mean([line[0] for line in lines]),
            "−log pass rate of largest, forecast over measured": mean(np.exp(forecast - level[SIZES[-1]])),
            "greedy accuracy over pass rate gained in the jump's decade": mean(gained[0] / gained[1]),
            "accuracy on conflicts at the cue's size": mean(conflict[PLACE]),
            "accuracy on conflicts, largest model": mean(conflict[WIDTHS[-1]]),
            "smallest gain of ordinary accuracy from size to size": mean(np.diff(ordinary[list(WIDTHS)]).min(1)),
        }

    def figure(self, runs: pd.DataFrame):
        drawn = [draw(runs) for part, draw in (("pass rate", _jump), ("cue", _turn)) if (runs["part"] == part).any()]
        if len(drawn) == 1:
            return drawn[0]
        return (drawn[0] & drawn[1]).resolve_scale(color="independent", shape="independent")


def _at(size: float) -> float:
    return min(SIZES, key=lambda n: abs(np.log(n / size)))


def _passes(rng: np.random.Generator, switched: bool):
    """(size, what, value) of one set of problems, sampled by models of all sizes."""
    hard = rng.gamma(EVENNESS, 1 / EVENNESS, (PROBLEMS, TOKENS))
    for size in SIZES:
        if switched:
            able = size >= MIDDLE
            p, solved = np.full(PROBLEMS, MASTERED if able else GUESSED), np.full(PROBLEMS, float(able))
        else:
            token = np.exp(-_hardness(size) * hard)
            p, solved = token.prod(1), (token > 0.5).all(1)
        tries = rng.negative_binomial(PASSES, p) + PASSES
        yield size, "greedy accuracy", float(solved.mean())
        yield size, "pass rate", float(pass_until(PASSES, tries)[0].mean())
        yield size, "−log pass rate", float(-log_pass_rate(PASSES, tries).mean())


def _conflicts(rng: np.random.Generator, cue: float):
    """(size, what, value) of least squares on the first 1, 2, 4, .. features of one training set."""
    features = rng.standard_normal((TRAINING + TEST, RULE + 1))
    rule = np.delete(features, PLACE - 1, axis=1).sum(1) / np.sqrt(RULE)
    features[:, PLACE - 1] = cue * rule + np.sqrt(1 - cue**2) * features[:, PLACE - 1]
    label = np.sign(rule)
    against = (np.sign(features[:, PLACE - 1]) != label)[TRAINING:]
    for width in WIDTHS:
        x = features[:, :width]
        weights = np.linalg.lstsq(x[:TRAINING], label[:TRAINING], rcond=None)[0]
        right = np.sign(x[TRAINING:] @ weights) == label[TRAINING:]
        yield float(width), "accuracy", float(right.mean())
        yield float(width), "accuracy on conflicts", float(right[against].mean())


_ABILITY = {"effect": "grows as a power law", "control": "is switched on"}
_CUED = {"effect": "cue mostly right", "control": "cue says nothing"}
_ON = ("accuracy", "accuracy on conflicts")


def _summary(runs: pd.DataFrame, what: tuple[str, ...], groups: Mapping[str, str]) -> pd.DataFrame:
    """Means over repetitions as `trend` takes them, a panel each of `what`."""
    rows = []
    for (arm, name, size), own in runs[runs["what"].isin(what)].groupby(["arm", "what", "size"], sort=False):
        found = mean(own["value"])
        rows.append((size, found.value, found.low, found.high, groups[arm], name))
    table = pd.DataFrame(rows, columns=["x", "y", "low", "high", "group", "panel"])
    return table.sort_values("panel", key=lambda names: names.map(what.index), kind="stable")


def _jump(runs: pd.DataFrame):
    from workbench.figures.trend import trend

    ours = runs[runs["part"] == "pass rate"]
    n = np.geomspace(ours["size"].min(), ours["size"].max(), 80)
    name = _ABILITY["effect"]
    exact = {"greedy accuracy": greedy_accuracy(n), "pass rate": pass_rate(n)}
    theory = [(x, y, name, what) for what, ys in exact.items() for x, y in zip(n, ys, strict=True)]
    level = _summary(runs, ("−log pass rate",), _ABILITY)
    accuracy = trend(
        _summary(runs, tuple(exact), _ABILITY), "Parameters, N", "Share of problems",
        theory=pd.DataFrame(theory, columns=["x", "y", "group", "panel"]),
        joined=False, log_y=False, group="The ability", heading="The most probable answer, and a sampled one",
        notes=(f"{ours['repetition'].nunique()} sets of {PROBLEMS} problems, bars: 95 % intervals",),
    )  # fmt: skip
    straight = trend(
        level[["x", "y", "low", "high", "group"]], "Parameters, N", "−log pass rate, mean of problems (nats)",
        theory=pd.DataFrame({"x": n, "y": TOKENS * _hardness(n), "group": name}),
        joined=False, group="The ability", heading="The same pass rates on logarithmic axes", height=260,
        notes=(f"each problem sampled until it passed {PASSES} times",),
    )  # fmt: skip
    return accuracy & straight.properties(width=570)  # as wide as the two above


def _turn(runs: pd.DataFrame):
    from workbench.figures.trend import trend

    ours = runs[runs["part"] == "cue"]
    theory = []
    for arm in ours["arm"].unique():
        cue = CUE if arm == "effect" else 0.0
        for width in range(1, int(ours["size"].max()) + 1):
            exact = cue_accuracy(width, cue)
            theory += [(width, y, _CUED[arm], what) for what, y in zip(_ON, exact, strict=True)]
    return trend(
        _summary(runs, _ON, _CUED), "Features the model uses", "Share of test examples",
        theory=pd.DataFrame(theory, columns=["x", "y", "group", "panel"]),
        joined=False, log_y=False, group="Training data", heading="On conflicts the cue and the rule disagree",
        notes=(f"{ours['repetition'].nunique()} training sets of {TRAINING}, bars: 95 % intervals",),
    )  # fmt: skip
