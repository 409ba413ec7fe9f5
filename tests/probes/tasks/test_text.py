"""Real text: whose text it is, what an epoch is, and that nothing held out is ever trained on."""

import hashlib
import json
import math
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.probes import Probe
from workbench.probes.tasks import corpus as corpora
from workbench.probes.tasks import prepare as preparing
from workbench.probes.tasks.corpus import corpora_folder, prepared, register, stdlib, write_corpus
from workbench.probes.tasks.prepare import prepare
from workbench.probes.tasks.random import stream_key
from workbench.probes.tasks.shuffle import shuffled
from workbench.probes.trainer import train
from workbench.testing.tasks import TaskContract

CPU = torch.device("cpu")
TINY = Probe(task="text", width=8, context=16, batch_tokens=64, tokens=256, evals=2, heldout_tokens=512)


class TestText(TaskContract):
    probe = TINY
    apart = {"context": 256, "batch_tokens": 1024, "tokens": 4096}  # sixteen bytes of code recur everywhere
    members = ({}, {"seed": 1}, {"seed": 2, "unique_tokens": 4096})
    refused = (
        ({"corpus": "prepared"}, "16 digits"),
        ({"corpus": "bible"}, "stdlib, prepared"),
        ({"checksum": "xyz"}, "hexadecimal"),
        ({"vocab": 200}, "256"),
        ({"unique_tokens": 3}, "one context"),
        ({"unique_tokens": 2.5}, "whole number"),
        ({"unique_tokens": 0}, "1e12"),
    )
    # frequencies alone cost 3.37 nats a byte
    learns = {"tokens": 2**17, "batch_tokens": 512, "lr": 0.1, "width": 16, "depth": 0, "heldout_tokens": 8192}
    trivial = 3.2


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 1000, 65537])
def test_a_shuffled_epoch_is_a_permutation(n):
    keys = torch.tensor([[stream_key(seed, 0)] for seed in range(3)])
    order = shuffled(keys, torch.tensor(5), torch.arange(n), torch.tensor(n))
    assert torch.equal(order.sort(1).values, torch.arange(n).expand(3, n))
    if n > 100:  # orders of other keys and epochs agree in about one place
        later = shuffled(keys[:1], torch.tensor(6), torch.arange(n), torch.tensor(n))
        assert all(int((order[0] == other).sum()) < 10 for other in (order[1], order[2], later[0], torch.arange(n)))


def test_shuffled_places_are_uniform_and_neighbours_part():
    n, draws = 50, 4000
    order = shuffled(torch.tensor(stream_key(1, 0)), torch.arange(draws)[:, None], torch.arange(n), torch.tensor(n))
    for index in (0, 17, 49):  # where one example lands, over many epochs
        counts = torch.bincount(order[:, index], minlength=n).double()
        chi2 = float(((counts - draws / n) ** 2 / (draws / n)).sum())
        assert abs(chi2 - (n - 1)) < 5 * math.sqrt(2 * (n - 1))
    # the distance of two neighbours after shuffling, modulo n, is uniform on 1 ... n - 1
    gap = torch.bincount((order[:, 8] - order[:, 7]) % n, minlength=n)[1:].double()
    chi2 = float(((gap - draws / (n - 1)) ** 2 / (draws / (n - 1))).sum())
    assert abs(chi2 - (n - 2)) < 5 * math.sqrt(2 * (n - 2))


def starts(data, steps):
    return data.block(0, steps)[0].transpose(0, 1).flatten(1)  # [E, windows in order]


def test_an_epoch_shows_every_window_once_and_the_next_one_in_another_order():
    probes = [TINY.replace(unique_tokens=16 * 96), TINY.replace(unique_tokens=16 * 200 + 5)]
    data = TINY.task_settings.build(probes, CPU)
    small, large = starts(data, 150)
    assert len(small[:96].unique()) == 96
    assert torch.equal(small[:96].sort().values, small[96:192].sort().values)
    assert not torch.equal(small[:96], small[96:192])
    assert len(large[:200].unique()) == 200
    assert set(small.tolist()) < set(large.tolist())  # the smaller part lies in the larger
    assert data.facts(0)["unique_tokens"] == 16 * 96
    assert data.facts(0)["epochs"] == 256 / (16 * 96)


