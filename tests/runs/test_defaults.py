"""Settings at their default, which run folders leave unwritten, are known where other runs vary them."""

import json

import workbench
from workbench.launch.stack import create
from workbench.probes import Probe, Sweep

BASE = Probe(vocab=32, width=4, context=16, batch_tokens=64, tokens=640, evals=2)


def folders(root, sweep):
    for probe in sweep:
        create(root, probe)
    return [root / probe.id for probe in sweep]


def test_a_varied_setting_is_known_for_every_run(tmp_path):
    sweep = Sweep.grid(BASE, parametrization=["standard", "mup"], optimizer=["adamw", "sgd"], decay=[0.2, 0.1])
    frame = workbench.load(folders(tmp_path, sweep)).frame.set_index("run")
    for probe in sweep:
        row = frame.loc[probe.id]
        assert (row["parametrization"], row["optimizer"], row["decay"]) == (
            probe.parametrization,
            probe.optimizer,
            probe.decay,
        )
    assert "base_width" not in frame, "what no run states is in no column"
    assert frame.loc[[p.id for p in sweep if p.optimizer == "adamw"], "beta1"].notna().all()
    assert frame.loc[[p.id for p in sweep if p.optimizer == "sgd"], "beta1"].isna().all(), "sgd has no beta1"


def test_the_whole_folder_is_the_same_and_others_are_left_alone(tmp_path):
    sweep = Sweep.grid(BASE, transform=["none", "grokfast"])
    folders(tmp_path, sweep)
    other = tmp_path / "other"
    other.mkdir()
    (other / "spec.json").write_text(json.dumps({"schema": 1, "task": "mine", "model": "mine", "loss": 3.0}))
    frame = workbench.load(tmp_path).frame.set_index("run")
    assert frame.loc[[p.id for p in sweep], "transform"].tolist() == ["none", "grokfast"]
    assert frame.loc[["other"], "transform"].isna().all()


def test_a_damaged_spec_beside_them_is_one_marked_run(tmp_path):
    sweep = Sweep.grid(BASE, transform=["none", "grokfast"])
    folders(tmp_path, sweep)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "spec.json").write_text('{"schema": 1, "task"')
    table = workbench.load(tmp_path)
    assert len(table) == 3 and table.frame.set_index("run").loc[sweep[0].id, "transform"] == "none"
