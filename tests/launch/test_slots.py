"""Slots, locks and process identities: nothing is booked twice, nothing is stale, nobody else is shot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.launch.conftest import eventually
from workbench.launch import slots as module
from workbench.launch import verdicts
from workbench.launch.locks import Lock, held, runtime_folder
from workbench.launch.plan import plan, stack_memory
from workbench.launch.process import Identity, alive, birth, boot, me, signal_group
from workbench.launch.slots import GPU, SHARES, Slots, book, cores, find_gpus
from workbench.probes import Probe

ROOT = Path(__file__).parents[2]
GPUS = tuple(GPU(f"GPU-{name * 8}-0000", 80 * 2**30) for name in "abc")


def python(code: str, *arguments: str, keep=()) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=keep
    )


def booked(slots: Slots) -> list:
    out = []
    while (booking := book(slots)) is not None:
        out.append(booking)
    return out


def free(bookings) -> None:
    for booking in bookings:
        booking.release()


@pytest.mark.parametrize("per_gpu", [1, 2, 3, 4, 6, 12])
def test_gpus_are_filled_evenly_and_named_by_uuid(per_gpu):
    bookings = booked(Slots("cuda", gpus=GPUS, per_gpu=per_gpu))
    places = [b.environment["CUDA_VISIBLE_DEVICES"] for b in bookings]
    assert Counter(places) == {gpu.uuid: per_gpu for gpu in GPUS}
    assert len(set(places[:3])) == 3, "the first three go to three GPUs"
    free(bookings)


def test_a_whole_gpu_is_not_given_to_who_finds_a_part_of_it_taken():
    quarter = book(Slots("cuda", gpus=GPUS[:1], per_gpu=4))
    assert book(Slots("cuda", gpus=GPUS[:1])) is None
    both = Slots("cuda", gpus=GPUS[:2])
    assert book(both).environment["CUDA_VISIBLE_DEVICES"] == GPUS[1].uuid
    quarter.release()
    assert book(Slots("cuda", gpus=GPUS[:1])) is not None


def test_cores():
    slots = Slots("cpu", cores=(0, 1, 2, 5), threads=2)
    bookings = booked(slots)
    assert len(bookings) == len(slots) == 2
    assert [b.environment["OMP_NUM_THREADS"] for b in bookings] == ["2", "2"]
    assert [b.place for b in bookings] == ["core 0+1", "core 2+5"]
    free(bookings)
    assert set(cores()) <= os.sched_getaffinity(0) and cores()


def test_numbers_that_do_not_fit_are_refused():
    for wrong in ({"per_gpu": 0}, {"per_gpu": SHARES + 1}, {"per_gpu": 5}):
        with pytest.raises(ValueError, match="per_gpu"):
            Slots("cuda", gpus=GPUS, **wrong)
    with pytest.raises(ValueError, match="no GPU"):
        Slots("cuda")
    with pytest.raises(ValueError, match="threads=3"):
        Slots("cpu", cores=(0, 1), threads=3)


def test_a_slots_json_round_trip():
    slots = Slots("cuda", gpus=GPUS, per_gpu=3)
    assert Slots.from_dict(json.loads(json.dumps(slots.to_dict()))) == slots


def test_gpus_by_name_position_and_environment(monkeypatch):
    monkeypatch.setattr(module, "_smi", lambda: GPUS)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_gpus() == GPUS
    assert find_gpus([2, "GPU-aaaa"]) == (GPUS[2], GPUS[0])
    with pytest.raises(ValueError, match="GPU-zzz"):
        find_gpus(["GPU-zzz"])
    for visible, seen in [("1", "b"), ("GPU-c,0", "ca"), ("", ""), ("0,7,1", "a")]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert "".join(gpu.uuid[4] for gpu in find_gpus()) == seen


def test_nvidia_smi_is_read(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU-1111, 143771'\necho 'GPU-2222, 143771'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_gpus() == (GPU("GPU-1111", 143771 * 2**20), GPU("GPU-2222", 143771 * 2**20))


BOOKER = """
import sys, time
from workbench.launch.slots import Slots, book
slots = Slots("cpu", cores=tuple(range(40)), threads=4)
print("ready", flush=True)
sys.stdin.readline()
mine = []
while (b := book(slots)) is not None:
    mine.append(b)
