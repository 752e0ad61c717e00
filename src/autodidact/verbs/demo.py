"""demo: real handwritten digits, learned without labels, then read from two labels each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch

from autodidact.compare.workers import run_cells
from autodidact.data import Source, open_source
from autodidact.data.cores import cores
from autodidact.evaluation.arms import Arm, Bench, baselines, pretrained
from autodidact.evaluation.finetune import Tuning
from autodidact.evaluation.hidden import Hidden
from autodidact.evaluation.measure import Measurement
from autodidact.evaluation.protocols import PROTOCOLS
from autodidact.evaluation.table import Table
from autodidact.measures import Interval, nearest
from autodidact.model import Model
from autodidact.model.model import write_aside
from autodidact.report import write_report
from autodidact.training import Settings
from autodidact.verbs.opened import open_run
from autodidact.verbs.pretrain import pretrain, versions

TEST = 450
LABELS = "2-per-class"
DRAWS = range(5)
NEAR = 50

ARMS = {
    "raw": "raw pixels",
    "random": "random encoder",
    "pretrained": "pretrained encoder",
    "scratch": "trained from scratch",
}
"""Rows of the table: the name of an arm, and what a person reads."""
COLUMNS = {
    "linear": "linear probe",
    "propagate": "label propagation",
    "finetune": "fine-tuning",
    "finetune+distill": "then distillation",
}
"""Columns of the table: the name of a protocol, and what a person reads."""
USES = {**COLUMNS, "finetune+distill": "distillation"}
"""The same in a sentence."""

ENCODER = "small:convnet?width=16"
TURNED = {"rotate": 25.0, "zoom": [0.8, 1.25], "shear": 10.0}
VIEW = {**TURNED, "erase_p": 0.0}
METHOD = {"temperature": 0.5, "view_changes": VIEW}
SETTINGS = Settings(epochs=160, batch_size=256, lr=3e-3, devices=1)
TUNINGS = {
    "pretrained": Tuning(lr=3e-4, view_changes=VIEW),
    "scratch": Tuning(lr=3e-3, steps=400, label_smoothing=0.1, view_changes=TURNED, distill_lr=3e-3),
}
CHOSEN = "propagate"
"""The protocol by which the pretrained encoder is judged.

