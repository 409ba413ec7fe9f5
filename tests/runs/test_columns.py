"""Headers people write, resolved by hand first."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.runs.cells import Cells
from workbench.runs.columns import resolve
from workbench.runs.headers import loss_rank, normalise, read_header
from workbench.units import QUANTITIES


@pytest.mark.parametrize(
    ("header", "name", "factor"),
    [
        ("params", "params", 1),
        ("N", "params", 1),
        ("Model Size", "params", 1),
        ("\ufeff'model_size'", "params", 1),
        ("nParams", "params", 1),
        ("num-params", "params", 1),
        ("Params [M]", "params", 1e6),
        ("params_M", "params", 1e6),
        ("D", "tokens", 1),
        ("tokens (B)", "tokens", 1e9),
        ("Training Tokens, billions", "tokens", 1e9),
        ("tokens (B tokens)", "tokens", 1e9),
        ("tokens (1e9)", "tokens", 1e9),
        ("C", "flops", 1),
        ("Training FLOP", "flops", 1),
        ("FLOPs", "flops", 1),
        ("flops (1e18)", "flops", 1e18),
        ("flops (10^18 FLOP)", "flops", 1e18),
        ("compute (EFLOP)", "flops", 1e18),
        ("compute (petaFLOPs)", "flops", 1e15),
        ("PF-days", "flops", 8.64e19),
        ("compute (PF-days)", "flops", 8.64e19),
        ("compute (petaflop/s-days)", "flops", 8.64e19),
        ("runtime", "seconds", 1),
        ("time (h)", "seconds", 3600),
        ("train_time (min)", "seconds", 60),
        ("wall time (ms)", "seconds", 1e-3),
        ("loss (bits)", "loss", math.log(2)),
        ("loss (nats/token)", "loss", 1),
        ("L", "loss", 1),
        ("eval/loss", "loss", 1),
        ("Loss.Validation", "loss", 1),
        ("valLoss", "loss", 1),
        ("trainer/global_step", "step", 1),
        ("_step", "step", 1),
        ("iteration", "step", 1),
        ("learning_rate", "lr", 1),
        ("d_model", "width", 1),
        ("n_layer", "depth", 1),
    ],
)
def test_header(header, name, factor):
    reading = read_header(header)
    assert reading.name == name
    assert reading.factor == pytest.approx(factor, rel=1e-15)


@pytest.mark.parametrize(
    "header", ["n", "d", "c", "l", "time", "acc", "", "perplexity", "TFLOPs", "loss_weight", "layer_m"]
)
def test_headers_that_name_no_quantity(header):
    assert read_header(header) is None


@pytest.mark.parametrize("header", ["flops (TFLOP/s)", "loss (bits/byte)", "tokens (packed)", "time (furlongs)"])
def test_an_unknown_unit_is_not_guessed(header):
    reading = read_header(header)
    assert reading is None or reading.factor is None
    result = resolve([header])
    assert result.columns[0].name == header
    assert reading is None or "unit" in result.messages[0]


@given(st.text(max_size=30))
def test_any_text_is_a_header(header):
    normalise(header)
    loss_rank(header)
    reading = read_header(header)
    assert reading is None or (reading.name in QUANTITIES and (reading.factor is None or reading.factor > 0))


@pytest.mark.parametrize("name", [n for n, q in QUANTITIES.items() for n in (n, *q.aliases)])
def test_every_alias_of_the_table_resolves(name):
    assert read_header(name).name in QUANTITIES
    assert read_header(name.replace(" ", "_")) is not None


def names(headers, columns=None, **cells):
    frame = pd.DataFrame(cells) if cells else None
    result = resolve(headers, columns, Cells(frame) if cells else None)
    return {c.source: c.name for c in result.columns}, result


def test_exact_names_win():
    found, _ = names(["Model Size", "params", "N"])
    assert found == {"Model Size": "Model Size", "params": "params", "N": "N"}


def test_rivals_raise_one_sentence_and_equal_columns_do_not():
    with pytest.raises(ValueError) as error:
        names(["N", "Model Size"], N=[1.0, 2.0], **{"Model Size": [1.0, 3.0]})
    assert str(error.value) == (
        "Columns 'N' and 'Model Size' both look like params; say which with columns={'params': 'N'}."
    )
    found, result = names(["N", "size (M)"], N=[1e6, 2e6], **{"size (M)": ["1", "2"]})
    assert found == {"N": "params", "size (M)": "size (M)"}
    assert "which is equal" in result.messages[0]
    found, _ = names(["N", "Model Size"], {"params": "Model Size"}, N=[1.0, 2.0], **{"Model Size": [1.0, 3.0]})
    assert found == {"N": "N", "Model Size": "params"}


@pytest.mark.parametrize(
    ("headers", "chosen"),
    [
        (["train_loss", "test_loss", "val_loss", "loss"], "loss"),
        (["train_loss", "test_loss", "val_loss"], "val_loss"),
        (["train_loss", "eval/loss"], "eval/loss"),
        (["acc", "train_loss"], "train_loss"),
    ],
)
def test_which_loss(headers, chosen):
    found, result = names(headers)
    assert found[chosen] == "loss"
    assert all(found[h] == h for h in headers if h != chosen)
    if sum("loss" in h for h in headers) > 1:
        assert repr(chosen) in result.messages[0]


def test_dotted_keys_match_on_their_last_part_when_alone():
    found, _ = names(["config.d_model", "hyperparameters.params", "a.lr", "b.lr", "results[x].tokens"])
    assert found["config.d_model"] == "width" and found["hyperparameters.params"] == "params"
    assert found["a.lr"] == "a.lr" and found["b.lr"] == "b.lr"
    assert found["results[x].tokens"] == "results[x].tokens"
    found, _ = names(["config.params", "N"])
    assert found == {"config.params": "config.params", "N": "params"}


def test_words_are_no_parameter_count():
    found, _ = names(["size", "N"], size=["small", "large"], N=[1.0, 2.0])
    assert found == {"size": "size", "N": "params"}


def test_columns_argument():
    _, result = names(["D", "tok (B)"], {"tokens": ("D", 1e9)})
    column = result.columns[0]
    assert (column.name, column.factor, column.note) == ("tokens", 1e9, "1e+09 x 'D'")
    _, result = names(["tokens (B)"], {"tokens": "tokens (B)"})
    assert result.columns[0].factor == 1e9  # the header's own unit still counts
    found, result = names(["loss", "val_loss"], {"loss": "val_loss"})
    assert found == {"loss": "loss_logged", "val_loss": "loss"}
    found, _ = names(["acc,none"], {"lambada": "acc,none"})
    assert found == {"acc,none": "lambada"}
    with pytest.raises(ValueError, match="did you mean 'Model Size'"):
        names(["Model Size", "loss"], {"params": "model sise"})
    for bad in ("N", 3, {"tokens": 5}, {"tokens": ("D", "many")}, {3: "D"}):
        with pytest.raises(TypeError, match="columns="):
            names(["D"], bad)