print(*(lock.path.stem for b in mine for lock in b.locks), flush=True)
sys.stdin.readline()
"""


def test_processes_that_book_at_once_share_without_overlap():
    bookers = [python(BOOKER) for _ in range(3)]
    for booker in bookers:
        assert booker.stdout.readline() == "ready\n"
    for booker in bookers:
        booker.stdin.write("go\n")
        booker.stdin.flush()
    taken = [booker.stdout.readline().split() for booker in bookers]
    for booker in bookers:
        booker.communicate("done\n")
    everything = [core for part in taken for core in part]
    assert sorted(everything) == sorted(f"core-{i}" for i in range(40)) and len(set(everything)) == 40


def test_locks_of_a_killed_process_are_free_at_once_and_its_files_mean_nothing():
    booker = python(BOOKER)
    booker.stdin.write("go\n")
    booker.stdin.flush()
    booker.stdout.readline()
    assert len(booker.stdout.readline().split()) == 40
    slots = Slots("cpu", cores=tuple(range(40)), threads=4)
    assert book(slots) is None
    booker.kill()
    booker.wait()
    assert len(list(runtime_folder().glob("core-*.lock"))) == 40, "left behind"
    bookings = booked(slots)
    assert len(bookings) == 10
    free(bookings)


def test_a_slot_is_taken_as_long_as_a_child_that_inherited_it_lives(tmp_path):
    lock = Lock.attempt(tmp_path / "lock")
    child = python("import sys; sys.stdin.readline()", keep=[lock.descriptor])
    lock.release()
    assert held(tmp_path / "lock") and Lock.attempt(tmp_path / "lock") is None
    child.communicate("end\n")
    assert not held(tmp_path / "lock")


def test_a_lock_on_an_unlinked_file_is_not_taken_for_one(tmp_path):
    path = tmp_path / "lock"
    first = Lock.attempt(path)
    waiter = python(
        "import sys; from pathlib import Path; from workbench.launch.locks import Lock\n"
        "lock = Lock.wait(Path(sys.argv[1])); print('has it', flush=True); sys.stdin.readline()",
        str(path),
    )
    files = Path(f"/proc/{waiter.pid}/fd")
    eventually(lambda: path in [file.readlink() for file in files.glob("*") if file.exists()])
    path.unlink()
    first.release()
    assert waiter.stdout.readline() == "has it\n"
    assert held(path), "it holds the file that has the name, not the one it opened first"
    waiter.communicate("end\n")


def test_the_runtime_folder_is_the_same_whatever_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("WORKBENCH_RUNTIME")
    usual = runtime_folder()
    assert usual.stat().st_uid == os.getuid() and usual.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert runtime_folder() == usual


# Processes


def test_a_process_is_known_by_its_birth():
    child = python("import sys; sys.stdin.readline()")
    seen = Identity(child.pid, birth(child.pid), boot())
    assert alive(seen) and alive(me()) and seen != me()
    # proc(5): ticks since boot; the machine's own clock says the same
    ticks = int(seen.birth) / os.sysconf("SC_CLK_TCK")
    assert abs(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks) < 30
    child.kill()
    eventually(lambda: Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "Z")
    assert not alive(seen), "a corpse that nobody has collected does not live"
    child.wait()
    assert not alive(seen) and birth(child.pid) is None


def test_a_name_with_brackets_and_blanks_does_not_confuse_it(tmp_path):
    program = tmp_path / "a) S (b 1 2"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as child:
        eventually(lambda: "a) S (b" in Path(f"/proc/{child.pid}/comm").read_text())
        # ps, which parses for itself, says since when
        elapsed = int(subprocess.run(["ps", "-o", "etimes=", "-p", str(child.pid)], capture_output=True).stdout)
        ticks = int(birth(child.pid)) / os.sysconf("SC_CLK_TCK")
        assert abs(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks - elapsed) < 5
        child.kill()


@pytest.mark.parametrize("wrong", ["birth", "boot"])
def test_a_number_used_again_gets_no_signal(wrong):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        true = Identity(child.pid, birth(child.pid), boot())
        recycled = Identity(**{**true.to_dict(), wrong: "1"})
        assert not alive(recycled) and not signal_group(recycled, signal.SIGKILL)
        time.sleep(0.1)
        assert child.poll() is None
        assert signal_group(true, signal.SIGKILL) and child.wait() == -signal.SIGKILL
        assert not signal_group(true, signal.SIGKILL)


def test_who_leads_no_group_gets_no_group_signal():
    with subprocess.Popen(["sleep", "60"]) as child:  # in the group of this test
        assert not signal_group(Identity(child.pid, birth(child.pid), boot()), signal.SIGKILL)
        assert child.poll() is None
        child.kill()


# Plans


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 100.0)), min_size=1, max_size=30), st.integers(1, 9),
    st.integers(1, 10),
)  # fmt: skip
def test_a_plan_holds_everything_once_fits_and_shares_the_work(items, slots, most):
    items = [(i, *item) for i, item in enumerate(items)]
    stacks = plan(items, group=lambda x: x[1], cost=lambda x: x[2], slots=slots, fits=lambda s: len(s) <= most)
    assert sorted(x for stack in stacks for x in stack) == items
    share = sum(x[2] for x in items) / slots
    for stack in stacks:
        assert len({x[1] for x in stack}) == 1 and len(stack) <= most
        assert len(stack) == 1 or sum(x[2] for x in stack) <= share * (1 + 1e-6)
    costs = [sum(x[2] for x in stack) for stack in stacks]
    assert costs == sorted(costs, reverse=True)


def test_a_stack_is_not_divided_without_need():
    def stacks(n, slots):
        found = plan(list(range(n)), group=lambda x: 0, cost=lambda x: 1.0, slots=slots, fits=lambda s: True)
        return sorted(map(len, found))

    assert stacks(64, 1) == [64] and stacks(64, 2) == [32, 32] and stacks(64, 8) == [8] * 8 and stacks(3, 8) == [1] * 3


def test_memory_grows_with_the_stack_and_holds_weights_and_moments():
    probe = Probe(width=64, depth=2, heads=4)
    one, four = stack_memory([probe]), stack_memory([probe, *(probe.replace(seed=s) for s in (1, 2, 3))])
    assert one < four <= 4 * one * 1.01 and one > 12 * probe.params  # a weight and two moments, 4 bytes each


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 32},
        {"width": 256, "depth": 6, "heads": 4, "context": 128, "vocab": 1024, "batch_tokens": 4096},
        {"width": 64, "heads": 4, "context": 512, "batch_tokens": 4096},
        {"width": 128, "depth": 4, "heads": 4, "precision": "bf16"},
        {"width": 64, "activation": "swiglu", "norm": "layer"},
        {"model": "mixture", "width": 64, "experts": 8},
        {"model": "lstm", "width": 64},
        {"model": "transformer", "task": "time_series", "width": 64},
        {"model": "encoder", "task": "digits", "form": "signals", "width": 32},
        {"model": "convolution", "task": "digits", "form": "signals", "width": 16},
        {"model": "mlp", "task": "digits", "width": 512, "depth": 3},
        {"model": "mlp", "task": "xor_clusters", "width": 64},
        {"model": "mlp", "task": "modular_arithmetic", "width": 128},
        {"model": "residual_mlp", "task": "digits", "width": 128, "depth": 8},
        {"model": "random_features", "task": "teacher_student", "width": 512},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_the_rough_memory_is_near_what_counting_every_operation_gives(settings):
    """A plan is made without torch; the price of a sweep counts what a step would really make."""
    from workbench.probes.counting import count_step

    probe = Probe(**{"batch_tokens": 1024, "tokens": 2**19, **settings})
    for members in (1, 5):
        ratio = stack_memory([probe] * members) / count_step(probe, members, on_cuda=True).memory
        assert 1 / 2 < ratio < 2.5, ratio


def test_planning_memory_imports_no_torch():
    code = (
        "import sys; from workbench.launch.plan import stack_memory; from workbench.probes import Probe; "
        "stack_memory([Probe()]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA ran out"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory is mentioned here only"), False),
    ],
)
def test_which_errors_say_that_memory_ran_out(error, memory):
    assert verdicts.says_out_of_memory(error) is memory


# Verdicts


def test_what_a_kill_means_depends_on_what_the_kernel_counts():
    assert verdicts.died(-9, 1, 1).kind == verdicts.died(-9, 1, None).kind == "out of memory"
    assert verdicts.died(-9, 1, 0).kind == "crashed" and "signal 9" in verdicts.died(-9, 1, 0).sentence
    assert "signal 11 (SIGSEGV)" in verdicts.died(-11, 3, 0).sentence
    assert "stack of 3" in verdicts.died(-11, 3, 0).sentence
