"""Training: a stack is its members, bit for bit; one member is everyday PyTorch; trouble stays contained."""

import math

import numpy as np
import pytest
import torch

from tests.probes.reference import train_reference
from tests.probes.stacks import shapes
from workbench.probes import Probe, Sweep
from workbench.probes.backend import choose_backend, numerics, select_device
from workbench.probes.optimizers.schedules import multipliers
from workbench.probes.tasks.bigram import BigramData, BigramLanguage
from workbench.probes.trainer import eval_steps, train, train_sweep

TINY = Probe(vocab=32, width=8, context=16, batch_tokens=256, tokens=256 * 40, lr=0.02, evals=4)
ODD = Probe(vocab=19, width=6, depth=2, heads=3, context=7, batch_tokens=35, tokens=35 * 25, evals=3)


def curves(result):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in result.records]


@pytest.mark.parametrize(
    "base",
    [
        TINY,
        ODD,
        TINY.replace(precision="bf16"),
        TINY.replace(precision="bf16", stream="bf16"),
        Probe(tokens=2**14, evals=2),
    ],
)
def test_a_member_of_a_stack_is_the_solo_run_bit_for_bit(base):
    members = [
        base.replace(seed=1),
        base.replace(seed=2, lr=0.05, weight_decay=0.1, schedule="cosine"),
        base.replace(seed=1, tau=1.0, language_seed=3, beta2=0.9),
        base.replace(seed=4, clip=0.3, warmup=0.2, eps=1e-6),
        base.replace(seed=5, lr=1e-3, schedule="constant"),
    ]
    stacked = train(members, "cpu")
    permuted = train([members[i] for i in (3, 0, 4, 1, 2)], "cpu")
    for index, place in enumerate((1, 3, 4, 0, 2)):
        (solo,) = train([members[index]], "cpu")
        for other in (stacked[index], permuted[place]):
            assert curves(other) == curves(solo)
            assert torch.equal(other.weights, solo.weights)


@pytest.mark.parametrize(
    "probe",
    [
        TINY,
        TINY.replace(depth=2, heads=2, schedule="cosine", weight_decay=0.3, warmup=0.3, seed=3),
        TINY.replace(schedule="constant", clip=0.05, beta1=0.8, beta2=0.9, eps=1e-4),
    ],
)
def test_training_agrees_with_everyday_pytorch(probe):
    probe = probe.replace(tokens=256 * 10, evals=1)
    batches = BigramData([probe], torch.device("cpu")).block(0, probe.steps)[0][:, 0]
    reference, losses = train_reference(probe, batches)
    (result,) = train([probe], "cpu")
    assert result.records[-1]["train_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    at = 0
    for name, shape in shapes(probe).items():
        size = math.prod(shape)
        mine = result.weights[at : at + size].view(shape)
        theirs = reference.place(name).detach()
        theirs = theirs if name in ("embedding", "positions") else theirs.T
        # Adam divides by |gradient|: where that is near eps, rounding decides the sign, so compare in the mean
        assert float((mine - theirs).abs().mean()) < 1e-5, name
        at += size
    assert at == len(result.weights)


def test_it_learns_the_language():
    probe = Probe(vocab=32, width=16, context=16, batch_tokens=512, tokens=2**18, lr=0.02, evals=6)
    (result,) = train([probe], "cpu")
    language = BigramLanguage(32, 1.5, 1.0, 0)
    assert result.status == "finished"
    assert result.records[0]["loss"] == pytest.approx(math.log(32), abs=1e-6)
    # below what frequencies alone can give, close to what is possible, and never below it
    assert language.entropy < result.loss < language.entropy + 0.1 < language.unigram_entropy


def test_records_say_what_was_done():
    events = []
    (result,) = train([TINY], "cpu", on_event=lambda index, record: events.append((index, record)))
    assert [record["step"] for record in result.records] == eval_steps(TINY) == [0, 1, 3, 12, 40]
    assert events == [(0, record) for record in result.records]
    last = result.records[-1]
    assert last["tokens"] == TINY.tokens
    assert last["flops"] == TINY.flops
    assert last["lr"] == pytest.approx(0.02 / 38)  # the last of 38 decaying steps
    assert result.records[0]["train_loss"] is None
    assert result.row()["params"] == TINY.params
    assert result.provenance["stacked"] == 1


def test_a_diverged_member_does_not_hurt_its_neighbours():
    good, bad = TINY, TINY.replace(lr=100.0, seed=1, warmup=0.0, schedule="constant", weight_decay=100.0)
    (alone,) = train([good], "cpu")
    stacked = train([bad, good], "cpu")
    assert [result.status for result in stacked] == ["diverged", "finished"]
    assert all(math.isfinite(record["loss"]) for record in stacked[0].records)
    assert curves(stacked[1]) == curves(alone)
    assert torch.equal(stacked[1].weights, alone.weights)


def test_stopping_keeps_what_there_is():
    asked = iter([False, False, True])
    results = train([TINY, TINY.replace(seed=1)], "cpu", should_stop=lambda: next(asked))
    assert [result.status for result in results] == ["stopped", "stopped"]
    last = results[0].records[-1]
    assert 0 < last["step"] < TINY.steps
    assert results[0].row()["tokens"] == last["tokens"]


def test_interrupts_and_errors_restore_the_settings():
    torch.set_num_threads(2)
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()

    def interrupt(fraction, rate):
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            train([TINY], "cpu", on_progress=interrupt)
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before
    finally:
        torch.set_num_threads(1)


def test_progress_rises_to_one():
    seen = []
    train_sweep(
        Sweep.grid(TINY, width=[4, 8], seed=[0, 1]),
        "cpu",
        on_progress=lambda fraction, rate: seen.append((fraction, rate)),
    )
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert all(rate > 0 for _, rate in seen)


def test_a_sweep_comes_back_in_its_order():
    sweep = Sweep.grid(TINY, seed=[0, 1], width=[4, 8])
    events = []
    results = train_sweep(sweep, "cpu", on_event=lambda index, record: events.append((index, record["step"])))
    assert [result.probe for result in results] == list(sweep)
    assert sorted({index for index, _ in events}) == [0, 1, 2, 3]
    assert curves(results[3]) == curves(train([sweep[3]], "cpu")[0])
    assert train_sweep(sweep, "cpu", should_stop=lambda: True) == [None] * 4


def test_a_table_is_followed_line_by_line_with_jumps():
    corners = ((0, 1), (0.5, 1), (0.5, 0.4), (1, 0))
    probe = Probe(tokens=1024 * 10, warmup=0.2, schedule="table", table=corners)
    # Two steps of warm-up, then shares 0, 1/8, ... 7/8 of the rest: the jump holds from share 1/2 on.
    rest = [1, 1, 1, 1, 0.4, 0.3, 0.2, 0.1]
    assert multipliers(probe).tolist() == pytest.approx([0.5, 1.0, *rest])


def test_tables_repeat_the_named_schedules():
    linear = Probe(tokens=1024 * 40, schedule="linear")
    as_table = linear.replace(schedule="table", table=((0, 1), (1, 0)))
    np.testing.assert_allclose(multipliers(as_table), multipliers(linear), rtol=1e-12)


def test_evaluations_are_spaced_as_asked():
    probe = Probe(tokens=1024 * 100, evals=5, eval_spacing="linear")
    assert eval_steps(probe) == [0, 20, 40, 60, 80, 100]
    assert eval_steps(probe.replace(evals=1)) == [0, 100]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedules_by_hand(schedule):
    probe = Probe(tokens=1024 * 10, warmup=0.2, schedule=schedule)
    table = multipliers(probe)
    by_hand = {
        "linear": [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8],
        "cosine": [0.5, 1] + [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)],
        "constant": [0.5] + [1] * 9,
    }
    assert table.tolist() == pytest.approx(by_hand[schedule])