def test_windows_are_the_text_of_the_files():
    root = Path(sysconfig.get_path("stdlib"))
    data = TINY.task_settings.build([TINY], CPU)
    x, y = data.batch(*(rows[0] for rows in data.block(0, 1)))
    assert torch.equal(y.view(1, 4, 16)[..., :-1], x[..., 1:])
    text = stdlib()
    first = bytes(text.tokens[: text.heldout_from])
    assert first.startswith((root / "__future__.py").read_bytes() + b"\0" + (root / "__hello__.py").read_bytes())
    for window in x[0].tolist():
        assert bytes(window) in first
    assert text.heldout_from + text.heldout_bytes == len(text.tokens)


def test_the_text_is_split_by_packages_and_its_checksum_can_be_computed_by_hand():
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    paths = [path.relative_to(root) for path in root.rglob("*.py")]
    paths = [p for p in paths if not skipped & set(p.parts[:-1]) and not p.name.startswith(("_sysconfig", "sitecust"))]
    paths = sorted(p.as_posix() for p in paths if not p.parts[0].startswith("config-"))
    whole = b"".join((root / p).read_bytes() + b"\0" for p in paths)
    text = stdlib()
    assert text.sha256 == hashlib.sha256(whole).hexdigest()
    held = bytes(text.tokens[text.heldout_from :])
    assert len(text.tokens) == len(whole)
    inside = {p.split("/")[0] for p in paths if (root / p).stat().st_size > 500 and (root / p).read_bytes() in held}
    outside = {
        p.split("/")[0] for p in paths if (root / p).stat().st_size > 500 and (root / p).read_bytes() not in held
    }
    assert inside and outside and not inside & outside
    assert 0.03 < len(held) / len(whole) < 0.3


def test_another_text_is_not_passed_off_as_the_same():
    right = TINY.replace(checksum=stdlib().sha256[:12])
    (result,) = train([right], "cpu")
    assert result.provenance["text_sha256"] == stdlib().sha256
    assert result.provenance["python"]
    with pytest.raises(ValueError, match="not 000000"):
        train([TINY.replace(checksum="000000")], "cpu")
    with pytest.raises(ValueError, match="unique_tokens"):
        train([TINY.replace(unique_tokens=10**9)], "cpu")


def test_loss_of_known_predictors():
    data = TINY.task_settings.build([TINY, TINY.replace(seed=1)], CPU)
    held = np.asarray(data.tokens)[data.heldout[:, None] + np.arange(1, 17)]
    frequency = (np.bincount(held.ravel(), minlength=256) + 1.0) / (held.size + 256)
    logits = torch.tensor(np.log(frequency), dtype=torch.float32)
    metrics = data.evaluate(lambda x: logits.expand(2, *x.shape[1:], 256))
    expected = -np.log(frequency[held]).mean()
    assert metrics["loss"].tolist() == pytest.approx([expected] * 2, abs=1e-6)
    assert metrics["bits_per_byte"].tolist() == pytest.approx([expected / math.log(2)] * 2, abs=1e-6)


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CORPORA", str(tmp_path / "registry"))
    rng = np.random.default_rng(0)
    # ids above 32767 would be negative in 16 signed bits
    train_part, held = rng.integers(0, 40_000, 20_000), rng.integers(39_000, 40_000, 3_000)
    return write_corpus(tmp_path / "text", train_part, held, 40_000, name="noise", heldout_bytes=6_000)


def test_a_prepared_text_is_known_by_its_checksum_not_by_its_path(made, tmp_path):
    checksum = register(made)
    assert checksum == hashlib.sha256(np.load(made.parent / "tokens.npy").tobytes()).hexdigest()
    probe = TINY.replace(corpus="prepared", checksum=checksum[:16], vocab=40_000)
    assert str(tmp_path) not in probe.to_json()
    data = probe.task_settings.build([probe], CPU)
    assert isinstance(data.text.tokens, np.memmap)
    x, y = data.batch(*(rows[0] for rows in data.block(0, 1)))
    tokens = np.load(made.parent / "tokens.npy")
    start = data.block(0, 1)[0][0, 0, 2]
    assert x[0, 2].tolist() == tokens[start : start + 16].tolist()
    assert y.view(1, 4, 16)[0, 2].tolist() == tokens[start + 1 : start + 17].tolist()
    assert int(x.max()) > 32_767
    shown = []
    data.evaluate(lambda x: shown.append(x) or torch.zeros(1, *x.shape[1:], 40_000))
    assert all(int(x.min()) >= 39_000 for x in shown)
    assert data.facts(0)["text"] == "noise"


