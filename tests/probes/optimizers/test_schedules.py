"""Schedules against values worked out by hand, step by step."""

import math

import pytest

from workbench.probes import Probe
from workbench.probes.optimizers.schedules import multipliers

TEN = Probe(tokens=1024 * 10, warmup=0.2)


def table(**settings):
    return multipliers(TEN.replace(**settings)).tolist()


def test_wsd_falls_in_its_last_steps_only():
    # two steps up, then flat; four steps (0.4) of decay that would end one step after the last
    rest = [1, 1, 1, 1]
    assert table(schedule="wsd", decay=0.4) == pytest.approx([0.5, 1, *rest, 1, 3 / 4, 2 / 4, 1 / 4])
    assert table(schedule="wsd", decay=0.4, lr_end=0.2) == pytest.approx([0.5, 1, *rest, 1, 0.8, 0.6, 0.4])
    assert table(schedule="wsd", decay=0.0) == pytest.approx([0.5] + [1] * 9)


def test_one_cycle_is_half_a_cosine_up_and_half_a_cosine_down():
    up = [1 / 25 + 24 / 25 * (1 - math.cos(math.pi * k / 2)) / 2 for k in (1, 2)]
    down = [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert table(schedule="one_cycle") == pytest.approx(up + down)
    assert up[0] == pytest.approx(0.52)


def test_inverse_square_root_is_halved_when_four_times_the_warm_up_is_done():
    got = table(schedule="inverse_sqrt")
    assert got == pytest.approx([0.5, 1.0] + [math.sqrt(2 / (2 + k)) for k in range(8)])
    assert got[2 + 6] == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one_cycle"])
def test_lr_end_is_what_the_step_after_the_last_would_have(schedule):
    full, ended = table(schedule=schedule), table(schedule=schedule, lr_end=0.1)
    # the same curve, pressed from [0, 1] into [0.1, 1] after the warm-up
    assert ended[2:] == pytest.approx([0.1 + 0.9 * value for value in full[2:]])
    assert ended[:2] == full[:2]
    longer = TEN.replace(tokens=1024 * 1000, schedule=schedule, lr_end=0.1)
    assert multipliers(longer)[-1] == pytest.approx(0.1, abs=2e-3)


def test_no_room_for_warm_up_and_decay_is_refused():
    with pytest.raises(ValueError, match="take more than all steps"):
        TEN.replace(schedule="wsd", warmup=0.5, decay=0.6)
