"""Loss in model size and training steps, at unlimited batch size and at a stated one."""

from __future__ import annotations

import numpy as np

from workbench.laws.base import Input, Law, Parameter
from workbench.laws.scale._starts import log_uniform, weights_of_powers

__all__ = ["LearningCurve", "LearningCurveBatch"]

_N = Input("N", "params")
_S = Input("S", "steps")
_N_C = Parameter("N_c", "parameters at which endless training gives a loss of 1", "x", start=(1e2, 1e8), of="N")
_S_C = Parameter("S_c", "steps at which an unlimited model gives a loss of 1", "x", start=(1e-4, 1e2), of="S")
_ALPHA_N = Parameter("alpha_N", "exponent of parameters", high=20.0, start=(0.01, 0.6))
_ALPHA_S = Parameter("alpha_S", "exponent of steps", high=20.0, start=(0.1, 1.5))

#: Newton steps of the implicit law.
_ITERATIONS = 8


def _scales(x, y, steps, alpha_n, alpha_s):
    """N_c and S_c ``[n]`` for exponents ``[n]``: L is linear in N_c^alpha_N and S_c^alpha_S."""
    logs = [np.log(x["N"]), np.log(steps)]
    with np.errstate(all="ignore"):
        target = np.broadcast_to(np.log(y), (alpha_n.size, y.size))
        of_n, of_s = weights_of_powers(logs, [alpha_n, alpha_s], target)
        return of_n ** (1 / alpha_n), of_s ** (1 / alpha_s)


class LearningCurve(Law):
    """``L(N, S) = (N_c / N)^alpha_N + (S_c / S)^alpha_S`` with S the steps at a batch far above the critical one.

    Kaplan et al. 2020 (arXiv 2001.08361, eq. 1.6 and 5.6), where S is S_min: for data that do not run
    out, after warm-up. Their table 3 gives alpha_N = 0.077, alpha_S = 0.76, N_c = 6.5e13 (without
    embeddings), S_c = 2.1e3. Su et al. 2024 (arXiv 2403.06563) confirm the form to 33B parameters and
    find the constants to depend on the setup. For runs at an ordinary batch see `LearningCurveBatch`.
    """

    name = "learning_curve"
    title = "Learning curve"
    inputs = (_N, _S)
    parameters = (_N_C, _S_C, _ALPHA_N, _ALPHA_S)
    latex = r"\left(\frac{N_c}{N}\right)^{\alpha_N} + \left(\frac{S_c}{S}\right)^{\alpha_S}"
    reference = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.6"

    @staticmethod
    def formula(N, S, N_c, S_c, alpha_N, alpha_S):
        return (N_c / N) ** alpha_N + (S_c / S) ** alpha_S

    def guess(self, x, y, n, rng):
        """Draw the exponents and solve for the scales."""
        theta = super().guess(x, y, n, rng)
        theta[:, 0], theta[:, 1] = _scales(x, y, x["S"], theta[:, 2], theta[:, 3])
        return self.clip(theta)


class LearningCurveBatch(Law):
    """``L = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S`` where ``S_min = S / (1 + B_crit(L) / B)``.

    The critical batch ``B_crit(L) = B_s L^(-1/alpha_B)`` grows as the loss falls, so L stands on both
    sides; `formula` solves for it. Kaplan et al. 2020 (arXiv 2001.08361, eq. 1.6, 5.3 and 5.4) give
    B_s (their B_*) = 2e8 tokens and alpha_B = 0.21 beside the constants of `LearningCurve`. S counts steps at the
    batch of B tokens. B_s and alpha_B show only in runs at several batch sizes.
    """

    name = "learning_curve_batch"
    title = "Learning curve at a batch size"
    inputs = (_N, _S, Input("B", "batch_tokens"))
    parameters = (
        _N_C,
        _S_C,
        Parameter("B_s", "critical batch at a loss of 1", "tokens", start=(1e-2, 1e4), of="B"),
        _ALPHA_N,
        _ALPHA_S,
        Parameter("alpha_B", "1 over the exponent of loss in the critical batch", high=20.0, start=(0.08, 1.0)),
    )
    latex = (
        r"\left(\frac{N_c}{N}\right)^{\alpha_N} + "
        r"\left[\frac{S_c}{S}\left(1 + \frac{B_s}{B}\,L^{-1/\alpha_B}\right)\right]^{\alpha_S}"
    )
    reference = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.6, 5.3, 5.4"

    @staticmethod
    def formula(N, S, B, N_c, S_c, B_s, alpha_N, alpha_S, alpha_B):
        # In logs: l = h(l) with h(l) = log(exp(p) + exp(q + alpha_S log(1 + exp(b - l / alpha_B)))).
        # h is convex and falls, so Newton's method approaches the one root from below, whatever the start.
        p = alpha_N * np.log(N_c / N)
        q = alpha_S * np.log(S_c / S)
        b = np.log(B_s / B)
        # Two lower bounds: an unlimited batch, and a tiny batch with an unlimited model.
        loss = np.maximum(np.logaddexp(p, q), (q + alpha_S * b) / (1.0 + alpha_S / alpha_B))
        for _ in range(_ITERATIONS):
            excess = b - loss / alpha_B
            of_steps = q + alpha_S * np.logaddexp(0.0, excess)
            h = np.logaddexp(p, of_steps)
            share = np.exp(of_steps - h) * (0.5 + 0.5 * np.tanh(0.5 * excess))
            loss = loss + (h - loss) / (1.0 + share * alpha_S / alpha_B)
        return np.exp(loss)

    def guess(self, x, y, n, rng):
        """Draw the exponents and B_s; the observed losses give S_min, and that the scales."""
        theta = super().guess(x, y, n, rng)
        # B_s is the critical batch at a loss of 1; what lies within two decades of the data's is that at their loss.
        log_y = np.log(np.maximum(y, 1e-300))
        log_b = np.log(log_uniform(0.01 * x["B"].min(), 100 * x["B"].max(), n, rng)) + np.median(log_y) / theta[:, 5]
        theta[:, 2] = np.exp(np.clip(log_b, -60, 130))
        excess = np.log(theta[:, 2, None]) - np.log(x["B"]) - log_y / theta[:, 5, None]
        steps = x["S"] / (1 + np.exp(np.clip(excess, -100, 100)))
        theta[:, 0], theta[:, 1] = _scales(x, y, steps, theta[:, 3], theta[:, 4])
        return self.clip(theta)
