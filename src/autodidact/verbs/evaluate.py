"""evaluate: what a model is worth with few labels, against baselines, over several draws of the labels."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import autodidact
from autodidact.catalog import unknown
from autodidact.data import Source, fingerprint, label_budget, split
from autodidact.data.grouping import groups_of
from autodidact.data.labels import Task
from autodidact.data.schema import Schema
from autodidact.evaluation.arms import BASELINES, Arm, Bench, pretrained
from autodidact.evaluation.arms import baselines as make_baselines
from autodidact.evaluation.audit import Groups
from autodidact.evaluation.finetune import Tuning
from autodidact.evaluation.measure import Measurement
from autodidact.evaluation.protocols import Protocol, choose
from autodidact.evaluation.table import Table
from autodidact.methods.predicting import answer_field
from autodidact.model import Model
from autodidact.model.device import pick_device
from autodidact.verbs.opened import open_data, open_run, run_config
from autodidact.verbs.pretrain import versions

FOLDER = "evaluations"
TEST_SHARE = 0.2
SHIFT = " shift"
"""Behind the name of a figure on shifted rows."""


def evaluate(
    run: str | Path | Model,
    data: str | Path | Source,
    *,
    labels: str | float = "100%",
    protocols: str | Sequence[str] | None = None,
    seeds: int = 5,
    first_seed: int = 0,
    test: str | Path | Source | None = None,
    shift: str | Path | Source | None = None,
    baselines: str | Sequence[str] = BASELINES,
    label_from: str | None = None,
    task: Task = "auto",
    group: str | None = None,
    group_min: int = 30,
    harmful: str | Sequence[str] | None = None,
    tuning: Tuning | None = None,
    batch_size: int = 256,
    device: str = "auto",
    cache: bool = True,
    fresh: bool = False,
    json: str | Path | None = None,
    quiet: bool = False,
) -> Table:
    """Measure a model on labelled data, with a budget of labels, over several draws of which labels are known.

    No setting of any protocol is chosen on test labels, and labels of rows outside the budget are never read;
    `autodidact.evaluation.PROTOCOLS` says for each protocol how its settings come about.

    Parameters
    ----------
    run : run folder, model folder, or a model.
    data : labelled data, see `autodidact.data.open_source`; shards are read by position.
    labels : how many labels may be used: "1%" of every class, "2-per-class", "100%", or a share such as 0.01.
    protocols : names, as a sequence or separated by commas: "knn", "linear", "propagate", "finetune",
        "finetune+distill", and with several figures each "groups", "associations", "retrieval", "corruption", "copies",
        "fewshot", for classes; "regress", "finetune", "finetune+distill" for a number. Default "knn,linear" or
        "regress".
    seeds : number of draws of labels.
    first_seed : the first of their seeds.
    test : test data, coded like `data`. Without it a fifth of `data` is held out, decided by a hash of each sample and
        the same whenever it is asked for, with the same share of every class.
    shift : labelled data from elsewhere, coded like `data`: beside every figure stands the same on these rows, as
        "PROTOCOL shift". Training rows and draws are the same; networks are trained for it once more.
    baselines : names, as a sequence or separated by commas, "none" for none: "raw", the input itself; "random", the
        same network with random weights; "scratch", the same network trained on the same labels alone.
    label_from : where labels come from: a column of a table, a file for a folder of images; default as in pretraining,
        else the class folders.
    task : "classes" or "number", where the values leave a doubt.
    group : what groups the test rows are in, for "groups", "associations" and "retrieval": a field of kind label or
        group, a categorical column of a table, or FILE[:FILE_COLUMN][:COLUMN] for a CSV or Parquet file that names the
        samples.
    group_min : test rows that a group needs to count for the worst group and the gap; smaller ones are marked, and
        those without a test row named.
    harmful : classes that harm where they are wrong, for "associations": names, as a sequence or separated by commas.
    tuning : how networks are trained by "finetune", "finetune+distill" and the baseline "scratch".
    batch_size : samples in one call of the network.
    device : "auto", "cpu" or "gpu".
    cache : pack images into the cache first.
    fresh : measure everything again, instead of going on with the table of the same evaluation.
    json : file that gets the table, besides ``RUN/evaluations/``.
    quiet : print nothing.

    Returns
    -------
    Table
        Arms x protocols x draws. Accuracies; of a number "PROTOCOL r2" and "PROTOCOL rmse"; of a protocol with several
        figures "PROTOCOL FIGURE".

    Raises
    ------
    ValueError
        No labels or only one class, no such group or harmful class, an unknown or unfitting protocol or baseline, data
        that does not fit the model.
    """
    if seeds < 1:
        raise ValueError(f"at least one draw of labels is needed, got seeds={seeds}")
    # A mistyped budget is told before anything is read.
    label_budget(labels)
    if group_min < 1:
        raise ValueError(f"a group needs at least 1 row to be judged by, got group_min={group_min}")
    started = time.monotonic()
    model, folder = open_run(run)
    model.can("embed")
    where = pick_device(device)
    known = run_config(folder).get("labels") if label_from is None else label_from
    if label_from is None and known == "none":
        # Said of what was trained on; what is evaluated on has the labels that it has.
        known = None
    source = open_data(model, data, folder, labels=known, task=task, cache=cache, by_position=True, quiet=quiet)
    if source.streaming:
        raise ValueError(f"'{source.name}' is a stream; evaluation draws rows by position, so save it first")
    answer, classes = answer_field(source.schema)
    chosen = choose(
        names_of(protocols) or (["knn", "linear"] if classes else ["regress"]), "label" if classes else "target"
    )
    for protocol in chosen:
        source.schema.require(protocol.needs, f"protocol '{protocol.name}'")
        if protocol.by_group and group is None:
            raise ValueError(f"protocol '{protocol.name}' needs to know the groups: --group FIELD, or FILE:COLUMN")
    harms = _harmful(names_of(harmful), chosen, classes)
    train, held = _sides(model, folder, source, test, answer, known, task, cache, quiet)
    if shift is not None:
        # Opened here so that data that does not fit is told before anything is measured.
        _sides(model, folder, train, shift, answer, known, task, cache, quiet)

    tuning = replace(tuning or Tuning(), accelerator="gpu" if where == "cuda" else "cpu")
    bench = Bench(train, held, batch_size, where, quiet)
    arms = {**make_baselines(names_of(baselines), model, bench), "pretrained": pretrained(model, bench)}
    if "scratch" in arms:
        arms["scratch"] = arms.pop("scratch")
    groups = None if group is None else _groups(held, source, group, data, test, group_min)
    measurement = Measurement(bench, answer, labels, tuning, groups, harms)
    draws = list(range(first_seed, first_seed + seeds))
    facts = _facts(run, data, test, measurement, chosen, arms, draws)
    table, path = _table(folder, model, measurement, facts, fresh)

    def save(state: Table) -> None:
        for target in (path, Path(json) if json is not None else None):
            if target is not None:
                state.save(target)

    before = len(table)
    measurement.run(arms, chosen, draws, table, save=save, say=_silent if quiet else _say)
    if len(table) > before:
        table.about["seconds"] = round(table.about.get("seconds", 0.0) + time.monotonic() - started, 1)
    save(table)
    if shift is not None:
        shifted = evaluate(
            run,
            train,
            labels=labels,
            protocols=protocols,
            seeds=seeds,
            first_seed=first_seed,
            test=shift,
            baselines=baselines,
            label_from=label_from,
            task=task,
            group=group,
            group_min=group_min,
            harmful=harmful,
            tuning=tuning,
            batch_size=batch_size,
            device=device,
            cache=cache,
            fresh=fresh,
            quiet=quiet,
        )
        table = _side_by_side(table, shifted)
        if json is not None:
            table.save(Path(json))
    return table


_GROUP_FACTS = ("groups", "groups_too_small", "without_group")


def _side_by_side(table: Table, shifted: Table) -> Table:
    """Every figure, and behind it the one of the same arm, protocol and draw on shifted rows."""
    of_groups = {name + "_shift": shifted.about[name] for name in _GROUP_FACTS if name in shifted.about}
    both = Table({**table.about, "shift": shifted.about["test"], "shifted": shifted.about["tested"], **of_groups})
    there = {(arm, metric, seed): value for arm, metric, seed, value in shifted.rows()}
    for metric in dict.fromkeys((*table.metrics, *shifted.metrics)):
        for arm, name, seed, value in table.rows():
            if name == metric:
                both.add(arm, metric, seed, value)
        for (arm, name, seed), value in there.items():
            if name == metric:
                both.add(arm, metric + SHIFT, seed, value)
    return both


def _harmful(names: Sequence[str], protocols: Sequence[Protocol], classes: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the harmful classes; they are named where a protocol asks for them, and only there."""
    asking = [protocol.name for protocol in protocols if protocol.by_harm]
    if asking and not names:
        raise ValueError(f"protocol '{asking[0]}' needs to know which classes are harmful: --harmful NAME,NAME")
    if names and not asking:
        raise ValueError("harmful classes are for the protocol 'associations': name it, or leave them out")
    for name in names:
        if name not in classes:
            raise unknown("class", name, classes)
    return tuple(list(classes).index(name) for name in names)


