"""Probe and Sweep: identity, JSON, counting, and one clear sentence for bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.probes import Probe, Sweep


def test_importing_the_package_does_not_import_torch():
    code = "import sys, workbench.probes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@settings(max_examples=50, deadline=None)
@given(
    width=st.integers(1, 64),
    batches=st.integers(1, 100),
    lr=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    clip=st.none() | st.floats(1e-3, 10),
)
def test_json_round_trip_keeps_the_probe_and_its_id(width, batches, lr, seed, schedule, clip):
    probe = Probe(width=width, tokens=1024 * batches, lr=lr, seed=seed, schedule=schedule, clip=clip)
    again = Probe.from_json(probe.to_json())
    assert again == probe
    assert again.id == probe.id


def test_the_id_is_pinned():
    # A changed id orphans every stored result: raise SCHEMA when the meaning of a field changes, not by accident.
    assert Probe().id == "0907f3f900cb7c49"


def test_every_field_enters_the_id():
    changes = {
        "vocab": 128, "tau": 1.0, "s": 0.5, "language_seed": 1, "width": 32, "depth": 2, "heads": 2, "context": 64,
        "mlp_ratio": 2, "tokens": 2**18, "batch_tokens": 2048, "lr": 0.02, "warmup": 0.1, "schedule": "cosine",
        "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-7, "clip": 1.0, "seed": 1, "precision": "bf16",
        "evals": 3,
    }  # fmt: skip
    fields = set(Probe().to_dict()) - {"schema", "task", "model"}
    assert fields == set(changes)
    changes["eval_spacing"] = "linear"
    ids = {Probe().replace(**{name: value}).id for name, value in changes.items()}
    assert len(ids | {Probe().id}) == len(changes) + 1


def test_a_younger_field_leaves_the_ids_of_older_probes_alone():
    assert "table" not in Probe().to_dict()
    shaped = [Probe(schedule="table", table=((0, 1), (1, end))) for end in (0, 0.5)]
    assert len({p.id for p in shaped} | {Probe().id}) == 3
    assert all(Probe.from_json(p.to_json()) == p for p in shaped)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"table": ((0, 1), (1, 0))}, ValueError, "together"),
        ({"schedule": "table"}, ValueError, "together"),
        ({"schedule": "table", "table": ((0, 1), (0.5, 0))}, ValueError, "from share 0 to share 1"),
        ({"schedule": "table", "table": ((0, 1), (0.7, 1), (0.5, 0), (1, 0))}, ValueError, "from share 0"),
        ({"schedule": "table", "table": ((0, -1), (1, 0))}, ValueError, "multiplier"),
        ({"schedule": "table", "table": 3}, TypeError, "pairs"),
    ],
)
def test_a_table_that_is_none_is_refused(change, error, sentence):
    with pytest.raises(error, match=sentence):
        Probe(**change)


def test_numbers_of_other_types_give_the_same_probe():
    assert Probe(tokens=2e5 - 2e5 % 1024, width=np.int64(16), lr=np.float64(0.01)) == Probe(tokens=199680)


def test_parameters_counted_by_hand():
    # d = 8, V = 32, T = 16, L = 2: each block 8*24 + 8*8 + 8*32 + 32*8 = 768; embeddings 2*32*8 + 16*8 = 640
    probe = Probe(width=8, vocab=32, context=16, depth=2)
    assert probe.params_non_embedding == 1536
    assert probe.params == 2176
    assert probe.flops == 6 * 2176 * probe.tokens
    assert probe.steps == 512


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"width": 10, "heads": 4}, ValueError, "heads=4"),
        ({"tokens": 1025}, ValueError, "nearest is 1024"),
        ({"batch_tokens": 1000}, ValueError, "nearest is 992"),
        ({"schedule": "zigzag"}, ValueError, "linear, cosine, constant"),
        ({"precision": "fp8"}, ValueError, "fp32, tf32, bf16"),
        ({"lr": float("nan")}, ValueError, "lr=nan"),
        ({"stream": "bf16"}, ValueError, "needs precision='bf16'"),
        ({"lr": "0.1"}, TypeError, "lr='0.1' is not a number"),
        ({"width": 1.5}, TypeError, "not a whole number"),
        ({"width": True}, TypeError, "not a whole number"),
        ({"width": float("inf")}, TypeError, "not a whole number"),
        ({"tau": -1}, ValueError, "between 0.0 and 4.0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"clip": 0}, ValueError, "clip=0"),
        ({"task": "chess"}, ValueError, "bigram"),
        ({"schedule": ["linear"]}, ValueError, "choose one of"),
    ],
)
def test_bad_fields_get_one_sentence(changes, error, words):
    with pytest.raises(error, match=words) as caught:
        Probe(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [("{", ValueError), ("[]", TypeError), ("{}", ValueError), ('{"schema": 1, "colour": 2}', TypeError),
     ('{"schema": 99}', ValueError)],
)  # fmt: skip
def test_foreign_json_is_refused(text, error):
    with pytest.raises(error):
        Probe.from_json(text)


def test_grid_is_the_product_in_order():
    sweep = Sweep.grid(Probe(), width=[8, 16], seed=range(3))
    assert [(p.width, p.seed) for p in sweep] == [(8, 0), (8, 1), (8, 2), (16, 0), (16, 1), (16, 2)]
    assert len(sweep) == 6
    again = Sweep.from_json(sweep.to_json())
    assert (again, again.id) == (sweep, sweep.id)
    assert json.loads(sweep.to_json())["schema"] == 1


def test_buckets_split_by_shape_and_steps_only():
    sweep = Sweep.grid(Probe(), lr=[0.01, 0.02], width=[8, 16], tokens=[2**15, 2**16], seed=[0, 1])
    buckets = sweep.buckets()
    assert sorted(i for bucket in buckets for i in bucket) == list(range(16))
    assert [len(bucket) for bucket in buckets] == [4, 4, 4, 4]
    assert all(len({(sweep[i].width, sweep[i].tokens) for i in bucket}) == 1 for bucket in buckets)


def test_bad_sweeps():
    with pytest.raises(ValueError, match="at least one"):
        Sweep(())
    with pytest.raises(ValueError, match="twice"):
        Sweep((Probe(), Probe()))
    with pytest.raises(TypeError, match="holds probes"):
        Sweep((1,))
    with pytest.raises(TypeError, match="no field 'widths'"):
        Sweep.grid(Probe(), widths=[1])
    with pytest.raises(TypeError, match=r"width=\[8\]"):
        Sweep.grid(Probe(), width=8)
