"""The scripts of ``benchmarks/`` run without a GPU and without peers: their rows for a GPU on a few images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("skimage.data")
pytest.importorskip("timm")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
Found = dict[str, Any]


@pytest.fixture
def script(monkeypatch) -> Iterator[Callable[[str], Any]]:
    """A benchmark as a module, on a machine without peers; others of their names are there again afterwards."""
    from lightning.pytorch.trainer.connectors import callback_connector

    before, threads = dict(sys.modules), torch.get_num_threads()
    monkeypatch.syspath_prepend(FOLDER)
    # What the scripts change for their whole process.
    monkeypatch.setattr(callback_connector, "_load_external_callbacks", callback_connector._load_external_callbacks)
    monkeypatch.setenv("AUTODIDACT_CACHE", "")
    mine = {path.stem for path in FOLDER.glob("*.py")}
    for name in mine & sys.modules.keys():
        del sys.modules[name]
    monkeypatch.setattr(import_module("common"), "find_spec", lambda name: None)
    yield import_module
    for name in mine & sys.modules.keys():
        del sys.modules[name]
    sys.modules.update({name: module for name, module in before.items() if name in mine})
    torch.set_num_threads(threads)


@pytest.fixture
def run(script, monkeypatch, tmp_path) -> Callable[..., Found]:
    """What a script writes with such arguments."""

    def run(name: str, *arguments: str) -> Found:
        module, path = script(name), tmp_path / f"{name}.json"
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments, "--json", str(path)])
        module.main()
        return json.loads(path.read_text())

    return run


def small(run: Callable[..., Found], name: str, *more: str) -> Found:
    """The rows of a GPU, small, and here on a processor."""
    found = run(name, "--device", "cuda", "--small", *more)
    assert found["small"]
    assert found["device"]
    return found


def stored(name: str) -> Found:
    return json.loads((FOLDER / f"{name}.json").read_text())


def test_views_for_a_gpu_are_made_on_a_few_images(run, capsys):
    found = small(run, "views", "--sizes", "32")
    (row,) = found["rows"]
    assert row.keys() == stored("views_gpu")["rows"][0].keys()
    assert (row["batch"], row["ratio"]) == (2, None)
    assert row["views_per_second"] > 0
    assert row["share_of_a_resnet50_step"] > 0
    said = capsys.readouterr().err
    assert said.startswith("kornia is not installed here: ")
    assert said.count("\n") == 1


def test_views_have_nothing_to_measure_without_their_peer(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["views.py"])
    script("views").main()
    told = capsys.readouterr()
    assert told.err.startswith("lightly is not installed here: ")
    assert not told.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_rows_for_a_gpu_need_one_unless_they_are_small(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mae.py", "--device", "cuda"])
    with pytest.raises(SystemExit, match="no GPU was found; --device cuda --small tries"):
        script("mae").main()


def test_an_epoch_for_a_gpu_is_trained_in_bf16_on_a_few_images(run, script, monkeypatch, capsys):
    epoch, asked = script("epoch"), []
    train = epoch.train

    def watched(method: Any, source: Any, settings: Any, **more: Any) -> Any:
        asked.append(settings.precision)
        return train(method, source, settings, **more)

    monkeypatch.setitem(epoch.ROWS, "cuda", [row for row in epoch.ROWS["cuda"] if row[1] != "timm:resnet18"])
    monkeypatch.setattr(epoch, "LONG", 2)
    monkeypatch.setattr(epoch, "train", watched)
    found = small(run, "epoch", "--threads", "1")
    assert found.keys() == {*stored("epoch").keys(), "small"}
    assert [row["encoder"] for row in found["rows"]] == ["timm:resnet50", "timm:vit_small_patch16_224"]
    assert all(row.keys() == stored("epoch")["rows"][0].keys() for row in found["rows"])
    assert all(len(row["all_seconds"]["autodidact"]) == 1 for row in found["rows"])
    assert set(asked) == {"bf16"}
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["lightly", "stable-pretraining"]


def test_embed_for_a_gpu_is_timed_on_a_few_images(run, script, monkeypatch):
    monkeypatch.setitem(script("embed").ENCODERS, "cuda", script("embed").ENCODERS["cuda"][:1])
    found = small(run, "embed")
    assert [row["encoder"] for row in found["rows"]] == ["small:convnet?width=32"]
    assert all(row.keys() == stored("embed")["rows"][0].keys() for row in found["rows"])
    assert found.keys() == {*stored("embed").keys(), "device", "small"}


def test_a_step_of_mae_for_a_gpu_is_taken_in_bf16_on_a_few_images(run, script, monkeypatch):
    halves, autocast = [], torch.autocast

    def watched(*given: Any, **more: Any) -> Any:
        halves.append(more)
        return autocast(*given, **more)

    monkeypatch.setattr(script("mae").torch, "autocast", watched)
    found = small(run, "mae")
    assert found.keys() >= stored("mae").keys()
    assert "bf16" in found["what"]
    assert {"enabled": True} in halves
    assert found["seconds"].keys() == {"visible", "all"}


def test_the_search_for_neighbours_for_a_gpu_finds_the_peers_rows(run, script, monkeypatch):
    neighbours = script("neighbours")
    # In this process: a new one takes seconds to import torch.
    monkeypatch.setattr(neighbours, "child", neighbours.measure)
    found = small(run, "neighbours")
    assert found.keys() >= stored("neighbours").keys()
    assert found["agreement"] == 1
    assert found["contestants"].keys() == {"autodidact", "scikit-learn"}


def test_contestants_that_find_other_rows_agree_by_their_share(script):
    ours, theirs = np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 9]])
    assert script("neighbours").agreement(ours, theirs) == 0.75


def test_the_contrastive_loss_for_a_gpu_is_timed_on_few_pairs(run, script, monkeypatch, capsys):
    contrastive, asked = script("contrastive"), []

    def child(name: str, n: int, options: Any) -> dict[str, float]:
        """In this process: a new one takes seconds to import torch."""
        asked.append((name, n))
        return contrastive.measure(name, n, options.d, 1, "cpu", contrastive.GPU_TIMES) | {"bytes": 2**30}

    monkeypatch.setattr(contrastive, "child", child)
    found = small(run, "contrastive")
    assert found.keys() >= stored("contrastive").keys()
    assert found["against"]["dense"].keys() == stored("contrastive")["against"]["dense"].keys()
    assert found["against"]["dense"]["loss_difference"] < 1e-5
    assert found["large"].keys() == {*stored("contrastive")["large"].keys(), "peers"}
    needs = found["large"]["peers"]["dense"]
    assert needs["bytes"] == 2**30 * 1.5**2
    assert needs["fits"] == ("measured" in needs) == (("dense", 1536) in asked)
    assert needs["bytes"] / needs["memory"] > 0
    assert capsys.readouterr().err.startswith("lightly is not installed here: ")


def test_a_contestant_of_the_contrastive_loss_is_measured_in_a_process_of_its_own(script):
    options = ["--child", "dense", "--n", "128", "--d", "8", "--device", "cuda", "--small"]
    done = subprocess.run(
        [sys.executable, FOLDER / "contrastive.py", *options],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    keys = stored("contrastive")["medians"]["dense"].keys()
    assert json.loads(done.stdout).keys() == keys


def test_a_peer_is_not_run_with_more_pairs_than_there_is_memory_for(script):
    room = script("contrastive").room(8_192, 4.0e9, 65_536, whole=128 * 10**9, free=100 * 10**9)
    assert room["bytes"] == 256 * 10**9
    assert room["matrix_bytes"] == 4 * 131_072**2
    assert not room["fits"]
    assert script("contrastive").room(8_192, 4.0e9, 65_536, whole=512 * 10**9, free=300 * 10**9)["fits"]


def test_the_dense_loss_lies_on_the_device_of_its_views(script):
    loss_of = script("contrastive").contestant("dense")
    with FakeTensorMode():
        loss = loss_of(*(torch.empty(8, 4, device="cuda") for _ in range(2)))
    assert loss.device.type == "cuda"


def test_a_peer_that_is_missing_is_named_with_what_is_left_out(script, capsys):
    common = script("common")
    assert not common.peer_is_there("stable_pretraining", "its training")
    told = capsys.readouterr().err
    assert told == "stable-pretraining is not installed here: its training is left out; `make bench` installs it\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_bench_goes_on_after_a_benchmark_that_fails_and_names_it(tmp_path):
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    for environment in (".venv", ".venv-bench"):
        python = tmp_path / environment / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\ntest "$1" = -m || exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (tmp_path / environment / ".ready").touch()
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "bad.py").write_text("raise FileNotFoundError('the garments are not here')\n")
    (folder / "good.py").write_text("import pathlib, sys\npathlib.Path(sys.argv[2]).write_text('{}')\n")
    # What an outer make, which may have started the tests, tells inner ones.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}

    def bench(*more: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "bench", *more]
        return subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)

    done = bench()
    assert done.returncode
    assert (folder / "good.json").exists()
    assert done.stdout.splitlines()[-1] == "these failed, each said why above: bad"
    assert "the garments are not here" in done.stderr
    again = bench("BENCHES=good")
    assert again.returncode == 0, again.stderr