def _groups(
    held: Source,
    source: Source,
    group: str,
    data: str | Path | Source,
    test: str | Path | Source | None,
    least: int,
) -> Groups:
    """Groups of the test rows; where these were held out of the data, also those of its groups that none is in."""
    where = data if test is None else test
    beside = None if isinstance(where, Source) else Path(where).expanduser()
    if beside is not None and not beside.is_dir():
        beside = beside.parent
    codes, names = groups_of(held, group, beside)
    known = groups_of(source, group, beside)[1] if test is None else ()
    return Groups(codes, (*names, *(name for name in known if name not in names)), least)


def names_of(given: str | Sequence[str] | None) -> list[str]:
    """Names from a sequence or from text with commas; none for nothing and for "none"."""
    if given is None:
        return []
    names = given.split(",") if isinstance(given, str) else list(given)
    return [name.strip() for name in names if name.strip() and name.strip() != "none"]


def _sides(
    model: Model,
    folder: Path | None,
    source: Source,
    test: str | Path | Source | None,
    answer: str,
    labels: str | None,
    task: Task,
    cache: bool,
    quiet: bool,
) -> tuple[Source, Source]:
    """Training rows, and test rows whose answers are known."""
    classes = source.schema[answer].kind == "label"
    if test is None:
        parts = split(source, {"train": 1 - TEST_SHARE, "test": TEST_SHARE}, by=answer if classes else None)
        train, held = parts["train"], parts["test"]
    else:
        like = Schema({answer: source.schema[answer]})
        train, held = (
            source,
            open_data(
                model, test, folder, labels=labels, task=task, like=like, cache=cache, by_position=True, quiet=quiet
            ),
        )
        if answer not in held.schema:
            raise ValueError(f"the test data '{held.name}' has no {answer}; it has {', '.join(held.schema)}")
        if shared := int(np.isin(held.ids, train.ids).sum()):
            raise ValueError(f"{shared} of the {len(held)} test samples are in the training data too")
    values = np.asarray(held.column(answer))
    scored = np.flatnonzero(values >= 0 if classes else np.isfinite(values))
    if len(scored) == 0:
        raise ValueError(f"none of the {len(held)} test samples of '{held.name}' has a known {answer}")
    return train, held if len(scored) == len(held) else held.at(scored)


