"""The demo: its split, its honesty about labels, its table, its sentence, and what it leaves behind.

The settings are cut down here; what the full demo reaches is measured by running it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autodidact.data import Source
from autodidact.evaluation.finetune import Tuning
from autodidact.evaluation.table import Table
from autodidact.training import Settings
from autodidact.verbs import demo as module
from autodidact.verbs.demo import demo, printed, sides, verdict

DRAWS = range(2)


def filled(**figures: dict[str, float]) -> Table:
    """A table of five draws around the given means, all with the same small spread."""
    table = Table()
    for arm, protocols in figures.items():
        for name, mean in protocols.items():
            for draw in range(5):
                table.add(arm, name, draw, mean + 0.001 * (draw - 2) * (1 if arm == "pretrained" else 2))
    return table


def test_the_test_digits_are_450_always_the_same_and_of_every_digit_its_share() -> None:
    (train, test), (_, again) = sides(), sides()
    assert len(train) == 1_347
    assert len(test) == 450
    assert np.array_equal(test.ids, again.ids)
    assert not set(train.ids.tolist()) & set(test.ids.tolist())
    whole = np.bincount(np.concatenate([train.column("label"), test.column("label")]))
    assert np.abs(np.bincount(test.column("label")) - whole * 450 / 1_797).max() < 1


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Source]]:
    """A demo cut down to a few updates, and the sources that pretraining was given."""
    given: list[Source] = []
    real = module.pretrain

    def watched(method: str, data: Source, **arguments: object) -> object:
        given.append(data)
        return real(method, data, **arguments)  # type: ignore[arg-type]

    tuning = Tuning(lr=1e-3, steps=2, distill_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SETTINGS", Settings(steps=4, batch_size=64, monitor_steps=2))
        patch.setattr(module, "TUNINGS", {"pretrained": tuning, "scratch": tuning})
        patch.setattr(module, "DRAWS", DRAWS)
        patch.setattr(module, "pretrain", watched)
        out = tmp_path_factory.mktemp("demo") / "run"
        demo(out)
    return out, given


def test_pretraining_is_given_the_training_digits_and_no_label(quick: tuple[Path, list[Source]]) -> None:
    (source,) = quick[1]
    assert set(source.schema) == {"image"}
    assert set(source.read(np.arange(3))) == {"image"}
    assert set(source.ids.tolist()) == set(sides()[0].ids.tolist())


def test_summary_holds_the_accuracies_by_arm_protocol_and_draw(quick: tuple[Path, list[Source]]) -> None:
    summary = json.loads((quick[0] / "summary.json").read_text())
    assert {arm: list(protocols) for arm, protocols in summary.items()} == {
        "raw": ["linear", "propagate"],
        "random": ["linear", "propagate"],
        "pretrained": ["linear", "propagate", "finetune", "finetune+distill"],
        "scratch": ["finetune", "finetune+distill"],
    }
    figures = [value for protocols in summary.values() for values in protocols.values() for value in values]
    assert len(figures) == 10 * len(DRAWS)
    # Every figure is a share of 450.
    assert all(0 < value < 1 and round(value * 450, 6).is_integer() for value in figures)


def test_the_report_shows_the_table_and_the_sentence(quick: tuple[Path, list[Source]]) -> None:
    page = (quick[0] / "report.html").read_text()
    table = Table.load(quick[0] / "evaluations" / "demo.json")
    assert "From 2 labels of each digit" in page
    assert str(table.about["sentence"]).split(",")[0] in page
    assert "fine-tuning, then distillation" in page


def test_a_finished_demo_is_shown_again_without_training_anything(
    quick: tuple[Path, list[Source]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SETTINGS", Settings(steps=4, batch_size=64, monitor_steps=2))
    monkeypatch.setattr(module, "DRAWS", DRAWS)
    monkeypatch.setattr("autodidact.verbs.pretrain.train", None)
    monkeypatch.setattr("autodidact.evaluation.finetune.train", None)
    monkeypatch.setattr(module, "write_report", lambda run, source: run / "report.html")
    before = (quick[0] / "summary.json").read_bytes()
    demo(quick[0])
    said = capsys.readouterr().out
    assert (quick[0] / "summary.json").read_bytes() == before
    for expected in ("label propagation", "summary.json", "report.html", "autodidact pretrain simclr --data PHOTOS"):
        assert expected in said


WON = filled(
    raw={"linear": 0.77, "propagate": 0.92},
    random={"linear": 0.6, "propagate": 0.8},
    pretrained={"linear": 0.88, "propagate": 0.95, "finetune": 0.87, "finetune+distill": 0.93},
    scratch={"finetune": 0.88, "finetune+distill": 0.90},
)


def test_the_printed_table_has_a_dash_where_a_cell_makes_no_sense() -> None:
    lines = printed(WON).splitlines()
    assert [line.count("—") for line in lines] == [0, 2, 2, 0, 2]
    assert len({len(line) for line in lines}) == 1
    assert lines[3].startswith("pretrained encoder")
    assert "0.950 ± 0.002" in lines[3]


def test_the_sentence_says_what_was_won_and_where_nothing_was() -> None:
    said = verdict(WON)
    assert "label propagation reads 95.0% of the test digits" in said
    assert "5.0 points more than training from scratch with distillation (95 % interval" in said
    assert "3.0 points more than label propagation on raw pixels" in said
    # Distillation is a point better than the best without pretraining, the other two are worse.
    assert said.endswith("; its linear probe and fine-tuning did not clearly beat label propagation on raw pixels.")


def test_the_sentence_admits_a_loss_and_a_draw() -> None:
    lost = filled(
        raw={"linear": 0.77, "propagate": 0.95},
        random={"linear": 0.6, "propagate": 0.8},
        pretrained={"linear": 0.88, "propagate": 0.95, "finetune": 0.87, "finetune+distill": 0.9},
        scratch={"finetune": 0.97, "finetune+distill": 0.96},
    )
    said = verdict(lost)
    assert "2.0 points less than training from scratch (95 % interval" in said
    assert "not clearly more than label propagation on raw pixels" in said
    assert said.endswith("; its linear probe, fine-tuning and distillation did not clearly beat training from scratch.")


def test_the_sentence_is_glad_where_everything_paid() -> None:
    all_won = filled(
        raw={"linear": 0.77, "propagate": 0.92},
        random={"linear": 0.6, "propagate": 0.8},
        pretrained={"linear": 0.93, "propagate": 0.95, "finetune": 0.94, "finetune+distill": 0.96},
        scratch={"finetune": 0.8, "finetune+distill": 0.85},
    )
    end = "; its linear probe, fine-tuning and distillation beat label propagation on raw pixels, too."
    assert verdict(all_won).endswith(end)
