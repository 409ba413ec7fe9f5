"""The probe panel: what is typed becomes the sweep and its code; what is wrong stays beside it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.panels.forms import Memory, executed, form, ready
from tests.panels.jobs import BASE, SWEEP
from workbench import Probe, Span, Sweep
from workbench.figures.render import text as words_of
from workbench.figures.sweep import axes_of, sweep_map
from workbench.panels.probes import ProbePanel, ProbeState, panel
from workbench.panels.probes_fields import declared, help_of, read, spelled
from workbench.panels.probes_state import recipe, state_of
from workbench.probes.component import checked
from workbench.probes.listing import listing
from workbench.testing.panels import HOSTILE, PanelContract

KNOWN = declared("bigram", "transformer", "adamw")


class TestForm(PanelContract):
    """The contract gives a table of runs; here a sweep stands for it."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.queue = Memory(tmp_path)

    def panel(self, runs):
        return ProbePanel(self.queue, sweep=SWEEP)

    def namespace(self, runs):
        return {"queue": self.queue}

    def test_poor_tables_give_a_helpful_panel(self):
        """The default form is one run; an empty sweep cannot be made."""
        shown = ProbePanel(self.queue)
        assert len(shown.sweep) == 1 and "1 run" in shown.controls.price.value
        assert shown._repr_mimebundle_()[0]["image/png"].startswith(b"\x89PNG")


class TestLaunched(TestForm):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.queue = ready(tmp_path, words=HOSTILE)

    def panel(self, runs):
        return ProbePanel(self.queue, state=state_of(SWEEP).replace(launched=SWEEP.id))

    def test_bad_text_leaves_a_message_and_the_figure(self, runs):
        """A bad text may be one for the panel of the job, which has a line of its own for what is wrong."""
        for index in range(sum(1 for _ in self._typed(self.panel(runs)))):
            shown = self.panel(runs)
            before = shown.figure().to_dict()
            list(self._typed(shown))[index].value = "((( no such thing"
            told = shown.message.value + shown.job_panel.message.value
            assert told and "Traceback" not in told
            assert shown.figure().to_dict() == before