def _facts(
    run: Any, data: Any, test: Any, of: Measurement, protocols: list[Protocol], arms: dict[str, Arm], seeds: list[int]
) -> dict[str, Any]:
    """What stands beside the figures."""
    field = of.bench.train.schema[of.answer]
    used = {p.name: p for arm in arms.values() for p in of.fitting(arm, protocols)}
    return {
        "model": "a model" if isinstance(run, Model) else str(run),
        "data": data.name if isinstance(data, Source) else str(data),
        "test": "a fifth of the data, held out by a hash of each sample"
        if test is None
        else str(getattr(test, "name", test)),
        "answers": list(field.classes) or of.answer,
        "labels": str(of.labels),
        "labelled": len(of.draw(seeds[0])),
        "train": len(of.bench.train),
        "tested": len(of.bench.test),
        "figures": "accuracy" if of.classes else "R2; root mean squared error in the target's unit",
        "protocols": {name: protocol.about for name, protocol in used.items()},
        **({} if of.groups is None else _group_facts(of.groups)),
        **({"harmful": [field.classes[code] for code in of.harmful]} if of.harmful else {}),
        "tuning": asdict(of.tuning),
        "versions": versions(),
    }


def _group_facts(groups: Groups) -> dict[str, Any]:
    counts = {name: int((groups.codes == code).sum()) for code, name in enumerate(groups.names)}
    return {
        "groups": counts,
        "groups_too_small": [name for name, count in counts.items() if count < groups.least],
        "group_min": groups.least,
        "without_group": int((groups.codes < 0).sum()),
    }


def _table(
    folder: Path | None, model: Model, of: Measurement, facts: dict[str, Any], fresh: bool
) -> tuple[Table, Path | None]:
    """The table to fill, and where it is kept: one file for each model, data and settings."""
    if folder is None:
        return Table(facts), None
    digest = hashlib.blake2b(digest_size=6)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    said = (
        autodidact.__version__,
        fingerprint(of.bench.train),
        fingerprint(of.bench.test),
        of.answer,
        str(of.labels),
        sorted(asdict(of.tuning).items()),
        *(() if of.groups is None else (of.groups.codes.tolist(), of.groups.names, of.groups.least)),
        *(("harmful", of.harmful) if of.harmful else ()),
    )
    digest.update(repr(said).encode())
    budget = str(of.labels).replace("%", "pc").replace("/", "-")
    path = folder / FOLDER / f"{of.bench.train.name}-{budget}-{digest.hexdigest()}.json"
    if path.exists() and not fresh:
        table = Table.load(path)
        table.about = {**facts, **{k: table.about[k] for k in ("learning_rates", "seconds") if k in table.about}}
        return table, path
    return Table(facts), path


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    return None
