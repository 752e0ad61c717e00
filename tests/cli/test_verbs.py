"""From the words of a command to the arguments of a verb, and once through with real data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy.stats import spearmanr

from autodidact.cli.claim import judged
from autodidact.cli.compare import grid_words, typed_grid
from autodidact.cli.pretrain import encoder_words, method_of
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.training import Settings

TINY = (
    "--steps",
    "2",
    "--batch-size",
    "16",
    "--encoder.width",
    "8",
    "--no-report",
    "--quiet",
    "--accelerator",
    "cpu",
)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    pictures = rng.integers(0, 128, (48, 8, 8, 1)) + 100 * labels[:, None, None, None]
    np.savez(tmp_path / "images.npz", image=pictures.astype(np.uint8), label=labels)
    return "images.npz"


@pytest.fixture
def called(monkeypatch):
    """Replaces a verb by one that notes its arguments."""
    import importlib

    def replace(verb: str, module: str, result: object = None) -> dict[str, object]:
        seen: dict[str, object] = {}

        def stand_in(*given: object, **named: object) -> object:
            seen.update(named, given=given)
            return result

        monkeypatch.setattr(importlib.import_module(module), verb, stand_in)
        return seen

    return replace


def test_pretrain_passes_on_what_was_asked(run, called):
    seen = called("pretrain", "autodidact.verbs.pretrain")
    code, out, _ = run(
        *("pretrain", "dcl", "--data", "photos", "--encoder", "timm:resnet18", "--out", "runs/a", "--epochs", 3),
        *("--batch-size", 8, "--seed", 4, "--lr", "1e-2", "--image-size", 32, "--devices", 1, "--precision", "32"),
        *("--method.weighting", "von_mises_fisher", "--no-method.detach_weights", "--encoder.depth", 3),
        *("--loggers", "wandb,mlflow", "--no-cache", "--fresh", "--force", "--pretrained", "--labels", "parent"),
    )
    assert code == 0
    assert seen["settings"] == Settings(
        epochs=3, batch_size=8, seed=4, lr=0.01, devices=1, loggers=("wandb", "mlflow"), precision="32"
    )
    assert seen["method_arguments"] == {"weighting": "von_mises_fisher", "detach_weights": False}
    assert seen["encoder_arguments"] == {"depth": 3}
    expected = {"method": "dcl", "data": "photos", "encoder": "timm:resnet18", "image_size": 32, "labels": "parent"}
    expected |= {"cache": False, "fresh": True, "force": True, "pretrained": True, "report": True, "quiet": False}
    assert {name: seen[name] for name in expected} == expected
    assert str(seen["out"]) == "runs/a"
    assert "runs/a/model" in out


def test_every_argument_of_pretrain_can_be_given_on_the_command_line(run, called):
    import inspect

    from autodidact.verbs.pretrain import pretrain

    names = set(inspect.signature(pretrain).parameters)
    seen = called("pretrain", "autodidact.verbs.pretrain")
    run("pretrain", "dcl", "--data", "photos")
    assert set(seen) - {"given"} == names - {"method_arguments"}


def test_a_process_beside_the_first_takes_part_in_the_run_and_does_not_delete_it(run, called, monkeypatch):
    seen = called("pretrain", "autodidact.verbs.pretrain")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setenv("LOCAL_RANK", "1")
    run("pretrain", "dcl", "--data", "photos", "--fresh", "--force")
    assert (seen["fresh"], seen["force"]) == (False, False)


@pytest.mark.parametrize(
    ("words", "method"),
    [
        ((), None),
        (("--method.method", "dcl"), "dcl"),
        (("--method.method", "dcl", "--method.method.temperature", "0.2"), {"name": "dcl", "temperature": 0.2}),
        (("--method.method.temperature=0.2",), {"name": "simclr", "temperature": 0.2}),
        (("--method.method={name: dcl, sigma: 1}", "--method.method.detach_weights"),
         {"name": "dcl", "sigma": 1, "detach_weights": True}),
    ],
)  # fmt: skip
def test_a_recipe_is_told_which_method_to_train_and_with_which_options(run, called, words, method):
    seen = called("pretrain", "autodidact.verbs.pretrain")
    code, _, err = run("pretrain", "multistage", "--data", "photos", *words, "--method.further", 1, "--epochs", 2)
    assert (code, err) == (0, "")
    assert seen["method_arguments"].get("method") == method
    assert seen["method_arguments"]["further"] == 1
    assert seen["settings"].epochs == 2


def test_entries_of_an_option_that_is_no_method_are_left_to_it(run, called):
    seen = called("pretrain", "autodidact.verbs.pretrain")
    assert run("pretrain", "simclr", "--data", "d", "--method.view_changes", "{flip: 0}").code == 0
    assert seen["method_arguments"] == {"view_changes": {"flip": 0}}
    assert "unknown option" in run("pretrain", "multistage", "--data", "d", "--method.methot.temperature", "1").err


def test_select_passes_on_what_was_asked(run, called, tmp_path):
    seen = called("select", "autodidact.verbs.select", tmp_path / "chosen.txt")
    code, out, _ = run("select", "runs/a", "--pool", "p", "--target", "t", "--out", "chosen.txt", "--share", "0.05")
    assert code == 0
    assert seen["given"] == ("runs/a", "p", "t")
    assert (seen["out"], seen["share"], seen["stop"]) == ("chosen.txt", 0.05, 0.95)
    assert "autodidact pretrain METHOD --data" in out
    assert run("select", "runs/a", "--pool", "p", "--out", "l.txt").code == 2


def test_several_encoders_are_named_by_slot(run, called):
    seen = called("pretrain", "autodidact.verbs.pretrain")
    run("pretrain", "dcl", "--data", "d", "--encoder", "image=timm:resnet18", "--encoder=text=hf:runs/a=b")
    assert seen["encoder"] == {"image": "timm:resnet18", "text": "hf:runs/a=b"}


def test_an_encoder_that_holds_an_equals_sign_is_no_slot():
    assert encoder_words(["--encoder", "hf:runs/a=b"]) == ["--encoder", "hf:runs/a=b"]


def test_the_method_may_stand_anywhere_and_in_a_configuration_file(tmp_path):
    (tmp_path / "c.yaml").write_text("method: gmml\n")
    assert method_of(["dcl", "--data", "x"]) == "dcl"
    assert method_of(["--data", "x", "--fresh", "dcl"]) == "dcl"
    assert method_of(["--data", "x", "--method.temperature", "1", "dcl"]) == "dcl"
    assert method_of(["--config", str(tmp_path / "c.yaml")]) == "gmml"
    assert method_of(["--config", str(tmp_path / "c.yaml"), "dcl"]) == "dcl"
    assert method_of(["--data", "x"]) == ""


def test_the_configuration_of_a_run_is_taken_back(run, tmp_path, images):
    assert run("pretrain", "dcl", "--data", images, "--out", "a", *TINY, "--method.sigma", "0.7").code == 0
    assert run("pretrain", "--config", "a/config.yaml", "--out", "b", "--no-report", "--quiet").code == 0
    first, second = (yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("a", "b"))
    assert first == second
    assert first["method_arguments"] == {"sigma": 0.7}
    printed = yaml.safe_load(run("pretrain", "--config", "a/config.yaml", "--print-config").out)
    assert {name: printed.get(name) for name in first if name != "verb"} == {
        k: v for k, v in first.items() if k != "verb"
    }


def test_pretraining_says_which_column_of_a_table_it_leaves_aside(run, tmp_path):
    rows = [f"{i % 7},{i % 5},{i % 3},remark {i} of many" for i in range(48)]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,c,remark", *rows]))
    words = ("pretrain", "t_jepa", "--data", "table.csv", "--out", "r", "--no-report", "--accelerator", "cpu")
    sizes = ("--steps", 2, "--batch-size", 16, "--method.context_share", "0.3,0.4", "--method.target_share", "0.3,0.4")
    code, _, err = run(*words, *sizes)
    assert code == 0, err
    assert "t_jepa: column 'remark' is left aside: text with 48 different values" in err


def test_a_command_that_failed_before_training_can_be_corrected_in_the_same_folder(run, images):
    assert run("pretrain", "dcl", "--data", "imgs.npz", "--out", "a", *TINY).code == 2
    assert run("pretrain", "dcl", "--data", images, "--out", "a", *TINY).code == 0


def test_another_command_on_a_trained_folder_is_refused_with_what_differs(run, images):
    assert run("pretrain", "dcl", "--data", images, "--out", "a", *TINY).code == 0
    code, _, err = run("pretrain", "dcl", "--data", images, "--out", "a", *TINY, "--lr", "0.5")
    assert code == 2
    assert "lr was 0.001, is 0.5" in err
    assert "--fresh" in err


def test_from_images_to_embeddings_in_four_commands(run, tmp_path, images):
    assert run("pretrain", "simclr", "--data", images, "--out", "r", *TINY).code == 0
    with np.load(tmp_path / images) as arrays:
        np.savez(tmp_path / "darker.npz", image=arrays["image"] // 4, label=arrays["label"])
    said = run(
        *("evaluate", "r", "--data", images, "--labels", "2-per-class", "--protocol", "knn,linear", "--seeds", 2),
        *("--baselines", "raw", "--json", "e.json", "--quiet", "--device", "cpu", "--shift", "darker.npz"),
    )
    assert said.code == 0
    assert "pretrained - raw" in said.out
    assert "shift: on 48 rows of darker.npz" in said.out
    assert "\nshifted rows - test rows:\n  raw  knn  " in said.out
    figures = json.loads((tmp_path / "e.json").read_text())["figures"]
    assert set(figures) == {"raw", "pretrained"}
    assert set(figures["pretrained"]["linear"]) == {"0", "1"}
    assert run("embed", "r", "--data", images, "--out", "e.npy", "--quiet").out == "written to e.npy\n"
    assert np.load(tmp_path / "e.npy").shape[0] == 48
    assert run("export", "r", "--format", "torch", "--out", "x").code == 0
    assert (tmp_path / "x" / "README.md").exists()


def test_a_run_without_labels_is_evaluated_on_class_folders(run, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(12):
            picture = rng.integers(0, 128, (8, 8), dtype=np.uint8) + np.uint8(128 * (name == "dog"))
            Image.fromarray(picture).save(tmp_path / "pets" / name / f"{number}.png")
    assert run("pretrain", "simclr", "--data", "pets", "--out", "r", "--labels", "none", *TINY).code == 0
    words = ("evaluate", "r", "--data", "pets", "--protocol", "knn", "--seeds", 1, "--baselines", "none", "--quiet")
    code, out, err = run(*words, "--device", "cpu")
    assert (code, err) == (0, "")
    assert "pretrained" in out


def test_evaluate_prints_the_groups_that_are_too_small_and_those_without_a_test_row(run, tmp_path):
    torch.manual_seed(0)
    EncoderModel({"encoder": build("small:convnet?width=4", image_size=8, channels=1)}).eval().save(tmp_path / "m")
    rng = np.random.default_rng(0)
    parts = {"train": ["cat", "dog", "fox"] * 8, "test": ["cat"] * 6 + ["dog"] * 2, "zoo": ["fox"] * 5 + ["cat"]}
    for name, labels in parts.items():
        pictures = rng.integers(0, 255, (len(labels), 8, 8, 1), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", image=pictures, label=np.array(labels))
    words = ("evaluate", "m", "--data", "train.npz", "--test", "test.npz", "--protocol", "groups", "--group", "label")
    least = ("--group-min", 3, "--baselines", "none", "--seeds", 1, "--device", "cpu", "--quiet", "--json", "e.json")
    code, out, err = run(*words, *least)
    assert (code, err) == (0, "")
    line = "not counted for the worst group and the gap, with fewer than 3 rows: dog (2 rows), fox (0 rows)"
    assert line in out.splitlines()
    about = json.loads((tmp_path / "e.json").read_text())["about"]
    assert (about["groups"], about["groups_too_small"]) == ({"cat": 6, "dog": 2, "fox": 0}, ["dog", "fox"])
    code, out, err = run(*words, *least, "--shift", "zoo.npz")
    assert (code, err) == (0, "")
    shifted = line.replace("gap,", "gap on zoo.npz,").replace(
        "dog (2 rows), fox (0 rows)", "cat (1 rows), dog (0 rows)"
    )
    assert {line, shifted} <= set(out.splitlines())
    about = json.loads((tmp_path / "e.json").read_text())["about"]
    assert (about["groups"], about["groups_shift"]) == ({"cat": 6, "dog": 2, "fox": 0}, {"cat": 1, "dog": 0, "fox": 5})


def test_two_processes_train_together_and_only_one_of_them_speaks(tmp_path, images):
    words = ["pretrain", "dcl", "--data", images, "--out", "r", *TINY, "--devices", "2", "--fresh", "--force"]
    done = subprocess.run(
        [sys.executable, "-m", "autodidact", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the model is in") == 1
    assert (tmp_path / "r/model/model.safetensors").exists()


def test_a_grid_is_gathered_and_read_by_the_types_of_its_options():
    words = grid_words(["--grid", "method.temperature=0.1,1", "--data", "d", "--grid=batch-size=8,16"])
    assert words[:2] == ["--data", "d"]
    grid = json.loads(words[2].removeprefix("--grid="))
    assert typed_grid(grid, "simclr,dcl") == {"method.temperature": [0.1, 1.0], "batch_size": [8, 16]}


def test_a_comparison_is_printed_as_a_configuration_and_taken_back(run, called, tmp_path):
    words = ("compare", "--data", "d", "--methods", "simclr,dcl", "--grid", "lr=1e-3,2", "--grid", "method.sigma=1")
    (tmp_path / "c.yaml").write_text(run(*words, "--print-config").out)
    about = {"arms": {"simclr": {}}, "protocols": [], "data": "d", "samples": 1, "budget": "1 epochs", "notes": []}
    empty = SimpleNamespace(about=about, arms=(), metrics=(), text=lambda: "")
    seen = called("compare", "autodidact.verbs.compare", empty)
    assert run("compare", "--config", "c.yaml").code == 0
    assert seen["given"] == ("d", "simclr,dcl")
    assert seen["grid"] == {"lr": [1e-3, 2.0], "method.sigma": [1.0]}


def test_compare_prints_figures_and_paired_differences(run, tmp_path, images):
    code, out, _ = run(
        *("compare", "--data", images, "--methods", "simclr,dcl", "--seeds", 2, "--steps", 2, "--batch-size", 16),
        *("--encoder.width", "8", "--protocol", "knn", "--labels", "2-per-class", "--out", "c", "--json", "c.json"),
        *("--quiet", "--accelerator", "cpu"),
    )
    assert code == 0
    assert "2 updates; 2-per-class of the labels, 2 seeds" in out
    assert "dcl - simclr" in out
    assert set(json.loads((tmp_path / "c.json").read_text())["figures"]) == {"simclr", "dcl", "raw", "random"}


def test_choose_prints_the_trials_the_ranking_and_the_command_to_go_on_with(run, tmp_path, images):
    code, out, _ = run(
        *("choose", "--data", images, "--methods", "simclr,vicreg", "--trials", 2, "--steps", 4, "--batch-size", 16),
        *("--search", "lr=0.001", "--search", "method.temperature=0.1,0.5", "--encoder.width", "8", "--quiet"),
        *("--protocol", "knn", "--labels", "2-per-class", "--out", "c", "--json", "c.json", "--accelerator", "cpu"),
        "--no-early-stopping",
    )
    assert code == 0
    assert "ranked without labels, in a method by retrieval, between methods by retrieval:" in out
    assert "retrieval and knn: all " in out
    about = json.loads((tmp_path / "c.json").read_text())["about"]
    assert f"1. {about['chosen']}" in out
    chosen = about["trials"][about["chosen"]]
    assert f"autodidact pretrain {chosen['method']} --data images.npz --encoder.width 8 --method." in out
    assert out.rstrip().endswith("--lr 0.001")


def test_choose_on_class_folders_gives_up_trials_and_prints_how_rankings_agree_with_a_linear_probe(run, tmp_path):
    digits = open_source("digits", progress=False).at(np.arange(80))
    for index, (image, label) in enumerate(zip(digits.read(range(80))["image"], digits.column("label"), strict=True)):
        path = tmp_path / "photos" / ("even", "odd")[int(label) % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    code, out, _ = run(
        *("choose", "--data", "photos", "--methods", "simclr,dcl", "--trials", 2, "--steps", 8, "--batch-size", 16),
        *("--search", "lr=0.0001:0.1:log", "--encoder.width", "4", "--protocol", "linear", "--json", "c.json"),
        *("--out", "c", "--quiet", "--accelerator", "cpu"),
    )
    assert code == 0
    found = json.loads((tmp_path / "c.json").read_text())
    given_up = found["about"]["given_up"]
    assert f"given up early: {'; '.join(given_up)}" in out
    trials = {name: figures for name, figures in found["figures"].items() if name in found["about"]["trials"]}
    by_views, by_labels = (
        [np.mean(list(figures[judge].values())) for name, figures in trials.items() if name not in given_up]
        for judge in ("retrieval", "linear")
    )
    assert 2 <= len(by_views) < 4
    # Where all come to the same there is no order to agree with.
    expected = spearmanr(by_views, by_labels).statistic if len(set(by_views)) > 1 < len(set(by_labels)) else 0.0
    assert f"  retrieval and linear: all {expected:+.2f}" in out


def test_a_claim_passes_on_its_options_and_prints_the_verdict(run, called):
    seen = called("run_claim", "autodidact.claims", RESULT)
    code, out, _ = run("claim", "dcl", "--seeds", 3, "--first-seed", 10, "--scale", "tiny", "--json", "d.json")
    assert code == 0
    assert seen["given"] == ("dcl",)
    assert {name: seen[name] for name in ("seeds", "first_seed", "scale", "json")} == {
        "seeds": 3,
        "first_seed": 10,
        "scale": "tiny",
        "json": "d.json",
    }
    assert "verdict: held" in out
    assert "d.json" in out


RESULT = {
    "number": 18,
    "name": "dcl",
    "statement": "DCL beats NT-Xent",
    "metric": "linear",
    "budget": "10 epochs",
    "arms": {"dcl": [0.5, 0.75], "nt_xent": [0.25, 0.25]},
    "difference": {"mean": 0.375, "low": 0.25, "high": 0.5},
    "margin": 0.01,
    "verdict": "held",
    "why": "",
    "seeds": [0, 1],
    "statements": [
        {
            "role": "main",
            "text": "it is better",
            "unit": "points",
            "difference": {"mean": 0.375, "low": 0.25, "high": 0.5},
            "margin": 0.01,
            "direction": "above",
            "verdict": "held",
        }
    ],
    "notes": ["one note"],
}


def test_several_claims_are_run_together_and_printed_one_after_the_other(run, called):
    seen = called("run_claims", "autodidact.claims", {"a": RESULT, "b": {**RESULT, "name": "other"}})
    code, out, _ = run("claim", "dcl, rankme", "--scale", "tiny", "--json", "results")
    assert code == 0
    assert seen["given"] == (["dcl", "rankme"],)
    assert f" {RESULT['name']}: " in out
    assert " other: " in out
    assert out.rstrip().endswith("written to results")


def test_a_claim_is_printed_with_arms_interval_margin_and_verdict():
    text = judged(RESULT)
    assert "dcl      0.625   (0.5, 0.75)" in text
    assert "main: it is better\n  0.375 [0.25, 0.5], must be above 0.01 points: held" in text
    assert text.endswith("verdict: held\nnote: one note")


def test_doctor_names_devices_extras_and_the_cache(run, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "packed.bin").write_bytes(b"0" * 1000)
    found = json.loads(run("doctor", "--json").out)
    assert found["devices"][0]["kind"] == "cpu"
    assert found["devices"][0]["bf16"] > 0
    assert (found["cache"]["bytes"], found["cache"]["files"]) == (1000, 1)
    assert set(found["extras"]) >= {"vision", "hf", "export", "maps", "knn", "loggers"}
    text = run("doctor").out
    assert found["devices"][0]["name"] in text
    for extra in found["extras"].values():
        assert not extra["missing"] or extra["add"] in text


def test_doctor_says_what_is_missing_and_how_to_add_it(monkeypatch):
    from autodidact.verbs import doctor

    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "timm" else "1.0")
    monkeypatch.setattr(doctor, "_compiler", lambda: None)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1e9}))
    found = doctor.doctor()
    assert found["extras"]["vision"]["missing"] == ["timm"]
    said = "\n".join(found["advice"])
    assert "timm is missing: pip install 'autodidact[vision]'" in said
    assert "no C++ compiler" in said
    assert "1.0 GB are free" in said


def test_a_report_and_a_demo_go_where_they_are_told(run, called, tmp_path):
    seen = called("report", "autodidact.verbs.report", tmp_path / "page.html")
    assert run("report", "runs/a", "--out", "page.html").out == f"written to {tmp_path / 'page.html'}\n"
    assert (seen["given"], seen["out"]) == (("runs/a",), "page.html")
    shown = called("demo", "autodidact.verbs.demo")
    assert run("demo", "--out", "here").code == 0
    assert shown["given"] == ("here",)


def test_pretraining_that_pauses_says_so_and_the_same_command_without_until_goes_on(tmp_path, capsys) -> None:
    from autodidact.cli.pretrain import run

    words = ["simclr", "--data", "digits", "--out", str(tmp_path / "run"), *TINY]
    run([*words, "--until", "0.5"])
    said = capsys.readouterr().out
    assert "paused" in said
    assert "the model is in" not in said
    assert not (tmp_path / "run" / "model").exists()
    run(words)
    assert "the model is in" in capsys.readouterr().out
    assert (tmp_path / "run" / "model").exists()
