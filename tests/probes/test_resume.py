"""A run that was stopped, stored and resumed is the run that was not, bit for bit."""

import itertools

import pytest
import torch

from workbench.probes import Probe
from workbench.probes.checkpoint import Checkpoint
from workbench.probes.trainer import train

TINY = Probe(vocab=32, width=8, context=16, batch_tokens=256, tokens=256 * 60, lr=0.02, evals=5, clip=1.0)


def curves(result):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in result.records]


def stop_after(looks):
    counter = itertools.count()
    return lambda: next(counter) >= looks


@pytest.mark.parametrize("base", [TINY, TINY.replace(precision="bf16", ema=0.9, evals=2)])
@pytest.mark.parametrize("looks", [0, 1, 3])
def test_resumed_from_disk_it_is_the_undisturbed_run(base, looks, tmp_path):
    probes = [base, base.replace(seed=1, lr=0.05), base.replace(seed=2, weight_decay=0.1)]
    whole = train(probes, "cpu")
    parts = train(probes, "cpu", should_stop=stop_after(looks))
    assert {part.status for part in parts} == {"stopped"}
    for probe, part in zip(probes, parts, strict=True):
        part.state.write(tmp_path / probe.id)
    # in another company: what was one stack goes on as two
    states = [Checkpoint.read(tmp_path / probe.id) for probe in probes]
    again = train(probes[1:], "cpu", states=states[1:]) + train(probes[:1], "cpu", states=states[:1])
    for expected, got in zip([*whole[1:], whole[0]], again, strict=True):
        assert got.status == "finished"
        assert curves(got) == curves(expected)
        assert torch.equal(got.weights, expected.weights)


def test_checkpoints_are_handed_out_while_it_trains():
    handed = []
    whole = train([TINY], "cpu", on_checkpoint=handed.append, checkpoint_seconds=0)
    assert handed
    assert all(len(states) == 1 for states in handed)
    (resumed,) = train([TINY], "cpu", states=handed[len(handed) // 2])
    assert curves(resumed) == curves(whole[0])


def test_foreign_damaged_and_absent_checkpoints(tmp_path):
    (part,) = train([TINY], "cpu", should_stop=stop_after(1))
    with pytest.raises(ValueError, match="cannot resume"):
        train([TINY.replace(seed=9)], "cpu", states=[part.state])
    assert Checkpoint.read(tmp_path) is None
    part.state.write(tmp_path)
    file = tmp_path / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        Checkpoint.read(tmp_path)
