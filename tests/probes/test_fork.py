"""A branch off a trunk is the run that its probe describes, bit for bit."""

import pytest
import torch

from workbench.probes import Probe
from workbench.probes.fork import branch_point, fork
from workbench.probes.trainer import train

STEPS, WARM = 80, 8
BASE = Probe(vocab=32, width=8, context=16, batch_tokens=256, lr=0.02, evals=1, tokens=256 * STEPS)


def horizon(steps):
    return BASE.replace(tokens=256 * steps, schedule="wsd", warmup=WARM / steps, decay=0.25)


TRUNK = BASE.replace(schedule="constant", warmup=WARM / STEPS)


def checkpoint_at(step):
    states = []
    train([TRUNK], "cpu", on_checkpoint=states.extend, checkpoint_seconds=1e9, checkpoint_steps=[step])
    (state,) = states
    assert state.step == step
    return state


def test_the_point_of_departure_by_hand():
    # the last 10 of 40 steps decay, and the first of them still has 10/10
    assert branch_point(TRUNK, horizon(40)) == 31
    assert branch_point(TRUNK, TRUNK.replace(tokens=256 * 40, warmup=WARM / 40)) == 40


@pytest.mark.parametrize("steps", [20, 40])
def test_a_branch_equals_the_run_from_scratch(steps):
    branch = horizon(steps)
    state = checkpoint_at(branch_point(TRUNK, branch))
    (forked,) = train([branch], "cpu", states=[fork(state, TRUNK, branch)])
    (whole,) = train([branch], "cpu")
    assert forked.loss == whole.loss
    assert torch.equal(forked.weights, whole.weights)


def test_what_is_no_branch_is_refused():
    branch = horizon(40)
    (stopped,) = train([TRUNK], "cpu", should_stop=lambda: True)
    with pytest.raises(ValueError, match="horizon, schedule and evaluations only"):
        branch_point(TRUNK, branch.replace(lr=0.1))
    with pytest.raises(ValueError, match="not of"):
        fork(stopped.state, TRUNK.replace(seed=1), branch)
    states = []
    train([TRUNK], "cpu", on_checkpoint=states.extend, checkpoint_seconds=0)
    with pytest.raises(ValueError, match="too late"):
        fork(states[-1], TRUNK, branch)
