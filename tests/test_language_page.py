"""The search of docs/language.md runs as it is printed, only shorter."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from autodidact.cli.main import main
from autodidact.lm.tiny import tiny_lm

PAGE = Path(__file__).parents[1] / "docs" / "language.md"


def test_the_search_for_an_architecture_names_one(tmp_path, monkeypatch):
    section = PAGE.read_text(encoding="utf-8").split("### A search for an architecture")[1].split("\n## ")[0]
    for name, text in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section, re.DOTALL):
        (tmp_path / name).write_text(text.replace("steps=30", "steps=2"))
    monkeypatch.chdir(tmp_path)
    (shown,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    made, asked, _ = shown.replace("\\\n", " ").strip().splitlines()
    exec(shlex.split(made)[2], {"tiny_lm": tiny_lm})
    words = shlex.split(asked)
    words[words.index("--steps") + 1] = "2"
    words[words.index("--method.group") + 1] = "6"
    assert main([*words[1:], "--quiet"]) == 0
    (row,) = [json.loads(line) for line in Path("runs/search/examples.jsonl").read_text().splitlines()]
    assert set(row["completion"]) <= set("abcd>")
    rewards = [
        line.split(",")[2]
        for line in Path("runs/search/log/metrics.csv").read_text().splitlines()
        if "loss/reward" in line
    ]
    assert any(float(value) > 0 for value in rewards)