def test_prepared_texts_that_are_absent_damaged_or_of_another_vocabulary(made, tmp_path):
    probe = TINY.replace(corpus="prepared", checksum="0" * 16)
    with pytest.raises(FileNotFoundError, match="register"):
        train([probe], "cpu")
    checksum = register(made)
    with pytest.raises(ValueError, match="set vocab=40000"):
        train([probe.replace(checksum=checksum)], "cpu")
    tokens = np.load(made.parent / "tokens.npy")
    tokens[5] += 1
    np.save(made.parent / "tokens.npy", tokens)
    with pytest.raises(ValueError, match="does not have the checksum"):
        register(made)
    assert len(list(corpora_folder().iterdir())) == 1
    with pytest.raises(ValueError, match="fit vocab"):
        write_corpus(tmp_path / "x", np.arange(10), np.arange(10), 9, name="x")
    with pytest.raises(ValueError, match="both parts"):
        write_corpus(tmp_path / "x", np.arange(10), np.arange(0), 19, name="x")


def test_raw_token_files_are_read_too(made):
    raw = made.parent / "tokens.bin"
    np.load(made.parent / "tokens.npy").astype("<u2").tofile(raw)
    made.write_text(made.read_text().replace("tokens.npy", "tokens.bin"))
    assert len(prepared(register(made)).tokens) == 23_000


@pytest.fixture
def small_library(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CORPORA", str(tmp_path / "registry"))
    whole = corpora._sources(Path(sysconfig.get_path("stdlib")))
    monkeypatch.setattr(corpora, "_sources", lambda root: whole[::40])
    corpora.stdlib.cache_clear()
    yield
    corpora.stdlib.cache_clear()


def test_byte_pairs_of_the_library_are_learned_once_and_lose_nothing(small_library, monkeypatch):
    plain, pairs = stdlib(), stdlib(300)
    assert plain.sha256 == pairs.sha256
    assert pairs.heldout_bytes == len(plain.tokens) - plain.heldout_from
    merges = corpora.learn(bytes(plain.tokens[: plain.heldout_from]), 44)
    assert merges.decode(pairs.tokens) == bytes(plain.tokens)
    assert merges.decode(pairs.tokens[: pairs.heldout_from]) == bytes(plain.tokens[: plain.heldout_from])
    monkeypatch.setattr(corpora, "learn", None)  # must not be needed again
    corpora.stdlib.cache_clear()
    assert np.array_equal(stdlib(300).tokens, pairs.tokens)


def test_documents_are_prepared_by_groups(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CORPORA", str(tmp_path / "registry"))
    monkeypatch.setattr(preparing._batches, "__defaults__", (2_000,))
    documents = [(f"book {i // 3}", f"Page {i} of the book number {i // 3}.\n".encode() * 20) for i in range(90)]
    path = prepare(documents, tmp_path / "books", 300, name="books", heldout=0.2, sample=10_000)
    probe = TINY.replace(corpus="prepared", checksum=register(path), vocab=300)
    data = probe.task_settings.build([probe], CPU)
    kept = json.loads((path.parent / "byte_pairs.json").read_text())["merges"]
    merges = corpora.BytePairs(tuple((a, b) for a, b in kept))
    train_text = merges.decode(data.text.tokens[: data.text.heldout_from])
    held_text = merges.decode(data.text.tokens[data.text.heldout_from :])
    assert len(held_text) == data.text.heldout_bytes
    assert train_text.count(b"\0") + held_text.count(b"\0") == 90
    for group in range(30):
        marks = [text.count(b"number %d.\n" % group) for text in (train_text, held_text)]
        assert sorted(marks) == [0, 60]
    assert train([probe], "cpu")[0].provenance["text"] == "books"
    with pytest.raises(ValueError, match="heldout=0"):
        prepare(documents, tmp_path / "none", 300, name="none", heldout=0.0)
