"""Error set by the dimension of the data and the sharpness of the labels."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from workbench.laws.base import Input, Law, Parameter

__all__ = ["IntrinsicDimension", "two_nearest_neighbours"]


class IntrinsicDimension(Law):
    """``L(n) = E + K n^(-1/d)``: n examples on a d-dimensional set lie about ``n^(-1/d)`` apart.

    A learner that is right at its examples errs by the sharpness K of the labels times the distance to the
    nearest one. The dimension sets the slope, the sharpness the height. Konz and Mazurowski 2024, "The Effect of
    Intrinsic Dataset Properties on Generalization" (arXiv 2401.08865) measure both on images; form as commonly
    quoted, equation not checked against the paper. Networks that use more than nearness can do better: the
    squared error of n linear pieces falls like ``n^(-4/d)`` (Sharma and Kaplan 2022, arXiv
    2004.10802), so a fitted d is an effective dimension of this learner on these data. It is a power law with
    exponent 1/d; `two_nearest_neighbours` estimates d from the data alone.
    """

    name = "intrinsic_dimension"
    title = "Intrinsic dimension"
    inputs = (Input("n", "tokens"),)
    parameters = (
        Parameter("E", "irreducible error", "loss"),
        Parameter("K", "sharpness of the labels: error at one example", "loss"),
        Parameter("d", "intrinsic dimension of the data", start=(0.5, 60.0)),
    )
    linear = ("E", "K")
    floor = "E"
    latex = r"E + K\,n^{-1/d}"
    reference = "Konz and Mazurowski 2024, arXiv 2401.08865"

    @staticmethod
    def formula(n, E, K, d):
        return E + K * n ** -(1 / d)


def two_nearest_neighbours(points: np.ndarray) -> float:
    """Intrinsic dimension of a sample from the ratio of each point's two nearest distances.

    Locally uniform data have ``P(r_2/r_1 > t) = t^-d``, so the maximum-likelihood estimate is ``(m - 1) / sum
    log(r_2/r_1)`` over m points (Facco et al. 2017, doi 10.1038/s41598-017-11873-y, in its unbiased form).

    Args:
        points: ``[m, D]``; points that coincide with another are left out.

    Returns:
        The dimension; its relative standard error is about ``1/sqrt(m)``.

    Raises:
        ValueError: fewer than three different points.
    """
    points = np.unique(np.atleast_2d(np.asarray(points, dtype=float)), axis=0)
    if len(points) < 3:
        raise ValueError(f"there are {len(points)} different points; a dimension needs at least three")
    distances = cKDTree(points).query(points, k=3)[0]
    return float((len(points) - 1) / np.log(distances[:, 2] / distances[:, 1]).sum())
