"""TensorBoard: files written by the real libraries, read beside TensorBoard's own reader, cut and damaged anywhere."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

import workbench
from workbench.runs.event_file import _masked, is_event_file, read_event_file
from workbench.runs.readers.base import LoadError

tensorboard = pytest.importorskip("tensorboard", reason="tensorboard is not installed")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402
from torch.utils.tensorboard import SummaryWriter  # noqa: E402


def one_file(folder):
    (path,) = folder.glob("events.out.tfevents.*")
    return path


def write(folder, n=300, seed=0, **options):
    rng = np.random.default_rng(seed)
    with SummaryWriter(str(folder), **options) as writer:
        for step in range(n):
            writer.add_scalar("train/loss", 3 * (step + 1) ** -0.3 + 0.01 * rng.standard_normal(), step)
            if step % 50 == 0:
                writer.add_scalar("val/loss", 3 * (step + 1) ** -0.3, step, new_style=True)
                writer.add_scalar("exact", 1 / (step + 3), step, new_style=True, double_precision=True)
        writer.add_histogram("weights", rng.normal(size=100), n)
        writer.add_text("note", "<b>text</b>", n)
    return folder


def theirs(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=True)
    accumulator.Reload()
    found = {
        tag: [(e.step, e.value, e.wall_time) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }
    for tag in accumulator.Tags()["tensors"]:
        events = accumulator.Tensors(tag)
        if events[0].tensor_proto.dtype in (1, 2):
            values = [(e.tensor_proto.float_val or e.tensor_proto.double_val)[0] for e in events]
            found[tag] = [(e.step, v, e.wall_time) for e, v in zip(events, values, strict=True)]
    return found


def ours(data):
    return {
        tag: list(zip(s.step.tolist(), s.value.tolist(), s.wall.tolist(), strict=True))
        for tag, s in read_event_file(data).series.items()
    }


def test_every_value_step_and_time_as_tensorboard_reads_them(tmp_path):
    write(tmp_path, 3000)
    read, expected = ours(one_file(tmp_path).read_bytes()), theirs(tmp_path)
    assert set(read) == {"train/loss", "val/loss", "exact"} <= set(expected)
    assert all(read[tag] == expected[tag] for tag in read)
    assert len(read["train/loss"]) == 3000


def test_files_of_another_library(tmp_path):
    writers = pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    with writers.SummaryWriter(str(tmp_path)) as writer:
        for step in (0, 1, 127, 128, 16383, 16384, 2**31, 2**40):  # varints of one to six bytes
            writer.add_scalar("loss", 1.5 / (step + 1), step)
    assert ours(one_file(tmp_path).read_bytes()) == theirs(tmp_path)


def test_checksums_are_those_of_rfc_3720():
    # RFC 3720, appendix B.4, unmasked; the mask of TFRecord on top
    for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        assert int(_masked(np.frombuffer(data, np.uint8)[None])[0]) == masked


def test_cut_off_anywhere_it_keeps_the_whole_records_and_invents_nothing(tmp_path):
    data = one_file(write(tmp_path, 20)).read_bytes()
    whole = ours(data)
    for size in range(0, len(data), 17):
        read = read_event_file(data[:size])
        for tag, s in read.series.items():
            values = list(zip(s.step.tolist(), s.value.tolist(), s.wall.tolist(), strict=True))
            assert values == whole[tag][: len(values)]
        assert read.records + (read.tail > 0) >= (1 if size else 0)
    assert read_event_file(data).tail == 0


def test_a_flipped_bit_costs_its_own_record_only(tmp_path):
    data = one_file(write(tmp_path, 50)).read_bytes()
    whole = {value for values in ours(data).values() for value in values}
    rng = random.Random(3)
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        read = read_event_file(bytes(damaged))
        values = {value for v in ours(bytes(damaged)).values() for value in v}
        assert values <= whole, "a value that was never written"
        assert len(values) >= len(whole) - 1 or read.tail, "more than one record is lost, and nobody is told"


def test_noise_is_no_event_file(tmp_path):
    rng = np.random.default_rng(0)
    for size in (0, 5, 12, 100, 5000):
        noise = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        assert not is_event_file(noise)
        assert read_event_file(noise).series == {}
    (tmp_path / "events.out.tfevents.1").write_bytes(struct.pack("<QI", 5, 7) + b"hello" + bytes(4))
    with pytest.raises(LoadError, match="hold no scalars"):
        workbench.load(tmp_path)


def test_a_folder_of_runs_with_settings_restarts_and_subfolders(tmp_path):
    for i in range(3):
        with SummaryWriter(str(tmp_path / "sweep" / f"run{i}")) as writer:
            for step in range(100):
                writer.add_scalar("loss", 3 - step / 100, step)
            writer.add_hparams({"lr": 0.1 * (i + 1), "opt": "adam", "n_params": 1e6}, {"final": 2.0})
    before = set((tmp_path / "sweep" / "run0").glob("events*"))
    with SummaryWriter(str(tmp_path / "sweep" / "run0"), purge_step=50) as writer:  # restarted from a checkpoint
        for step in range(50, 80):
            writer.add_scalar("loss", 1.0, step)
    # TensorBoard takes files in the order of their names, where a tenth file of one second comes before the ninth
    (last,) = set((tmp_path / "sweep" / "run0").glob("events*")) - before
    last.rename(last.with_name(last.name.replace("tfevents.", "tfevents.9")))
    runs = workbench.load(tmp_path)
    assert runs.ids == ["run0", "run1", "run2"] and list(runs["problem"]) == [""] * 3
    np.testing.assert_allclose(runs["lr"], [0.1, 0.2, 0.3])
    assert list(runs["opt"]) == ["adam"] * 3 and list(runs["params"]) == [1e6] * 3
    curve = runs.curves["run0"].set_index("step")["loss"].dropna()
    assert curve.index.max() == 79 and (curve[50:] == 1.0).all() and curve[49] == pytest.approx(3 - 0.49)
    assert list(runs["steps"]) == [79, 99, 99]
    assert any("restarted from an earlier step" in message for message in runs.messages)
    expected = {step: value for step, value, _ in theirs(tmp_path / "sweep" / "run0")["loss"]}
    assert curve.to_dict() == expected


def test_a_step_written_twice_counts_once_and_is_told(tmp_path):
    with SummaryWriter(str(tmp_path / "run")) as writer:
        for step, value in ((0, 3.0), (1, 2.0), (1, 1.5), (2, 1.0)):
            writer.add_scalar("loss", value, step)
    runs = workbench.load(tmp_path)
    assert runs.curves["run"]["loss"].tolist() == [3.0, 1.5, 1.0]
    assert any("1 values were written again" in message for message in runs.messages)


def test_a_single_event_file_is_a_run(tmp_path):
    runs = workbench.load(one_file(write(tmp_path, 30)))
    assert len(runs) == 1 and len(runs.curves[runs.ids[0]]) == 30


def test_the_tenth_file_of_a_second_comes_after_the_ninth(tmp_path):
    for number in range(8, 12):
        with SummaryWriter(str(tmp_path / f"part{number}"), purge_step=number if number > 8 else None) as writer:
            for step in range(number, 14):
                writer.add_scalar("loss", 100 * number + step, step)
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        one_file(tmp_path / f"part{number}").rename(run / f"events.out.tfevents.1700000000.host.1.{number}")
    curve = workbench.load(tmp_path / "run").curves["run"]
    assert curve["step"].tolist() == [8, 9, 10, 11, 12, 13]
    assert curve["loss"].tolist() == [808, 909, 1010, 1111, 1112, 1113]
