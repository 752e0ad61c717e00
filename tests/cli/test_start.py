"""The command line answers at once, and explains everything."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys

import pytest

from autodidact.catalog import cards
from autodidact.cli.main import VERBS

QUICK = {("--help",): 0.3, ("methods",): 0.3, ("methods", "dcl"): 0.3, ("methods", "--json"): 0.6}
"""Command -> seconds of processor time it may take. All cards with all options are for programs to read; the file of
every method is parsed for them, which some processors need twice as long for as others."""


def child(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    code = "import sys; from autodidact.cli.main import main; c = main(); print('torch' in sys.modules); sys.exit(c)"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=check)


def seconds(*words: str) -> float:
    """Processor time of one start, the least of five: what a machine with nothing else to do takes."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "autodidact", *words], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


@pytest.mark.parametrize("words", QUICK)
def test_help_and_methods_answer_at_once(words):
    assert seconds(*words) < QUICK[words]


@pytest.mark.parametrize("words", [("--help",), ("methods",), ("pretrain", "dcl", "--help"), ("evaluate", "--help")])
def test_no_help_imports_torch(words):
    assert child(*words).stdout.splitlines()[-1] == "False"


def test_the_package_is_a_program():
    said = subprocess.run([sys.executable, "-m", "autodidact", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"autodidact \d+\.\d+\.\d+\n", said.stdout)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_overview_lists_every_verb(run, words):
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_all_of_its_options(run, verb):
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert out.startswith(f"usage: autodidact {verb}")
    # An option without a text would be directly followed by the next option.
    assert not re.search(r"^  --\S+( \S+)?\n  --", out, re.MULTILINE)
    assert "`" not in out


def test_options_of_pretraining_come_with_their_default(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = run("pretrain", "--help").out
    assert re.search(r"--batch-size N +samples in an update.*\(default: 256\)", out)
    assert re.search(r"--seed N .*\(default: 0\)", out)
    assert re.search(r"--lr X +peak learning rate.*\(default: 0\.001\)", out)
    assert re.search(r"--steps N +updates, instead of epochs", out)
    assert re.search(r"--epochs N +passes over the data; default 100, unless --steps or --tokens is given", out)
    assert re.search(r"--\[no-\]cache +pack images", out)


@pytest.mark.parametrize("name", [n for n, c in cards().items() if c.kind in ("method", "recipe")])
def test_the_help_of_a_method_shows_its_options_with_type_and_default(run, name):
    out = run(cards()[name].verb, name, "--help").out
    listed = run("methods", name, "--json").out
    for option, known in json.loads(listed)["options"].items():
        assert re.search(rf"--(\[no-\])?method\.{option}\b", out)
        assert known["doc"]


def test_methods_lists_number_name_kind_needs_and_summary(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    lines = run("methods").out.splitlines()
    row = next(line for line in lines if re.match(r"28 +t_jepa ", line))
    assert re.split(r"  +", row) == ["28", "t_jepa", "method", "numeric, categorical", cards()["t_jepa"].summary]


def test_methods_in_json_has_every_card(run):
    found = json.loads(run("methods", "--json").out)
    assert [each["name"] for each in found] == list(cards())
    assert next(each for each in found if each["name"] == "dcl")["options"]["temperature"]["default"] == 0.1


def test_a_narrow_terminal_gets_lines_that_fit(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    out = run("methods").out
    assert max(len(line) for line in out.splitlines()[:-2]) <= 60
    assert "in small batches" in " ".join(out.split())


def test_one_method_is_described_with_its_options(run):
    out = run("methods", "dcl").out
    assert "autodidact claim dcl" in out
    assert "* temperature: float = 0.1" in out
    assert "  hidden: int = 0" in out