This and all settings above were chosen among the training digits alone: 337 of the 1,347 were held out, and scored over
draws 100 to 129 of the labels (training from scratch: 100 to 107) with other seeds of pretraining. Neither a test digit
nor a reported draw had a say. Training from scratch got more trials than pretraining: view, erasing, learning rate,
length, batch size, weight decay, label smoothing, and the student's batch size and learning rate.
"""


def demo(out: str | Path = "runs/demo") -> Table:
    """Learn from 1,347 digits without labels, then measure what 2 labels of each digit are worth.

    The data are the 1,797 handwritten digits (8 x 8 pixels) bundled with scikit-learn; 450 of them are put aside for
    the test, the same ones always, with the same share of every digit. Prints what happens, and one table.

    Parameters
    ----------
    out : run folder. It gets the model, ``summary.json`` (arm -> protocol -> accuracies by draw), and ``report.html``.
        A demo that was cut off goes on from there; a finished one is shown again.

    Returns
    -------
    Table
        Accuracies on the test digits by arm, protocol and draw of the labels.
    """
    out = Path(out)
    train, test = sides()
    _say(
        f"Learning to read handwritten digits without being told what they are.\n\n"
        f"1. Looking at {len(train):,} real digits of 8 x 8 pixels, no labels; {len(test)} others are the test.\n"
        "   Two distorted views of a digit should look alike to the model, different digits should not (SimCLR).\n"
    )
    model = pretrain(
        "simclr",
        # No label can find its way into the training, because there is none.
        Hidden(train),
        out=out,
        encoder=ENCODER,
        method_arguments=METHOD,
        settings=SETTINGS,
        report=False,
    )
    _say(f"\n   {alike(train, _arms(model, Bench(train, test)))}\n")

    _say(f"2. Now 2 labels of each digit, 20 in all, used in {len(COLUMNS)} ways; {len(DRAWS)} draws of the labels.")
    path = out / "evaluations" / "demo.json"
    table = measured(path, out)
    sentence = verdict(table)
    table.about |= {"title": "From 2 labels of each digit", "sentence": sentence}
    table.save(path)
    summary = {arm: {name: table.values(arm, name) for name in _filled(table, arm)} for arm in ARMS}
    write_aside(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    page = write_report(out, source=train)
    _say(
        f"\n{printed(table)}\n\n"
        f"Share of the {len(test)} test digits read right: mean of {len(DRAWS)} draws ± half of its 95 % interval.\n"
        f"Distillation: the fine-tuned network teaches a fresh copy on all {len(train):,} digits.\n\n"
        f"{fill(sentence, 110)}\n\n"
        f"{page}\n   Open it: what the model was shown, how it learned, what it finds alike, a map of all digits.\n"
        f"{out / 'summary.json'}\n   Every figure of the table.\n\n"
        "Next, a folder with your own images, no labels needed:\n"
        "   autodidact pretrain simclr --data PHOTOS --out runs/photos\n"
        "then search or sort them by what the model has learned, or measure it where some images have labels:\n"
        "   autodidact embed runs/photos --data PHOTOS --out photos.parquet\n"
        "   autodidact evaluate runs/photos --data LABELLED --protocol linear,propagate"
    )
    return table


def sides() -> tuple[Source, Source]:
    """The training digits and the 450 test digits: always the same ones, every digit in its share."""
    from sklearn.model_selection import train_test_split

    digits = open_source("digits")
    rows = np.arange(len(digits))
    kept, held = train_test_split(rows, test_size=TEST, stratify=digits.column("label"), random_state=0)
    return digits.at(np.sort(kept)), digits.at(np.sort(held))


def alike(train: Source, arms: Mapping[str, Arm]) -> str:
    """What the embedding finds alike, in words; the labels are looked at after training, and for this only."""
    labels = np.asarray(train.column("label"))
    rows = np.arange(len(train))

    def share(name: str) -> float:
        frozen = arms[name].frozen
        assert frozen is not None
        vectors = torch.from_numpy(frozen(0).train.at(rows))
        near = nearest(vectors, vectors, NEAR + 1)[1][:, 1:].numpy()
        return float((labels[near] == labels[:, None]).mean())

    own, pixels, before = (f"{share(name):.0%}" for name in ("pretrained", "raw", "random"))
    return (
        f"Of the {NEAR} digits that it finds most alike to a digit, {own} are the same digit. By their pixels it is\n"
        f"   {pixels}, before training {before}; and nobody told it what a digit is."
    )


def measured(path: Path, run: Path) -> Table:
    """The table of all arms, protocols and draws, measured in as many processes as there are cores, 4 at most.

    Figures that `path` holds already are not measured again.
    """
    table = Table.load(path) if path.exists() else Table({"labels": LABELS, "test": TEST, "versions": versions()})
    tunings = {name: asdict(TUNINGS.get(name, Tuning())) for name in ARMS}
    missing: list[dict[str, Any]] = [
        {"run": str(run), "arm": arm, "seed": draw, "tuning": tunings[arm]}
        for draw in DRAWS
        for arm in ARMS
        if not any(table.has(arm, name, draw) for name in COLUMNS)
    ]
    finished: dict[tuple[str, int], Mapping[str, Any]] = {}
    left = [(cell["arm"], cell["seed"]) for cell in missing]

    def done(cell: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        finished[cell["arm"], cell["seed"]] = found
        # Written in the order of the cells, whichever is done first, so that the table is always the same.
        while left and left[0] in finished:
            arm, draw = left.pop(0)
            for name, value in finished[arm, draw]["figures"].items():
                table.add(arm, name, draw, value)
            table.about.setdefault("learning_rates", {}).update(finished[arm, draw]["learning_rates"])
            table.save(path)
            if draw not in [other for _, other in left]:
                _say(f"   draw {draw + 1} of {len(DRAWS)} measured")

    run_cells("autodidact.verbs.demo:measure_cell", missing, min(4, cores()), done)
    return table


def measure_cell(run: str, arm: str, seed: int, tuning: dict[str, Any]) -> dict[str, Any]:
    """Accuracies of one arm with one draw of the labels, by protocol, and the learning rates used."""
    bench, arms = _bench(run)
    protocols = [PROTOCOLS[column] for column in COLUMNS]
    table = Measurement(bench, "label", LABELS, Tuning(**tuning)).run({arm: arms[arm]}, protocols, [seed], Table())
    figures = {name: table.values(arm, name)[0] for name in table.metrics}
    return {"figures": figures, "learning_rates": table.about.get("learning_rates", {})}


@cache
def _bench(run: str) -> tuple[Bench, dict[str, Arm]]:
    bench = Bench(*sides())
    return bench, _arms(open_run(run)[0], bench)


def _arms(model: Model, bench: Bench) -> dict[str, Arm]:
    return {**baselines(("raw", "random", "scratch"), model, bench), "pretrained": pretrained(model, bench)}


def printed(table: Table) -> str:
    """The table for the terminal; a cell that makes no sense is a dash."""
    grid = [
        ["", *COLUMNS.values()],
        *([said, *(_cell(table, arm, name) for name in COLUMNS)] for arm, said in ARMS.items()),
    ]
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    lines = ([cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)] for row in grid)
    return "\n".join("  ".join((row[0].ljust(widths[0]), *line)) for row, line in zip(grid, lines, strict=True))


def _cell(table: Table, arm: str, name: str) -> str:
    if name not in _filled(table, arm):
        return "—"
    mean, _, high = table.mean_interval(arm, name)
    return f"{mean:.3f} ± {high - mean:.3f}"


def _filled(table: Table, arm: str) -> list[str]:
    """Protocols by which an arm was measured."""
    return [name for name in COLUMNS if table.values(arm, name)]


def verdict(table: Table) -> str:
    """What pretraining bought and where it did not, in one sentence, from the figures.

    A gain counts when its paired 95 % interval over the draws of the labels lies above 0. The rivals are taken at
    whichever of their protocols came out best here, which favours them.
    """
    scratch = "scratch", _best(table, "scratch")
    gains = [
        _gain(table.difference("pretrained", "scratch", CHOSEN, scratch[1]), _named(*scratch)),
        _gain(table.difference("pretrained", "raw", CHOSEN), _named("raw", CHOSEN)),
    ]
    others = {arm: _best(table, arm) for arm in ARMS if arm != "pretrained"}
    rival = max(others.items(), key=lambda cell: table.mean_interval(*cell).mean)
    rest = [name for name in _filled(table, "pretrained") if name != CHOSEN]
    unsure = [name for name in rest if table.difference("pretrained", rival[0], name, rival[1]).low <= 0]
    verb, named = ("did not clearly beat", unsure) if unsure else ("beat", rest)
    where = f"its {_listed(USES[name] for name in named)} {verb} {_named(*rival)}{'' if unsure else ', too'}"
    reads = f"{table.mean_interval('pretrained', CHOSEN).mean:.1%}"
    return f"With pretraining, {COLUMNS[CHOSEN]} reads {reads} of the test digits, {' and '.join(gains)}; {where}."


def _best(table: Table, arm: str) -> str:
    """The protocol by which an arm came out best."""
    return max(_filled(table, arm), key=lambda name: table.mean_interval(arm, name).mean)


def _named(arm: str, name: str) -> str:
    """A cell of the table in words."""
    if arm == "scratch":
        return "training from scratch" if name == "finetune" else "training from scratch with distillation"
    return f"{USES[name]} on {'raw pixels' if arm == 'raw' else 'a random encoder'}"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _gain(of: Interval, than: str) -> str:
    """A difference in words, with its interval in points."""
    span = f"95 % interval {100 * of.low:+.1f} to {100 * of.high:+.1f}"
    if of.low > 0:
        return f"{100 * of.mean:.1f} points more than {than} ({span})"
    if of.high < 0:
        return f"{-100 * of.mean:.1f} points less than {than} ({span})"
    return f"not clearly more than {than} ({span})"


def _say(text: str) -> None:
    print(text, flush=True)
