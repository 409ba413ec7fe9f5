"""Resampling until a verifier accepts: what a verifier that errs, and a sampler that is too sure, leave of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.laws.tasks.resampling import best_samples, outcomes
from workbench.phenomena.base import Claim, Paper, Phenomenon, Tell
from workbench.phenomena.estimates import Estimate, mean

__all__ = ["COST", "FALSE_POSITIVES", "MODELS", "VerifierResampling", "coverage_weight"]

#: Beta parameters of the problems' single-sample accuracy: means 0.3 and 0.8, and a wide spread.
MODELS = {"weak": (0.6, 1.4), "strong": (1.6, 0.4)}
#: Share of wrong answers that the verifier accepts, and what an accepted wrong answer costs, in right ones.
FALSE_POSITIVES, COST = 0.1, 2.0
SAMPLES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 64, 128, 256, 512)
#: Budget -> repetitions, problems in each.
SIZES = {"cpu": (20, 2000), "gpu": (200, 20000)}
#: The sampler that is trained: inputs, answers, training problems, test problems, size of the teacher's logits.
INPUTS, ANSWERS, TRAINING, TEST, SIGNAL = 40, 20, 400, 1000, 4.0
STEPS, RATE, ATTEMPTS = (10, 30, 100, 300, 1000), 2.0, 64
SAMPLERS = {"cpu": 8, "gpu": 64}

_CEILING = float(outcomes([SAMPLES[-1]], *MODELS["weak"], FALSE_POSITIVES)[0][0])
_COVERAGE = float(outcomes([SAMPLES[-1]], *MODELS["weak"], 0.0)[0][0])
_STRONG = MODELS["strong"][0] / sum(MODELS["strong"])


def coverage_weight(p: np.ndarray, attempts: int) -> np.ndarray:
    """How much the loss -log(1 - (1-p)^N) pulls at a problem, over what cross-entropy -log p does.

    Their derivatives' ratio, N p (1-p)^(N-1) / (1 - (1-p)^N): 1 where p is far below 1/N, and 0 where N attempts
    would find the answer anyway. Cross-entropy is N = 1.
    """
    p = np.clip(p, 1e-300, 1 - 1e-16)  # the ratio's limits at 0 and 1 without 0/0
    failed = np.log1p(-p)
    return attempts * p * np.exp((attempts - 1) * failed) / -np.expm1(attempts * failed)


class VerifierResampling(Phenomenon):
    """A problem is sampled until a verifier accepts, K times at most; then whoever asked gets the accepted answer.

    *Resampling*: each problem has its own chance q of a right sample, spread as a Beta distribution. The verifier
    accepts all right answers and a tenth of the wrong ones. The accepted answer is right with probability
    q / (q + f (1-q)), however many samples are drawn. Theory is `workbench.laws.tasks.resampling.outcomes`.

    *Training*: the sampler is a softmax classifier, trained by gradient descent on answers that were drawn from a
    softmax teacher. Cross-entropy on answers it can separate lets its weights grow without end (Soudry et al. 2018,
    arXiv 1710.10345), so its samples become all alike, and pass@64 falls while pass@1 rises. Here the verifier is
    perfect; the loss -log pass@64 (the control) stops pulling where 64 attempts find the answer anyway.
    """

    name = "verifier_resampling"
    title = "Resampling with an imperfect verifier"
    question = "Can a weak model that tries again until a verifier accepts catch up with a strong one?"
    papers = (
        Paper("Stroebl et al. 2024", "Inference Scaling fLaws: The Limits of LLM Resampling with Imperfect Verifiers",
              "arXiv 2411.17501"),
        Paper("Chen et al. 2025", "Rethinking Fine-Tuning when Scaling Test-Time Compute", "arXiv 2502.07154"),
    )  # fmt: skip
    claims = (
        Claim(
            "weak model's accuracy at 512 samples", round(_CEILING - 0.02, 3), round(_CEILING + 0.02, 3),
            expected=_CEILING, rival=_COVERAGE, digits=3,
            source="exact (Beta moments); 0.02 is two standard errors of 2000 problems; rival: no false positives",
        ),
        Claim(
            "weak model's best number of samples", 1.0, 10.0,
            expected=float(best_samples(*MODELS["weak"], FALSE_POSITIVES, COST)[0]), rival=float(SAMPLES[-1]),
            source="Stroebl et al. 2024, abstract: the best number can be below 10; exact for this spread and cost",
        ),
        Claim(
            "strong model at 1 sample less weak at 512", 0.0, np.inf, expected=_STRONG - _CEILING,
            rival=_STRONG - _COVERAGE, digits=3,
            source="Stroebl et al. 2024, abstract: no number of samples makes up for a weak model; exact here",
        ),
        Claim(
            "pass@64 gained from step 30 to 1000", -np.inf, -0.05, rival=0.0,
            source="Chen et al. 2025, abstract: pass@N falls with longer training; 0.05 so that it counts",
        ),
        Claim(
            "pass@1 gained from step 30 to 1000", 0.02, np.inf, rival=0.0, controlled=False,
            source="the same steps must help a single sample, or there is no conflict; 0.02 so that it counts",
        ),
    )  # fmt: skip
    control = "The verifier makes no errors, and the sampler is trained on -log pass@64 instead of cross-entropy."
    outcome = ("right", "wrong")
    caveats = (
        "All problems share one false-positive rate; with real unit tests weak models pass wrongly more often.",
        "The best number of samples depends on what a wrong answer costs; for the strong model it is 8, and flat.",
        "The trained sampler is a linear softmax on noisy answers; early stopping helps it as well as another loss.",
    )

    def experiment(self, arm: str, budget: str, seed: int, tell: Tell) -> pd.DataFrame:
        repetitions, problems = SIZES[budget]
        perfect = arm == "control"
        rows = []
        for repetition in range(repetitions):
            for place, (model, (a, b)) in enumerate(MODELS.items()):
                rng = np.random.default_rng([seed, 0, repetition, place, perfect])
                right, wrong = _resampled(rng, rng.beta(a, b, problems), 0.0 if perfect else FALSE_POSITIVES)
                rows += [
                    ("resampling", model, repetition, 0, k, *s) for k, *s in zip(SAMPLES, right, wrong, strict=True)
                ]
            tell(0.5 * (repetition + 1) / repetitions)
        for sampler in range(SAMPLERS[budget]):
            rng = np.random.default_rng([seed, 1, sampler, perfect])
            for step, p in _trained(rng, ATTEMPTS if perfect else 1):
                for attempts in (1, ATTEMPTS):
                    passed = float((1 - (1 - p) ** attempts).mean())
                    rows.append(("training", "sampler", sampler, step, attempts, passed, 0.0))
            tell(0.5 + 0.5 * (sampler + 1) / SAMPLERS[budget])
        return pd.DataFrame(rows, columns=["part", "model", "repetition", "step", "samples", "right", "wrong"])

    def measure(self, runs: pd.DataFrame) -> Mapping[str, Estimate]:
        asked = runs[runs["part"] == "resampling"]
        right = asked.pivot_table(index="repetition", columns=["model", "samples"], values="right")
        weak = asked[asked["model"] == "weak"]
        weak = weak.assign(utility=weak["right"] - COST * weak["wrong"])
        best = weak.loc[weak.groupby("repetition")["utility"].idxmax(), "samples"]
        trained = runs[runs["part"] == "training"]
        passed = trained.pivot_table(index="repetition", columns=["samples", "step"], values="right")
        early, late = STEPS[1], STEPS[-1]
        return {
            "weak model's accuracy at 512 samples": mean(right["weak", SAMPLES[-1]]),
            "weak model's best number of samples": mean(best),
            "strong model at 1 sample less weak at 512": mean(right["strong", 1] - right["weak", SAMPLES[-1]]),
            "pass@64 gained from step 30 to 1000": mean(passed[ATTEMPTS, late] - passed[ATTEMPTS, early]),
            "pass@1 gained from step 30 to 1000": mean(passed[1, late] - passed[1, early]),
        }

    def figure(self, runs: pd.DataFrame):
        parts = dict(list(runs.groupby("part", sort=False)))
        drawn = [draw(parts[part]) for part, draw in (("resampling", _answers), ("training", _passes)) if part in parts]
        return (
            drawn[0]
            if len(drawn) == 1
            else (drawn[0] & drawn[1]).resolve_scale(color="independent", shape="independent")
        )


def _resampled(rng: np.random.Generator, q: np.ndarray, f: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the problems answered right and wrong after at most each of `SAMPLES`, drawn sample by sample."""
    right = rng.random((len(q), SAMPLES[-1]), dtype=np.float32) < q[:, None]
    accepted = right | (rng.random(right.shape, dtype=np.float32) < f)
    first = np.where(accepted.any(1), accepted.argmax(1), SAMPLES[-1])
    won = right[np.arange(len(q)), np.minimum(first, SAMPLES[-1] - 1)]
    answered = first[:, None] < np.array(SAMPLES)
    return (answered & won[:, None]).mean(0), (answered & ~won[:, None]).mean(0)


