"""Commands import Lightning without its metrics, and a user's own code finds these all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = ("scipy.signal", "torchvision", "transformers")


def said(code: str, *words: str) -> list[str]:
    """What a program of its own prints, line by line."""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_lightning_starts_without_what_only_its_metrics_need_and_own_code_finds_the_metrics_whole(
    tmp_path: Path,
) -> None:
    pytest.importorskip("transformers")
    own = tmp_path / "own.py"
    own.write_text(
        "from torchmetrics import Metric\n"
        "from torchmetrics.functional.text.bert import AutoModel\n"
        "from torchmetrics.image.arniqa import ARNIQA\n"
    )
    code = f"""
import sys
from autodidact.lean import leave_out_metrics
leave_out_metrics()
import lightning
print([name for name in {SLOW} if name in sys.modules])
from lightning_utilities.core.imports import RequirementCache, package_available
print(bool(RequirementCache("transformers")), package_available("scipy"))
from autodidact.catalog.from_file import from_file
print(from_file(sys.argv[1] + ":ARNIQA", "metric", lambda found: isinstance(found, type)).__module__)
print([name for name in {SLOW} if name in sys.modules])
"""
    lean, known, found, whole = said(code, str(own))
    assert (lean, known) == ("[]", "True True")
    assert found == "torchmetrics.image.arniqa"
    assert whole == str(list(SLOW))


def test_the_library_leaves_torchmetrics_as_it_is() -> None:
    code = f"import sys, autodidact.training.run; print([name for name in {SLOW} if name in sys.modules])"
    assert said(code) == [str(list(SLOW))]


@pytest.mark.parametrize(
    ("words", "lean"), [("doctor", True), ("embed --help", False), ("methods dcl", False), ("--version", False)]
)
def test_only_verbs_that_do_something_ask_for_it(words: str, lean: bool) -> None:
    code = "import sys; from autodidact.cli.main import main; main(sys.argv[1:]); from autodidact import lean; "
    assert said(code + "print(lean._lean)", *words.split())[-1] == str(lean)