@pytest.fixture
def shown(tmp_path):
    return ProbePanel(Memory(tmp_path), state=state_of(Sweep((BASE,))))


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("lr", "1e-4 .. 1e-1, 5 values log", np.geomspace(1e-4, 1e-1, 5)),
        ("lr", "0.1..0.3, 3 linear", [0.1, 0.2, 0.3]),
        ("lr", "3e-4, 1e-3", [3e-4, 1e-3]),
        ("tokens", "64k, 1M, 2**20", [64_000, 1_000_000, 1_048_576]),
        ("width", "8 .. 64, 4", [8, 16, 32, 64]),
        ("width", "2 .. 4, 9 log", [2, 3, 4]),
        ("clip", "none, 1", [None, 1.0]),
        ("parametrization", "standard, mup", ["standard", "mup"]),
        ("gains", "true, False", [True, False]),
    ],
)
def test_several_values_as_typed(name, text, values):
    kind, found = read(KNOWN[name][1], text)
    assert kind == "list" and len(found) == len(values)
    for one, wanted in zip(found, values, strict=True):
        assert one == (pytest.approx(wanted, rel=1e-5) if isinstance(wanted, float) else wanted)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("lr", "fast", "not a number"),
        ("lr", "1e-4 .. 1e-1", "how many values"),
        ("lr", "1e-1 .. 1e-4, 3", "low < high"),
        ("lr", "0 .. 1, 3 log", "0 < low"),
        ("lr", "1e-4 .. 1e-1, 5 wild", "'wild'"),
        ("lr", "-1", "out of range"),
        ("lr", "nan", "not a number"),
        ("width", "8.5", "whole number"),
        ("width", "1e300", "out of range"),
        ("schedule", "linear, stair", "'stair' is not known"),
        ("table", "[[0", "not a list"),
        ("measure", "feelings", "feelings"),
        ("layer_rates", "__import__('os')", "not a list"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(name, text, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        read(KNOWN[name][1], text)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_range_to_draw_from_is_a_span():
    assert read(KNOWN["lr"][1], "1e-4 .. 1e-1", drawn=True) == ("span", Span(1e-4, 1e-1))
    assert read(KNOWN["s"][1], "0.5 .. 2, linear", drawn=True) == ("span", Span(0.5, 2.0, log=False))


def test_every_setting_of_every_part_can_be_offered_and_typed_back():
    from workbench.probes.models.base import models
    from workbench.probes.optimizers.base import optimizers
    from workbench.probes.tasks.base import tasks

    pairs = [(t, "transformer", "adamw") for t in tasks()] + [("bigram", m, "adamw") for m in models()]
    pairs += [("bigram", "transformer", o) for o in optimizers()]
    for parts in pairs:
        for _, one in declared(*parts).values():
            assert one.metadata["doc"] in help_of(one)
            if spelled(one.default):
                assert one.metadata["kind"] == "own" or read(one, spelled(one.default)) == ("one", one.default), (
                    one.name
                )
                assert checked(one, read(one, spelled(one.default))[1]) == one.default, one.name
    for value in (0.1 + 0.2, 1e300, 1 / 3, 123456789012345, 1e-9):
        assert float(spelled(value)) == value


SWEEPS = {
    "one": Sweep((BASE,)),
    "grid": Sweep.grid(BASE, width=[4, 8], lr=[1e-3, 1e-2], seed=range(3)),
    "seeds first": Sweep.grid(BASE, seed=[3, 5], lr=[0.1, 0.2]),
    "sizes": Sweep.scale(BASE, params=[1e3, 4e3, 2e4], tokens_per_param=[10, 20], aspect=8.0, seed=[0, 1]),
    "parts": Sweep.grid(BASE, optimizer=["adamw", "momentum"], model=["transformer", "lstm"]),
    "own": Sweep.grid(BASE, measure=[[], ["gradients"]], clip=[None, 1.0]),
    "random": Sweep.random(BASE, 7, lr=Span(1e-4, 1e-1), weight_decay=Span(1e-3, 1.0)),
    "mixed": Sweep(
        (
            BASE.replace(beta1=0.5),
            BASE.replace(optimizer="sgd"),
            BASE.replace(task="modular_arithmetic", model="mlp", tokens=6400),
        )
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_from_elsewhere_is_kept_probe_by_probe(name, tmp_path):
    sweep = SWEEPS[name]
    state = ProbeState.from_json(state_of(sweep).to_json())
    assert recipe(state).build() == sweep
    handed = ProbePanel(Memory(tmp_path), sweep=sweep)
    assert handed.sweep == sweep and executed(handed)["sweep"] == sweep
    again = ProbePanel(Memory(tmp_path), state=ProbeState.from_json(handed.state.to_json()))
    assert again.sweep == sweep


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (
            {"sizes": "1k .. 16k, 3 log", "horizons": "10, 20", "horizons_in": "tokens_per_param", "seeds": "2"},
            Sweep.scale(BASE, params=[1e3, 4e3, 16e3], tokens_per_param=[10, 20], seed=[0, 1]),
        ),
        (
            {"sizes": "2k, 8k", "count": "params", "lr": "0.01, 0.02"},
            Sweep.scale(BASE, params=[2e3, 8e3], tokens=[BASE.tokens], count="params", lr=[0.01, 0.02]),
        ),
        (
            {"combine": "random", "lr": "1e-3 .. 1e-1", "draws": "5", "draw_seed": "3"},
            Sweep.random(BASE, 5, draw_seed=3, lr=Span(1e-3, 1e-1)),
        ),
        (
            {"combine": "sobol", "lr": "1e-3 .. 1e-1", "parametrization": "standard, mup", "draws": "8"},
            # the order of the axes is that of the settings
            Sweep.sobol(BASE, 8, lr=Span(1e-3, 1e-1), parametrization=["standard", "mup"]),
        ),
        ({"seeds": "5, 7", "width": "4, 8"}, Sweep.grid(BASE, width=[4, 8], seed=[5, 7])),
        # values of a range of tokens are rounded to whole batches, of 64 here
        ({"tokens": "1k .. 5k, 2 log"}, Sweep.grid(BASE, tokens=[16 * 64, 78 * 64])),
    ],
)
def test_what_is_typed_is_the_sweep_one_would_write(shown, changes, wanted):
    order = dict(sorted(changes.items(), key=lambda pair: pair[0] not in ("combine",)))
    form(shown, **order)
    assert shown.message.value == ""
    assert shown.sweep == wanted
    code = executed(shown)
    assert code["sweep"] == wanted and code["figure"].to_dict() == shown.figure().to_dict()


def test_the_state_holds_only_what_differs(shown):
    form(shown, lr="0.01", weight_decay="0.1")
    assert "lr" not in shown.state.settings, "0.01 is its default"
    assert shown.state.settings["weight_decay"] == 0.1
    assert shown.state.axes == {}
    json.loads(shown.state.to_json())


def test_a_bad_value_is_said_beside_its_field_and_nothing_is_lost(shown):
    form(shown, lr="1e-3, 1e-2")
    good = shown.sweep
    form(shown, weight_decay="heavy")
    entry = shown.controls.entries["weight_decay"]
    assert "not a number" in entry.line.value and "role='alert'" in entry.line.value
    assert "weight_decay" in shown.message.value and shown.controls.launch.disabled
    form(shown, clip="1")
    assert shown.sweep == good and entry.text.value == "heavy", "a good value beside it does not hide the bad one"
    shown.controls.section.value = "model"
    assert "⚠" in {v: k for k, v in shown.controls.section.options}["training"]
    shown.controls.section.value = "training"
    assert shown.controls.entries["weight_decay"].text.value == "heavy"
    form(shown, weight_decay="0.1")
    assert shown.message.value == "" and not shown.controls.launch.disabled
    assert {p.weight_decay for p in shown.sweep} == {0.1} and {p.clip for p in shown.sweep} == {1.0}


def test_values_that_do_not_fit_together_are_told_by_the_probe(shown):
    form(shown, tokens="1000")
    assert "whole number of batches" in shown.controls.entries["tokens"].line.value
    form(shown, tokens="1024")
    assert shown.message.value == "" and shown.sweep[0].tokens == 1024
    form(shown, model="mlp")
    assert "mlp" in shown.message.value and shown.sweep[0].model == "transformer"
    form(shown, task="parity")
    assert shown.sweep[0].model == "mlp" and shown.sweep[0].task == "parity" and shown.message.value == ""


def test_what_belongs_to_another_part_comes_back_with_it(shown):
    form(shown, optimizer="momentum", momentum="0.5")
    form(shown, optimizer="adamw")
    assert shown.sweep[0].optimizer == "adamw" and "momentum" not in shown.state.settings
    form(shown, optimizer="momentum")
    assert shown.sweep[0].momentum == 0.5


def test_too_many_runs_are_refused_before_they_are_built(shown):
    form(shown, lr="1e-4 .. 1, 1000 log", weight_decay="1e-4 .. 1, 1000 log")
    assert "1000000 runs" in shown.message.value and len(shown.sweep) <= 1000


def test_five_thousand_runs_are_described_and_drawn(tmp_path):
    sweep = Sweep.random(BASE, 5000, lr=Span(1e-4, 1e-1), weight_decay=Span(1e-3, 1.0))
    shown = ProbePanel(Memory(tmp_path), sweep=sweep)
    assert shown.sweep == sweep and "5000 runs" in shown.controls.price.value
    assert "2000 of 5000 points drawn" in words_of(shown.figure())
    assert sum(map(len, shown.chart.data.values())) <= 2000 and len(shown.table()) == 5000


def test_handed_over_probes_can_be_repeated_and_forgotten(tmp_path):
    sweep = SWEEPS["sizes"]
    rows = Sweep(tuple(p for p in sweep if p.seed == 0))
    shown = ProbePanel(Memory(tmp_path), sweep=rows)
    assert "handed over" in shown.controls.handed.value
    form(shown, seeds="2", lr="0.02")
    assert shown.sweep == Sweep(tuple(p.replace(lr=0.02, seed=s) for p in rows for s in (0, 1)))
    shown.controls.section.value = "model"
    assert shown.controls.entries["width"].text.disabled, "the rows say the width"
    shown.controls.forget.click()
    assert len(shown.sweep) == 2 and shown.controls.forget.layout.display == "none"


def test_one_line_calls_and_their_faults(tmp_path):
    queue = Memory(tmp_path)
    assert SWEEP.panel().sweep == SWEEP
    assert queue.panel(seeds="4").sweep == Sweep.grid(Probe(), seed=range(4))
    assert SWEEP.plot().to_dict() == sweep_map(SWEEP).to_dict()
    with pytest.raises(ValueError, match="no setting 'lwa'"):
        panel(queue, lwa=1)
    with pytest.raises(ValueError, match="not both"):
        ProbePanel(queue, SWEEP, ProbeState())
    with pytest.raises(TypeError, match="is no queue"):
        ProbePanel("runs")
    with pytest.raises(ValueError, match="beside it"):
        SWEEP.panel(seeds="3")


def test_a_listing_counts_what_the_probes_say():
    sweep = SWEEPS["grid"]
    frame = listing(sweep)
    assert frame["run"].tolist() == [p.id for p in sweep]
    assert frame["flops"].sum() == sum(p.flops for p in sweep)
    for places in sweep.buckets():
        assert frame["bucket"].iloc[list(places)].nunique() == 1
    assert frame["bucket"].nunique() == len(sweep.buckets())


def test_the_picture_shows_size_and_horizon_or_what_is_varied():
    assert axes_of(listing(SWEEPS["sizes"]))[:2] == ("params", "tokens")
    assert axes_of(listing(SWEEPS["random"]))[:2] in (("lr", "weight_decay"), ("weight_decay", "lr"))
    assert axes_of(listing(Sweep.grid(BASE, optimizer=["adamw", "sgd"], parametrization=["standard", "mup"])))[0] == (
        "optimizer"
    )
    drawn = sweep_map(SWEEPS["sizes"])
    assert "12 runs" in words_of(drawn) and "differing in" in words_of(drawn)
    with pytest.raises(ValueError, match="no column 'moon'"):
        sweep_map(SWEEP, x="moon")
    with pytest.raises(ValueError, match="another sweep"):
        sweep_map(SWEEP, Sweep((BASE,)).cost("cpu"))


def test_points_at_one_place_are_moved_apart_and_keep_their_order():
    sweep = Sweep.grid(BASE, width=[4, 8], tokens=[6400, 12800], lr=[1e-3, 1e-2, 1e-1])
    drawn = sweep_map(sweep)
    rows = next(iter(drawn.to_dict()["datasets"].values()))
    assert len(rows) == 12 and "moved apart sideways" in words_of(drawn)
    assert len({(row["at"], row["y"]) for row in rows}) == 12
    sizes = sorted({row["x"] for row in rows})
    for row in rows:  # nearer to its own size than to the other
        assert min(sizes, key=lambda s: abs(np.log(row["at"] / s))) == row["x"]
