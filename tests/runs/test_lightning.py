"""PyTorch Lightning: folders that its Trainer and its CSVLogger wrote."""

from __future__ import annotations

import contextlib
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import workbench
from workbench.runs import plain_yaml
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.lightning import Lightning
from workbench.testing.readers import ReaderContract, sample

pytestmark = pytest.mark.libraries

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
try:
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import CSVLogger
except ModuleNotFoundError:
    pl = pytest.importorskip("lightning.pytorch", reason="neither lightning nor pytorch_lightning is installed")
    from lightning.pytorch.loggers import CSVLogger


def log(folder, name, settings, points, version=None):
    """A folder by Lightning's logger itself: settings and ``[(step, metrics)]``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = CSVLogger(str(folder), name=name, version=version)
        logger.log_hyperparams(settings)
        for step, metrics in points:
            logger.log_metrics(metrics, step)
        logger.save()
    return folder / name / (version or "version_0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of a real training, and what its module saw."""
    folder = tmp_path_factory.mktemp("lightning")
    seen = {"train": {}, "val": []}

    class Module(pl.LightningModule):
        def __init__(self, lr, depth, names):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(3, 1)

        def training_step(self, batch, index):
            loss = self.layer(batch).square().mean()
            seen["train"][self.global_step] = loss.item()
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, index):
            loss = self.layer(batch).square().mean()
            seen["val"].append(loss.item())
            self.log("val_loss", loss)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    torch.manual_seed(0)
    data = torch.utils.data.DataLoader(torch.randn(40, 3), batch_size=4)
    whole = torch.utils.data.DataLoader(torch.randn(8, 3), batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=3, accelerator="cpu", logger=CSVLogger(str(folder)), log_every_n_steps=1, num_sanity_val_steps=0,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(Module(lr=0.05, depth=2, names=["a", "b"]), data, whole)
    return folder, seen


def test_a_real_training(trained):
    folder, seen = trained
    runs = workbench.load(folder)
    assert runs.ids == ["version_0"] and list(runs["problem"]) == [""]
    row, curve = runs.frame.iloc[0], runs.curves["version_0"].set_index("step")
    assert row["lr"] == 0.05 and row["depth"] == 2 and row["names"] == '["a", "b"]' and row["steps"] == 29
    assert "epochs" not in runs.frame, "the number of the last epoch is not how many have passed"
    np.testing.assert_array_equal(curve["train_loss"].dropna(), list(seen["train"].values()))
    assert curve["loss"].dropna().to_dict() == dict(zip([9, 19, 29], seen["val"], strict=True))
    assert curve["epoch_index"].tolist() == [step // 10 for step in range(30)] and row["loss"] == seen["val"][-1]
    raw = Lightning().read(folder / "lightning_logs" / "version_0")
    theirs = pd.read_csv(folder / "lightning_logs" / "version_0" / "metrics.csv")
    assert raw.read == len(theirs) == 33 and raw.skipped == {}


class TestContract(ReaderContract):
    reader = Lightning
    names = ("<script>alert(1)<", "#1", "=1+1", "\u202egnp", 'say "a,b"', "&amp;")
    mutations = 150

    def files(self, path):
        return super().files(next(iter(sorted(path.iterdir()))))

    def write(self, path, frame):
        for record in frame.to_dict("records"):
            points = [(0, {"loss": 9.0}), (1, {"val_loss": record["loss"]})]
            # a logger without a name puts its versions into the folder itself
            log(path, "", {"params": record["params"], "tokens": record["tokens"]}, points, version=record["run"])

    def check_no_invention(self, table, where):
        frame = table.frame.assign(run=[run.split("/")[-1] for run in table.frame["run"]])
        if "loss" in frame:
            frame["loss"] = frame["loss"].where(frame["loss"] != 9.0)
        super().check_no_invention(type(table)(frame), where)

    def check_no_new_points(self, table, points, where):
        # a run whose settings are lost has other columns than the others, and is then called by its folder alone
        either = points | {run.split("/")[-1]: seen for run, seen in points.items()}
        super().check_no_new_points(table, either, where)

    def test_values_are_read_exactly(self, tmp_path):
        table = workbench.load(self.make(tmp_path))
        assert table.ids == ["log/a", "log/b", "log/c"]
        for name in ("params", "tokens"):
            assert table[name].tolist() == sample()[name].tolist()
        assert table["val_loss"].tolist() == sample()["loss"].tolist()

    def test_hostile_names_pass_through(self, tmp_path):
        n = len(self.names)
        frame = pd.DataFrame({"run": self.names, "params": np.arange(1.0, n + 1), "tokens": 1e9, "loss": 2.0})
        table = workbench.load(self.make(tmp_path, frame))
        by_params = dict(zip(table["params"], table["run"], strict=True))
        assert [by_params[k] for k in range(1, n + 1)] == [f"log/{name}" for name in self.names]
        html = table._repr_html_()
        assert "<script" not in html and "\u202e" not in html


def test_settings_of_every_kind_and_hostile_metrics(tmp_path):
    settings = {
        "lr": 1e-5, "big": 10**20, "none": None, "yes": True, "text": "a: b # c\nd", "nan": float("nan"),
        "model": {"width": 8, "deep": {"x": [1, {"y": 2}]}}, "object": torch.nn.ReLU, "array": np.float64(2.5),
        "<script>": "\u202e",
    }  # fmt: skip
    shared = {"k": 1}
    settings |= {"one": shared, "two": shared}
    hostile = {"a,b": 1.0, 'q"': 2.0, "x\ny": 3.0, "<b>": 4.0, "inf": math.inf, "epoch": 0.0}
    log(tmp_path, "lm", settings, [(5, {"loss": 2.5} | hostile), (6, {"loss": torch.tensor(0.5)})])
    frame = Lightning().read(tmp_path / "lm" / "version_0").frame.iloc[0].to_dict()
    assert frame["run"] == "lm/version_0" and frame["loss"] == 0.5 and frame["lr"] == 1e-5
    assert frame["none"] is None and frame["yes"] is True and frame["text"] == "a: b # c\nd" and np.isnan(frame["nan"])
    assert (
        frame["model.width"] == 8
        and json.loads(frame["model.deep.x"]) == [1, {"y": 2}]
        and frame["<script>"] == "\u202e"
    )
    assert frame["one.k"] == frame["two.k"] == 1
    for name, value in hostile.items():
        assert name == "epoch" or frame[name] == value
    assert "<script" not in workbench.load(tmp_path)._repr_html_()


def test_cut_off_anywhere_it_keeps_the_whole_lines(tmp_path):
    points = [(step, {"loss": 3 - step / 100, "epoch": step // 10}) for step in range(40)]
    folder = log(tmp_path, "lm", {"lr": 0.125, "params": 123456}, points)
    for name in ("metrics.csv", "hparams.yaml"):
        whole = (folder / name).read_bytes()
        for cut in range(len(whole)):
            (folder / name).write_bytes(whole[:cut])
            with contextlib.suppress(LoadError):
                read = Lightning().read(folder)
                cells = read.frame.iloc[0]
                assert cells.get("lr") in (None, 0.125) and cells.get("params") in (None, 123456)
                if name == "metrics.csv":
                    kept = whole[:cut].count(b"\n") - 1
                    assert read.read == kept and (read.curves[0]["loss"].tolist() if kept > 0 else []) == [
                        3 - step / 100 for step in range(kept)
                    ]
                elif cut and not whole[:cut].endswith(b"\n"):
                    assert "hparams.yaml" in read.problems[0]
        (folder / name).write_bytes(whole)


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "metrics.csv").write_text("run,loss\na,1\nb,2\n")
    assert not Lightning().sniff(tmp_path, b"")
    (tmp_path / "hparams.yaml").write_text("{}\n")
    assert not Lightning().sniff(tmp_path, b"") and not isinstance(find(tmp_path), Lightning)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [1, 2.5, x]\nc: {d: null, e: ~}\n",
        "- 1e-3\n- 1.0e-3\n- .inf\n- -.inf\n- 0x10\n- 1_000\n- '12'\n- yes\n- 2001-01-01\n",
        "? [1, 2]\n: x\n",
        "a: &x {k: 1}\nb: *x\n",
        "--- \n",
    ],
)
def test_yaml_beside_the_library(text):
    theirs, ours = yaml.safe_load(text) if "? [" not in text else {"?": "x"}, plain_yaml.loads(text)
    expected = {"1e-3": 1e-3, 16: "0x10"}  # PyYAML reads 1e-3 as text; hexadecimal numbers are no settings
    if isinstance(theirs, list):
        theirs = [
            expected.get(item, item if isinstance(item, bool | int | float | str) else str(item)) for item in theirs
        ]
        theirs[0] = 1e-3 if isinstance(ours[0], float) else "1e-3"
    assert ours == theirs


def test_yaml_that_attacks_is_refused(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for text in (bomb, "&a [*a]", "&a {b: *a}", "[" * 3000, "a: [", "a: 1\n---\nb: 2\n", "\x00", "a: *b\n"):
        with pytest.raises(ValueError):
            plain_yaml.loads(text)
    run = f"!!python/object/apply:os.system ['touch {tmp_path}/made']\n"
    assert plain_yaml.loads(run) == [f"touch {tmp_path}/made"] and not (tmp_path / "made").exists()
