"""The best learning rate against training length and batch size, around a critical batch that grows with time."""

from __future__ import annotations

from workbench.laws.base import Input, Law, Parameter

__all__ = ["TimeTransfer"]


class TimeTransfer(Law):
    """``lr(T, B) = 2 eta_m / (sqrt(B / B_c) + sqrt(B_c / B))`` with ``B_c(T) = k T^q``.

    Filatov et al. 2024 (arXiv 2410.05838) observe three regimes, lr ~ T^(1/2), 1 and T^(-1/2), with
    transitions set by B against a critical batch that grows in proportion to the tokens T. The formula is
    ours, and not theirs: Adam's surge (`lr_batch_surge`) around that critical batch is the simplest smooth
    curve with these limits. Small batches (B << B_c) have lr ~ (B / T^q)^(1/2), large ones
    lr ~ (T^q / B)^(1/2), and between them lr does not depend on T. A fitted q near 1 supports their claim.
    """

    name = "time_transfer"
    title = "Learning rate across training lengths"
    inputs = (Input("T", "tokens"), Input("B", "batch_tokens"))
    parameters = (
        Parameter("eta_m", "largest best learning rate, at the critical batch", "loss"),
        Parameter("k", "critical batch at T = 1", "x", start=(1e-8, 1e2)),
        Parameter("q", "exponent of the critical batch", high=10.0, start=(0.2, 1.6)),
    )
    linear = ("eta_m",)
    trend = ""
    latex = r"\frac{2\,\eta_m}{\sqrt{B / B_c} + \sqrt{B_c / B}},\quad B_c = k\,T^{q}"
    reference = "our form; regimes of Filatov et al. 2024, Time Transfer, arXiv 2410.05838"

    @staticmethod
    def formula(T, B, eta_m, k, q):
        ratio = (B / (k * T**q)) ** 0.5
        return 2 * eta_m / (ratio + 1 / ratio)

    def guess(self, x, y, n, rng):
        """Draw q and a critical batch within the batches of the runs; eta_m is then solved for."""
        theta = super().guess(x, y, n, rng)
        low, high = x["B"].min() / 10, x["B"].max() * 10
        middle = low * (high / low) ** rng.random(n)
        typical = float(x["T"].min() ** 0.5 * x["T"].max() ** 0.5)
        theta[:, 1] = middle / typical ** theta[:, 2]
        shape = self.predict(theta * [0, 1, 1] + [1, 0, 0], x) / y
        theta[:, 0] = shape.sum(-1) / (shape**2).sum(-1)
        return self.clip(theta)