def test_bad_calls_get_one_sentence():
    with pytest.raises(TypeError, match=r"write train\(\[probe\]\)"):
        train(TINY)
    with pytest.raises(ValueError, match="got none"):
        train([])
    with pytest.raises(TypeError, match="got str"):
        train(["probe"])
    with pytest.raises(ValueError, match="differ in shape"):
        train([TINY, TINY.replace(width=4)])
    with pytest.raises(ValueError, match="needs a CUDA device"):
        train([TINY.replace(precision="tf32")], "cpu")
    with pytest.raises(ValueError, match="compile=True needs a CUDA device"):
        train([TINY], "cpu", compile=True)


def test_select_device():
    assert select_device("auto").type in ("cpu", "cuda")
    assert select_device(None) == select_device("auto")
    assert select_device("cpu") == torch.device("cpu")
    for wrong in ("gpu", "mps", "cuda:99"):
        with pytest.raises(ValueError, match="device="):
            select_device(wrong)


def test_numerics_restores_after_an_error():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError), numerics("medium", 1):
        assert torch.get_float32_matmul_precision() == "medium"
        raise RuntimeError
    assert torch.get_float32_matmul_precision() == before


def test_the_backend_does_not_depend_on_the_stack_but_on_the_shape():
    cpu = torch.device("cpu")
    assert choose_backend(TINY, cpu).threads == 1
    assert choose_backend(TINY, cpu).matmul == "highest"
    assert choose_backend(TINY.replace(context=256, batch_tokens=256), cpu).fused_attention


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_the_same_text_and_learns_the_same():
    probe = TINY.replace(tokens=256 * 200)
    cpu, cuda = (BigramData([probe], torch.device(name)) for name in ("cpu", "cuda"))
    assert torch.equal(cpu.block(0, 50), cuda.block(0, 50).cpu())
    assert torch.equal(cpu.heldout, cuda.heldout.cpu())
    losses = [train([probe], name)[0].loss for name in ("cpu", "cuda")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
