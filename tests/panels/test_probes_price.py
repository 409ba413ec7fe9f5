"""The price beside the form: that of the sweep, told in a sentence, found without stopping the kernel."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from tests.panels.forms import Memory, executed, form
from tests.panels.jobs import BASE, SWEEP
from workbench import Sweep
from workbench.panels.probes import ProbePanel
from workbench.panels.probes_price import Pricer, sentence
from workbench.panels.probes_state import state_of


@pytest.fixture
def shown(tmp_path):
    return ProbePanel(Memory(tmp_path), state=state_of(Sweep((BASE,))))


def test_the_price_is_that_of_the_sweep_and_in_the_figure_and_the_code(shown):
    form(shown, width="4, 8", seeds="3")
    cost = shown.price()
    own = shown.sweep.cost("cpu", slots=1)
    assert cost.flops == own.flops == sum(p.flops for p in shown.sweep)
    assert "6 runs, 2 stacks, about" in shown.controls.price.value and "on this machine" in shown.controls.price.value
    assert shown.controls.buckets.value.count("<tr>") == 3
    assert executed(shown)["figure"].to_dict() == shown.figure().to_dict()
    form(shown, seeds="2")
    assert shown.cost is None and "4 runs" in shown.controls.price.value and shown.controls.buckets.value == ""


def test_one_sentence_tells_the_price(shown):
    cost = shown.price()
    buckets = cost.buckets.iloc[[0, 0, 0]].assign(
        runs=8, seconds=[40.0, 20.0, 20.0], memory_gib=0.9e9 / 2**30, flops=1e12
    )
    told = sentence(dataclasses.replace(cost, buckets=buckets, slots=2))
    assert told == (
        "24 runs, 3 stacks, about 40 s on this machine (2 side by side), at most 0.9 GB of memory a stack, 3e12 FLOP."
    )


def test_the_price_follows_the_hand_without_stopping_the_kernel(shown, monkeypatch):
    from workbench.panels import probes_price

    monkeypatch.setattr(probes_price, "REST", 0.05)
    asked = []
    real = Sweep.cost

    def slow(self, *args, **kwargs):
        asked.append(len(self))
        time.sleep(0.4)
        return real(self, *args, **kwargs)

    shown.price()  # the calibration
    monkeypatch.setattr(Sweep, "cost", slow)

    async def hand():
        longest, end = 0.0, time.monotonic() + 30
        for seeds in range(2, 8):
            form(shown, seeds=str(seeds))
            await asyncio.sleep(0.02)
        while shown.cost is None:
            began = time.monotonic()
            assert began < end
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)
        return longest

    asyncio.run(hand())
    assert asked[-1] == 7 and len(asked) <= 2, "only what the hand rested on is priced"
    assert "7 runs" in shown.controls.price.value
    shown.close()


def test_a_price_that_fails_is_said_and_the_launch_stays(shown, monkeypatch):
    monkeypatch.setattr(Sweep, "cost", lambda self, *a, **k: (_ for _ in ()).throw(ValueError("no <b>device</b>")))

    async def hand():
        form(shown, seeds="2")
        end = time.monotonic() + 20
        while "No price" not in shown.controls.price.value:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    asyncio.run(hand())
    assert "no &lt;b&gt;device" in shown.controls.price.value and not shown.controls.launch.disabled
    shown.close()


def test_a_pricer_that_was_told_to_forget_says_nothing():
    said = []

    async def hand():
        pricer = Pricer(lambda sweep, found: said.append(found))
        pricer.ask(SWEEP, None)
        pricer.forget()
        await asyncio.sleep(0.6)

    asyncio.run(hand())
    assert said == []
