"""Whatever is wrong is said in one line that names the nearest valid choice."""

from __future__ import annotations

import errno
import sys
from types import ModuleType

import pytest

WRONG = {
    "verb": (["pretran"], "unknown verb 'pretran'; did you mean 'pretrain'?"),
    "option before the verb": (["--data", "x"], "unknown option --data"),
    "no method": (["pretrain", "--data", "digits"], "which method?"),
    "no data": (["pretrain", "dcl"], "pretrain needs data"),
    "method": (["pretrain", "simcrl", "--data", "digits"], "unknown method 'simcrl'; did you mean 'simclr'?"),
    "not a method": (["pretrain", "rankme", "--data", "digits"], "'rankme' is of kind meter"),
    "own file": (["pretrain", "own.py:Mine", "--data", "digits"], "no such file: own.py"),
    "option": (["pretrain", "dcl", "--epoch", "3"], "unknown option --epoch; did you mean --epochs?"),
    "abbreviation": (["pretrain", "dcl", "--batch", "3"], "unknown option --batch; did you mean --batch-size?"),
    "method option": (
        ["pretrain", "dcl", "--method.temprature", "1"],
        "unknown option --method.temprature; did you mean --method.temperature?",
    ),
    "method option without its prefix": (
        ["pretrain", "dcl", "--temperature", "1"],
        "unknown option --temperature; did you mean --method.temperature?",
    ),
    "option of another method": (["pretrain", "dcl", "--method.lambd", "1"], "unknown option --method.lambd"),
    "whole number": (["pretrain", "dcl", "--epochs", "three"], "--epochs takes a whole number, got 'three'"),
    "number": (["pretrain", "dcl", "--method.sigma", "x"], "--method.sigma takes a number, got 'x'"),
    "no value": (["pretrain", "dcl", "--data", "digits", "--lr"], "--lr takes a number, got nothing"),
    "choice": (
        ["pretrain", "dcl", "--schedule", "cosin"],
        "--schedule takes cosine, linear, constant, repeated_cosine, wsd or infinite, got 'cosin'; did you mean",
    ),
    "method choice": (
        ["pretrain", "g_simclr", "--method.fill", "repat"],
        "--method.fill takes repeat or drop, got 'repat'; did you mean 'repeat'?",
    ),
    "list of numbers": (
        ["pretrain", "t_jepa", "--method.context_share", "0.1,x"],
        "--method.context_share takes numbers with commas between, got '0.1,x'",
    ),
    "entries": (["pretrain", "dcl", "--method.view_changes", "3"], "takes entries such as {name: value}, got '3'"),
    "not to turn off": (["pretrain", "dcl", "--no-lr"], "unknown option --no-lr; did you mean --lr?"),
    "stray word": (["pretrain", "dcl", "digits"], "autodidact pretrain has no place for: digits"),
    "range": (["pretrain", "dcl", "--data", "digits", "--warmup", "2"], "warmup is a share of the updates in [0, 1)"),
    "config": (["pretrain", "--config", "none.yaml"], "no such configuration file: none.yaml"),
    "data": (
        ["pretrain", "dcl", "--data", "digist", "--no-report"],
        "there is no data 'digist', did you mean 'digits'?",
    ),
    "data for another method": (["pretrain", "dcl", "--data", "wine"], "method 'dcl' needs a field 'image'"),
    "encoder": (
        ["pretrain", "dcl", "--data", "digits", "--encoder", "small:convnt"],
        "unknown encoder 'small:convnt'; did you mean 'small:convnet'?",
    ),
    "encoder slot": (
        ["pretrain", "dcl", "--data", "digits", "--encoder", "encodr=small:convnet"],
        "unknown encoder slot 'encodr'; did you mean 'encoder'?",
    ),
    "batch": (["pretrain", "dcl", "--data", "digits", "--batch-size", "5000"], "1797"),
    "type of an encoder's argument": (
        ["pretrain", "dcl", "--data", "digits", "--encoder.width", "wide"],
        "small:convnet cannot be made with {'width': 'wide'}",
    ),
    "weights": (
        ["pretrain", "dcl", "--data", "digits", "--pretrained", __file__],
        "holds no weights that can be read",
    ),
    "view": (["pretrain", "dcl", "--data", "digits", "--method.view", "gery"], "'grey'"),
    "field of a view": (
        ["pretrain", "dcl", "--data", "digits", "--method.view_changes.blurp", "1"],
        "views have no field 'blurp'; nearest: 'blur_p'",
    ),
    "type of a view's field": (
        ["pretrain", "dcl", "--data", "digits", "--method.view_changes.blur_p", "much"],
        "a view cannot be made with {'blur_p': 'much'}",
    ),
    "devices": (["pretrain", "dcl", "--data", "digits", "--devices=-1"], "devices must not be negative, got -1"),
    "image size": (["pretrain", "dcl", "--data", "digits", "--image-size", "0"], "image_size is a number of pixels"),
    "methods": (["methods", "dlc"], "unknown method 'dlc'; did you mean 'dcl'?"),
    "methods option": (["methods", "--jsn"], "unrecognized arguments: --jsn"),
    "run": (["evaluate", "runs/none", "--data", "digits"], "no such run or model: runs/none"),
    "no run": (["evaluate", "--data", "digits"], "evaluate needs a run"),
    "label budget, before anything is read": (
        ["evaluate", "runs/none", "--data", "digits", "--labels", "2-per-class,5-per-class"],
        "labels '2-per-class,5-per-class' are not understood; accepted are 1%, 100%, 2-per-class",
    ),
    "tuning": (["evaluate", "r", "--tuning.lrr", "1"], "unknown option --tuning.lrr; did you mean --tuning.lr?"),
    "format": (["export", "r", "--format", "tim", "--out", "x"], "got 'tim'; did you mean 'timm'?"),
    "no format": (["export", "r", "--out", "x"], "export needs a run, a format and a folder"),
    "ability": (["apply", "r", "--ability", "enbed"], "got 'enbed'; did you mean 'embed'?"),
    "no file": (["embed", "r", "--data", "digits"], "embed needs a run, data and a file"),
    "claim": (["claim", "dlc"], "unknown claim 'dlc'; did you mean 'dcl'?"),
    "no claim": (["claim"], "which claim?"),
    "scale": (["claim", "dcl", "--scale", "labtop"], "did you mean 'laptop'?"),
    "arms": (
        ["compare", "--data", "digits", "--methods", "dcl,smclr"],
        "unknown method 'smclr'; did you mean 'simclr'?",
    ),
    "grid": (
        ["compare", "--data", "digits", "--methods", "dcl", "--grid", "method.sigm=1"],
        "unknown entry of the grid 'method.sigm'; did you mean 'method.sigma'?",
    ),
    "grid value": (
        ["compare", "--data", "digits", "--methods", "dcl", "--grid", "lr=1e-3,fast"],
        "--grid lr takes a number, got 'fast'",
    ),
    "grid form": (["compare", "--grid", "lr"], "--grid takes NAME=VALUE,VALUE"),
    "budget": (
        ["compare", "--data", "digits", "--methods", "dcl", "--grid", "epochs=1,2"],
        "every arm of a comparison has the same budget",
    ),
    "search": (
        ["choose", "--data", "digits", "--methods", "dcl", "--search", "method.sigm=0:1"],
        "unknown option to search 'method.sigm'; did you mean 'method.sigma'?",
    ),
    "search form": (["choose", "--data", "digits", "--search", "lr"], "--search takes NAME="),
    "search range": (
        ["choose", "--data", "digits", "--methods", "dcl", "--search", "lr=1:0.1"],
        "a range goes from a smaller to a larger number, got 1:0.1",
    ),
    "figure to choose by": (["choose", "--data", "digits", "--by", "rank-me"], "did you mean 'rankme'?"),
    "nothing to choose for": (["choose"], "choose needs data"),
    "share of a recipe": (
        ["pretrain", "g_simclr", "--data", "digits", "--until", "0.5"],
        "g_simclr is several trainings in a row",
    ),
    "protocol": (
        ["compare", "--data", "digits", "--methods", "dcl", "--protocol", "linaer"],
        "unknown protocol 'linaer'; did you mean 'linear'?",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_is_one_line_and_exit_code_2(run, case):
    words, expected = WRONG[case]
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line]
    assert line.startswith("autodidact: error: ")
    assert expected in line


def test_an_unknown_entry_of_a_configuration_file_is_named_with_the_nearest(run, tmp_path):
    (tmp_path / "run.yaml").write_text("method: dcl\nsettings:\n  epoch: 3\n")
    code, _, err = run("pretrain", "--config", "run.yaml")
    assert code == 2
    assert "unknown entry 'settings.epoch' in the configuration; did you mean 'settings.epochs'?" in err


def test_a_configuration_file_that_is_not_yaml_is_one_line(run, tmp_path):
    (tmp_path / "run.yaml").write_text("a: [1\nb: }")
    code, _, err = run("pretrain", "--config", "run.yaml")
    assert code == 2
    assert "run.yaml is not YAML" in err
    assert err.count("\n") == 1


def test_a_folder_without_images_is_one_line(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run("pretrain", "dcl", "--data", "empty", "--no-report")
    assert code == 2
    assert err.count("\n") == 1
    assert "empty" in err


@pytest.fixture
def failing(monkeypatch):
    """Makes ``autodidact doctor`` raise."""

    def fail(error: BaseException | None) -> None:
        module = ModuleType("autodidact.cli.doctor")

        def run(argv: list[str]) -> None:
            assert error is not None
            raise error

        module.run = run
        monkeypatch.setitem(sys.modules, "autodidact.cli.doctor", module)

    return fail


def test_a_loss_that_is_not_finite_is_one_line_and_exit_code_1(run, failing):
    from autodidact.training import NonFinite

    failing(NonFinite("the loss became NaN at update 3 (term contrast)"))
    assert run("doctor") == (1, "", "autodidact: error: the loss became NaN at update 3 (term contrast)\n")


def test_a_training_that_diverges_is_one_line_and_exit_code_1(run):
    code, _, err = run(
        *(
            "pretrain",
            "dcl",
            "--data",
            "digits",
            "--lr",
            "1e30",
            "--steps",
            20,
            "--batch-size",
            16,
            "--optimizer",
            "sgd",
        ),
        *("--encoder.width", 8, "--no-report", "--quiet", "--accelerator", "cpu"),
    )
    assert code == 1
    assert err.count("\n") == 1
    assert "NaN or infinite" in err
    assert "lower the learning rate" in err


def test_a_device_without_memory_is_one_line_with_what_helps(run, failing):
    import torch

    failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    code, _, err = run("doctor")
    assert code == 1
    assert "--accumulate" in err


@pytest.mark.parametrize("how", ["directly", "through Lightning"])
def test_an_interruption_says_how_to_go_on_and_is_exit_code_130(run, failing, how):
    left = SystemExit(1)
    left.__context__ = KeyboardInterrupt()
    failing(KeyboardInterrupt() if how == "directly" else left)
    code, _, err = run("doctor")
    assert code == 130
    assert err == "autodidact: interrupted; the same command goes on from the last checkpoint\n"


def test_an_error_of_the_system_is_one_line_with_the_path(run, failing):
    failing(PermissionError(13, "Permission denied", "/data/x"))
    assert run("doctor").err == "autodidact: error: permission denied: /data/x\n"


@pytest.mark.parametrize("path", ["/data/x", None])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_wrong_input_and_says_how_to_go_on(run, failing, number, path):
    failing(OSError(number, "No space left on device", *([path] if path else [])))
    code, _, err = run("doctor")
    assert code == 1
    assert err.startswith(f"autodidact: error: no space left on device{f': {path}' if path else ''}; ")
    assert err.endswith("the same command goes on\n")


def test_a_message_of_several_lines_becomes_one(run, failing):
    failing(ValueError("first\n  second"))
    assert run("doctor").err == "autodidact: error: first second\n"


def test_a_missing_package_is_one_line(run, failing):
    failing(ModuleNotFoundError("No module named 'umap'", name="umap"))
    code, _, err = run("doctor")
    assert code == 2
    assert err.startswith("autodidact: error: umap is not installed")


def test_a_warning_of_ours_is_one_line_and_one_of_a_dependency_is_not_shown(run, failing, monkeypatch):
    import warnings

    failing(None)

    def warn(argv: list[str]) -> None:
        warnings.warn("few\n  rows", stacklevel=1)
        warnings.warn_explicit("num_workers", UserWarning, "fit.py", 1, module="lightning.pytorch.trainer")
        warnings.warn("old", FutureWarning, stacklevel=1)

    monkeypatch.setattr(sys.modules["autodidact.cli.doctor"], "run", warn)
    before = warnings.showwarning
    assert run("doctor") == (0, "", "autodidact: warning: few rows\n")
    assert warnings.showwarning is before


def test_an_error_that_nobody_foresaw_keeps_its_traceback(run, failing):
    failing(KeyError("x"))
    with pytest.raises(KeyError):
        run("doctor")


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debugging_shows_where_an_error_comes_from(run, failing, monkeypatch, how):
    failing(ValueError("wrong"))
    if how == "variable":
        monkeypatch.setenv("AUTODIDACT_DEBUG", "1")
    code, _, err = run("doctor", *(["--debug"] if how == "option" else []))
    assert code == 2
    assert "Traceback" in err
    assert err.endswith("autodidact: error: wrong\n")


def test_only_the_first_of_the_processes_that_train_together_prints(run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run("methods").out == ""


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    import subprocess

    command = f"{sys.executable} -m autodidact methods --json | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")
