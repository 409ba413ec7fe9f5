"""Every law of the first family through the contract."""

from __future__ import annotations

import numpy as np

from workbench.testing.laws import LawContract

X = {"x": np.geomspace(1e17, 1e22, 60)}
ND = {"N": np.geomspace(1e7, 1e10, 8), "D": np.geomspace(1e8, 1e12, 8)}


class TestPower(LawContract):
    law, truth, grid = "power", {"A": 20.0, "alpha": 0.05}, X


class TestPowerConstant(LawContract):
    law, truth, grid = "power_constant", {"E": 1.7, "A": 2000.0, "alpha": 0.17}, X


class TestShiftedPowerConstant(LawContract):
    law, truth, grid = "shifted_power_constant", {"E": 1.7, "A": 1e5, "s": 3e18, "alpha": 0.25}, X
    noise = 0.001


class TestChinchilla(LawContract):
    law, grid = "chinchilla", ND
    truth = {"E": 1.82, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}  # Besiroglu et al. 2024


class TestChinchillaTied(LawContract):
    law, truth, grid = "chinchilla_tied", {"E": 1.8, "A": 560.0, "B": 1750.0, "alpha": 0.357}, ND


class TestOverTraining(LawContract):
    law, truth = "over_training", {"E": 1.84, "a": 212.0, "b": 367.0, "eta": 0.136}  # Gadre et al. 2024, RedPajama
    grid = {"C": np.geomspace(1e17, 1e22, 10), "M": np.geomspace(5, 640, 7)}


class TestKaplan(LawContract):
    law, grid = "kaplan", ND
    # Kaplan et al. 2020, table 2
    truth = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}


class TestExponential(LawContract):
    law, truth, grid = "exponential", {"E": 1.7, "A": 1.5, "x_0": 2e21}, {"x": np.linspace(1e20, 1e22, 60)}


class TestConstant(LawContract):
    law, truth, grid = "constant", {"E": 2.5}, X