def _trained(rng: np.random.Generator, attempts: int):
    """Train one sampler; yield (step, probabilities of the right answers of the test problems ``[TEST]``)."""
    teacher = SIGNAL / np.sqrt(INPUTS) * rng.standard_normal((INPUTS, ANSWERS))
    x = rng.standard_normal((TRAINING + TEST, INPUTS))
    y = (_softmax(x @ teacher).cumsum(1) > rng.random((len(x), 1))).argmax(1)
    x, new, y, asked = x[:TRAINING], x[TRAINING:], y[:TRAINING], y[TRAINING:]
    weights, target = np.zeros((INPUTS, ANSWERS)), np.eye(ANSWERS)[y]
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            yield step, _softmax(new @ weights)[np.arange(TEST), asked]
        p = _softmax(x @ weights)
        pull = coverage_weight(p[np.arange(TRAINING), y], attempts)
        weights += RATE / TRAINING * x.T @ ((target - p) * pull[:, None])


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


_VERIFIER = {"effect": "errs", "control": "perfect"}
_LOSS = {"effect": "cross-entropy", "control": "−log pass@64"}
_PANELS = ("Answered right", f"Utility: right less {COST:g} × wrong")


def _answers(runs: pd.DataFrame):
    from workbench.figures.trend import trend

    points, theory = [], []
    top = int(runs["samples"].max())
    ks = np.unique(np.round(np.geomspace(1, top, 60)))
    for (arm, model), own in runs.groupby(["arm", "model"], sort=False):
        group = f"{model}, verifier {_VERIFIER[arm]}"
        for k, rows in own.groupby("samples"):
            for panel, value in zip(_PANELS, (rows["right"], rows["right"] - COST * rows["wrong"]), strict=True):
                found = mean(value)
                points.append((k, found.value, found.low, found.high, group, panel))
        right, wrong = outcomes(ks, *MODELS[model], 0.0 if arm == "control" else FALSE_POSITIVES)
        theory += [(k, r, group, _PANELS[0]) for k, r in zip(ks, right, strict=True)]
        theory += [(k, u, group, _PANELS[1]) for k, u in zip(ks, right - COST * wrong, strict=True)]
    return trend(
        pd.DataFrame(points, columns=["x", "y", "low", "high", "group", "panel"]),
        "Samples at most, K", "Share of problems",
        theory=pd.DataFrame(theory, columns=["x", "y", "group", "panel"]),
        joined=False, log_y=False, group="Model", heading="Sample again until the verifier accepts",
        notes=(
            f"the verifier that errs accepts {FALSE_POSITIVES:.0%} of wrong answers",
            f"{runs['repetition'].nunique()} sets of problems, bars: 95 % intervals",
        ),
    )  # fmt: skip


def _passes(runs: pd.DataFrame):
    from workbench.figures.trend import trend

    points = []
    for (arm, attempts, step), rows in runs.groupby(["arm", "samples", "step"], sort=False):
        found = mean(rows["right"])
        points.append((step, found.value, found.low, found.high, _LOSS[arm], f"pass@{attempts}"))
    return trend(
        pd.DataFrame(points, columns=["x", "y", "low", "high", "group", "panel"]),
        "Training steps", "Share of test problems",
        log_y=False, group="Trained on", heading="Train the sampler for longer",
        notes=(f"perfect verifier, {runs['repetition'].nunique()} samplers, bars: 95 % intervals",),
    )  # fmt: skip
