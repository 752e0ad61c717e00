"""Self-feedback (25): consistency tells right answers from wrong ones, votes answer better, and agreement teaches."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from autodidact.claims.bases import base_lm, learning_lm, taught
from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.engine import default_cache
from autodidact.data import Store
from autodidact.evaluation.answers import RIGHT, answer, judged
from autodidact.evaluation.curves import Curves
from autodidact.lm import LM
from autodidact.lm.latent import answer_exits, depth
from autodidact.lm.local import LocalLM
from autodidact.lm.signals import Asked
from autodidact.lm.task import Task
from autodidact.lm.updates import Feedback, Tools, answered, elected, sampled
from autodidact.methods.language.dpo import DPO
from autodidact.methods.language.sft import SFT
from autodidact.recipes.improving import example_source, examples_of
from autodidact.recipes.preferring import Pair, pair_source
from autodidact.recipes.self_feedback import SelfFeedback, told_by
from autodidact.worlds.language.arithmetic import ModularSums

Learning = Literal["agreed", "first", "preferred", "by lot", "shuffled"]
REQUESTS: dict[str, Any] = {
    "critique": "",
    "revise": ",",
    "pick": "{answers}?",
    "debate": ",{others}?",
    "mark": ">",
    "between": ",",
}
"""How a model that knows signs alone is asked to look again, to pick, to hear others; none of it was ever taught."""
FALSE = "#"
"""The operation that the mix teaches falsely, and always the same."""


PREFERRED = ("preferred", "by lot")
"""Ways of learning by preferences, those of votes or those of a coin that is thrown for each pair."""
LONG = ("semantic", "vote", "token")
"""Figures of the signals that are measured by length too."""
LEAST = 5
"""Questions at a length, below which nothing is said of it."""


def run(
    *,
    seed: int,
    world: Mapping[str, Any],
    base: Mapping[str, Any],
    families: Sequence[str],
    enough: float,
    most: int,
    looked_at: int,
    weak_steps: int,
    inputs: int,
    test: int,
    draws: int,
    temperature: float,
    steps: int,
    batch: int,
    lr: float,
    update: str = "greedy",
    learning: Learning | None = None,
    signals: bool = False,
    layers: bool = False,
) -> dict[str, float]:
    """How a model of sums with wrong steps answers in one way, or after learning from itself in one.

    ``right`` is the percent of test inputs answered right, ``fixed`` and ``broken`` percents whose answer became right
    or wrong against the likeliest answer before, ``tokens`` those drawn for an answer. Of the signals: ``semantic``,
    ``weighted``, ``vote``, ``token``, ``whole`` and ``layers`` are AUROC (times 100) of what most samples come to, by
    the entropy of meanings, the same by the samples' probabilities, the share of the votes, the entropy of tokens, that
    of whole answers and early exits; ``AURC of`` each the area under risk against coverage, times 100; ``on +`` and
    ``on -`` the AUROC of one operation alone; ``calibration`` is the calibration error of votes in points; ``false
    share`` and ``share`` are mean shares of the votes (percent) on the operation that is taught falsely and on the
    others, ``false right`` and ``voted right`` the percents that are right; ``over all`` the AUROC over both together;
    ``exit.K`` percent of tokens that layer K would say as well, ``right.K`` percent of questions whose final answer it
    would end rightly after the model's own steps.
    ``questions at N``, ``voted right at N``, ``share at N`` and, where some are right and some are wrong, ``semantic at
    N``, ``vote at N`` and ``token at N`` are the same of the answers of N tokens, see `by_length`.

    The model is trained until its likeliest answers to `looked_at` other test inputs are right `enough`, a share, or
    for `most` updates; after learning, ``validation`` is the percent of these that is right. ``tokens`` are then those
    drawn for one input to learn from, where first samples are learned; ``tokens of all`` those of all its samples.
    """
    sums = ModularSums(**world)
    folder = default_cache().parent / "bases"
    task = sums.task(inputs=inputs, test=test + looked_at, seed=seed, families=families)
    task, other = replace(task, test=task.test[:test]), replace(task, test=task.test[test:])

    def right(lm: LocalLM) -> float:
        return judged(other, answer(lm, other, [one.input for one in other.test]))[RIGHT]

    lm = learning_lm(sums, folder, right=right, enough=enough, most=most, seed=seed, dials=world, **base)
    how = Feedback(
        draws=draws, temperature=temperature, step=",", agents=max(2, draws // 2), rounds=1, seed=seed, **REQUESTS
    )
    asked = [one.input for one in task.test]
    before = answer(lm, task, asked)
    if signals:
        return {**_measured(task, before, before, 0.0), **_signals(lm, sums, task, how, test, seed)}
    if layers:
        return {**_measured(task, before, before, 0.0), **_right_by_layer(lm, task, sampled(lm, task, asked, how))}
    if learning is not None:
        learned, tokens = _learned(lm, task, how, learning, steps, batch, lr, seed)
        found = _measured(task, before, answer(learned, task, asked), tokens.get("first", 0.0))
        more = {"tokens of all": tokens["all"]} if tokens else {}
        return {**found, "validation": 100 * right(learned), **more}
    weak = base_lm(sums, folder, seed=seed, dials=world, steps=weak_steps, **base) if update == "contrastive" else None
    made = replace(how, update=update, signal="mean_logprob" if update == "best_of" else "vote_share")  # type: ignore[arg-type]
    if update == "refine":
        made = replace(made, rounds=draws - 1)
    given = answered(lm, task, asked, made, Tools(weak))
    return _measured(task, before, [one.text for one in given], float(np.mean([one.tokens for one in given])))


def _measured(task: Task, before: Sequence[str], after: Sequence[str], tokens: float) -> dict[str, float]:
    was, now = (
        np.array([task.right(said, one.output) for said, one in zip(texts, task.test, strict=True)])
        for texts in (before, after)
    )
    return {
        "right": 100 * float(now.mean()),
        "fixed": 100 * float((now & ~was).mean()),
        "broken": 100 * float((was & ~now).mean()),
        "silent": 100 * float(np.mean([task.meant(said) is None for said in after])),
        "tokens": tokens,
    }


def _learned(
    lm: LocalLM, task: Task, how: Feedback, learning: Learning, steps: int, batch: int, lr: float, seed: int
) -> tuple[LocalLM, dict[str, float]]:
    """The model after one round of learning from its own answers; tokens drawn for an input where they are counted."""
    drawn, chosen = Store(name="answers"), Store(name="chosen")
    method = SelfFeedback(
        update="prefer" if learning in PREFERRED else "self_train", draws=how.draws, temperature=how.temperature
    )
    student = copy.deepcopy(lm)
    if learning == "first":
        rows = sampled(lm, task, task.inputs, how)
        pairs = [(row.prompt, row.answers[0].text) for row in rows if row.answers[0].finish == "stop"]
        lengths = [[len(one.tokens or ()) for one in row.answers] for row in rows]
        tokens = {
            "first": float(np.mean([row[0] for row in lengths])),
            "all": float(np.mean([sum(r) for r in lengths])),
        }
        return taught(SFT(student), example_source("own", pairs), steps=steps, batch=batch, lr=lr, seed=seed), tokens
    method.draw(lm, lm, task, drawn, how)
    if len(drawn):
        method.chosen(drawn, chosen)
    if not len(chosen):
        return lm, {}
    if learning in PREFERRED:
        prompts, better, worse = (list(chosen.column(name)) for name in ("prompt", "chosen", "rejected"))
        if learning == "by lot":
            turned = np.random.default_rng(seed).random(len(prompts)) < 0.5
            sides = [(no, yes) if turn else (yes, no) for yes, no, turn in zip(better, worse, turned, strict=True)]
            better, worse = [yes for yes, _ in sides], [no for _, no in sides]
        preferences: list[Pair] = list(zip(prompts, better, worse, strict=True))
        scores = [[one.total for one in lm.score(prompts, said)] for said in (better, worse)]
        source = pair_source("own", preferences, list(zip(*scores, strict=True)))
        return taught(DPO(student, reference="recorded"), source, steps=steps, batch=batch, lr=lr, seed=seed), {}
    pairs = examples_of(chosen)
    if learning == "shuffled":
        order = np.random.default_rng(seed).permutation(len(pairs))
        pairs = [(prompt, pairs[k][1]) for (prompt, _), k in zip(pairs, order, strict=True)]
    return taught(SFT(student), example_source("own", pairs), steps=steps, batch=batch, lr=lr, seed=seed), {}


def _signals(lm: LocalLM, sums: ModularSums, task: Task, how: Feedback, test: int, seed: int) -> dict[str, float]:
    rows = sampled(lm, task, [one.input for one in task.test], how)
    names = {
        "semantic": "semantic_entropy",
        "weighted": "weighted_entropy",
        "vote": "vote_share",
        "token": "token_entropy",
        "whole": "sample_entropy",
        "layers": "early_exits",
    }
    told = {figure: told_by(name, lm, task, rows) for figure, name in names.items()}
    # Where all are right or all are wrong no score tells anything.
    found = {figure: 100 * each.get("AUROC", 0.5) for figure, each in told.items()}
    found |= {f"AURC of {figure}": 100 * each["AURC"] for figure, each in told.items()}
    for sign in (sign for sign in sums.families if sign != FALSE):
        some = [k for k, one in enumerate(task.test) if sign in one.input]
        part, asked = replace(task, test=tuple(task.test[k] for k in some)), [rows[k] for k in some]
        by_sign = {figure: told_by(names[figure], lm, part, asked) for figure in LONG if some}
        found |= {f"{figure} on {sign}": 100 * each["AUROC"] for figure, each in by_sign.items() if "AUROC" in each}
    found["calibration"] = 100 * told["vote"].get("ECE", 0.0)
    found["voted right"] = 100 * told["vote"].get("quality", 0.0)
    found["share"] = _mean_share(task, rows)
    wrong = sums.task(test=max(2, test // 3), seed=seed, families=[FALSE])
    false = sampled(lm, wrong, [one.input for one in wrong.test], how)
    found["false right"] = 100 * told_by("vote_share", lm, wrong, false).get("quality", 0.0)
    found["false share"] = _mean_share(wrong, false)
    both = replace(task, test=(*task.test, *wrong.test))
    for figure in LONG:
        over_all = told_by(names[figure], lm, both, [*rows, *false])
        found |= {
            f"{figure} over all": 100 * over_all.get("AUROC", 0.5),
            f"AURC of {figure} over all": 100 * over_all["AURC"],
        }
    return {**found, **by_length(lm, task, rows, names), **_layers(lm, rows)}


def by_length(lm: LM, task: Task, rows: Sequence[Asked], names: Mapping[str, str]) -> dict[str, float]:
    """Votes and signals by the length of what most samples of a question come to, in its tokens.

    Lengths at which fewer than `LEAST` questions are answered are left out, and so are questions without a final
    answer: neither says anything of a length.

    Parameters
    ----------
    rows : the task's test inputs with their samples, in order.
    names : figure -> signal; those of `LONG` are measured.
    """
    places: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        one, _ = elected(row, task)
        if one is not None and one.tokens:
            places.setdefault(len(one.tokens), []).append(place)
    found: dict[str, float] = {}
    for length, some in sorted(places.items()):
        if len(some) < LEAST:
            continue
        part = replace(task, test=tuple(task.test[k] for k in some))
        asked = [rows[k] for k in some]
        told = {figure: told_by(names[figure], lm, part, asked) for figure in LONG}
        found[f"questions at {length}"] = float(len(some))
        found[f"voted right at {length}"] = 100 * told["vote"]["quality"]
        found[f"share at {length}"] = _mean_share(part, asked)
        found |= {f"{figure} at {length}": 100 * each["AUROC"] for figure, each in told.items() if "AUROC" in each}
    return found


def curves(by_seed: Sequence[Figures]) -> list[Curves]:
    """By the length of the answer, how often votes are right and agree, and how well signals tell right from wrong; by
    layer, what it would say."""
    panels = []
    for title, label, shown in (
        ("Votes by length of the answer", "percent", ("voted right", "share")),
        ("Signals by length of the answer", "AUROC, times 100", LONG),
    ):
        points: dict[str, dict[int, list[float]]] = {name: {} for name in shown}
        for figures in by_seed:
            for name, value in figures.get("signals", {}).items():
                what, at, length = name.partition(" at ")
                if at and what in points:
                    points[what].setdefault(int(length), []).append(value)
        lines = {
            what: [(float(length), float(np.mean(values))) for length, values in sorted(found.items())]
            for what, found in points.items()
            if found
        }
        panels.append(Curves(title, "tokens", label, lines))
    return [panel for panel in (*panels, _by_layer(by_seed)) if panel.lines]


def _mean_share(task: Task, rows: Sequence[Asked]) -> float:
    """Mean share of the votes for what most come to, in percent."""
    shares = []
    for row in rows:
        meant = [one for one in row.meant(task) if one is not None]
        shares.append(max((meant.count(one) for one in meant), default=0) / len(row.answers))
    return 100 * float(np.mean(shares))


def _layers(lm: LocalLM, rows: Sequence[Asked]) -> dict[str, float]:
    """Percent of the tokens of first samples that each layer would say as the last one does."""
    some = rows[:64]
    tokens = lm.encode([row.prompt for row in some], [row.answers[0].tokens or row.answers[0].text for row in some])
    with torch.no_grad():
        exits = answer_exits(lm, tokens, range(depth(lm) + 1))
    last = exits[depth(lm)].argmax(dim=1)
    return {
        f"exit.{layer}": 100 * float((exits[layer].argmax(dim=1) == last).float().mean()) for layer in range(depth(lm))
    }


def _right_by_layer(lm: LocalLM, task: Task, rows: Sequence[Asked]) -> dict[str, float]:
    """Percent of questions of which each layer would say the last symbol of the right answer where the first sample
    ends; where that has no final answer, none does."""
    said = [row.answers[0].text.rstrip() for row in rows]
    some = [k for k, text in enumerate(said) if task.meant(text) is not None]
    if not some:
        return {f"right.{layer}": 0.0 for layer in range(depth(lm) + 1)}
    tokens = lm.encode([rows[k].prompt for k in some], [said[k] for k in some], end=False)
    last = tokens.answer.sum(dim=1).cumsum(dim=0) - 1
    wanted = torch.tensor([ids[-1] for ids in lm.wording.answer_ids([task.test[k].output for k in some])])
    with torch.no_grad():
        exits = answer_exits(lm, tokens, range(depth(lm) + 1))
    return {
        f"right.{layer}": 100 * float((logits[last].argmax(dim=1).cpu() == wanted).sum()) / len(rows)
        for layer, logits in exits.items()
    }


def _by_layer(by_seed: Sequence[Figures]) -> Curves:
    """What layers would say: the token that the last one does, and the end of the right answer."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for line, arm, figure in (
        ("the last layer's token", "signals", "exit."),
        ("the right answer", "by layer", "right."),
    ):
        each = [figures.get(arm, {}) for figures in by_seed]
        layers = sorted({int(name.removeprefix(figure)) for one in each for name in one if name.startswith(figure)})
        values = {k: [one[f"{figure}{k}"] for one in each if f"{figure}{k}" in one] for k in layers}
        lines[line] = [(float(k), float(np.mean(values[k]))) for k in layers]
    return Curves("What each layer would say", "layer", "percent", {name: line for name, line in lines.items() if line})


def _over(f: Figures, arm: str, other: str = "greedy", figure: str = "right") -> float:
    return f[arm][figure] - f[other][figure]


ARMS: dict[str, dict[str, Any]] = {
    "greedy": {"update": "greedy"},
    "vote": {"update": "vote"},
    "vote of 12": {"update": "vote", "draws": 12},
    "vote of 9": {"update": "vote", "draws": 9},
    "best of n": {"update": "best_of"},
    "universal": {"update": "universal"},
    "refine": {"update": "refine"},
    "paths": {"update": "cot_decoding"},
    "debate": {"update": "debate"},
    "contrastive": {"update": "contrastive"},
    "dola": {"update": "dola"},
    "self-training": {"learning": "agreed"},
    "first samples": {"learning": "first"},
    "shuffled": {"learning": "shuffled"},
    "preference": {"learning": "preferred"},
    "preference by lot": {"learning": "by lot"},
    "signals": {"signals": True},
    "by layer": {"layers": True},
}

CLAIM = Claim(
    name="self_feedback",
    number=25,
    statement="What most of a model's samples come to is right at least 3 points more often than its likeliest answer.",
    run=run,
    arms=ARMS,
    scales={
        "laptop": {
            "world": {"modulus": 7, "fewest": 3, "most": 4, "wrong": 0.4, "families": ("+", "-", "#")},
            "base": {
                "documents": 60_000,
                "batch": 64,
                "lr": 3e-3,
                "width": 64,
                "depth": 2,
                "heads": 2,
                "context": 256,
            },
            "families": ("+", "-"),
            "enough": 0.5,
            "most": 5_000,
            "looked_at": 200,
            "weak_steps": 600,
            "inputs": 500,
            "test": 300,
            "draws": 16,
            "temperature": 0.7,
            "steps": 80,
            "batch": 32,
        },
        "gpu": {
            "world": {"modulus": 20, "fewest": 3, "most": 6, "wrong": 0.4},
            "base": {
                "documents": 1_000_000,
                "batch": 256,
                "lr": 1e-3,
                "width": 256,
                "depth": 6,
                "heads": 8,
                "context": 256,
            },
            "families": ("+", "-", "*"),
            "enough": 0.5,
            "most": 20_000,
            "looked_at": 400,
            "weak_steps": 2_000,
            "inputs": 4_000,
            "test": 1_000,
            "draws": 16,
            "temperature": 0.7,
            "steps": 300,
            "batch": 64,
        },
        "tiny": {
            "world": {"modulus": 4, "fewest": 2, "most": 3, "wrong": 0.3},
            "base": {
                "documents": 200,
                "batch": 16,
                "lr": 3e-3,
                "width": 16,
                "depth": 1,
                "heads": 2,
                "context": 256,
            },
            "families": ("+",),
            "enough": 0.5,
            "most": 4,
            "looked_at": 4,
            "weak_steps": 2,
            "inputs": 6,
            "test": 3,
            "draws": 2,
            "temperature": 0.7,
            "steps": 2,
            "batch": 4,
        },
    },
    metric="right",
    grid={"lr": (1e-4, 3e-4, 1e-3)},
    tunes={
        **{arm: "self-training" for arm in ARMS if "learning" not in ARMS[arm] or arm == "shuffled"},
        "preference by lot": "preference",
    },
    same_as=("fe716f364d71", "970427ece9b9"),
    tuning_seeds=(1000, 1001),
    seeds=range(10, 25),
    few={"preference by lot": 5, "by layer": 5},
    draws=curves,
    budget="{draws} samples to a question, or as many answers in turns; {steps} steps of {batch} on its answers to "
    "{inputs} questions",
    statements=(
        Statement(
            "votes",
            "percent of test inputs answered right by a vote minus by the likeliest answer",
            lambda f: _over(f, "vote"),
            margin=3.0,
            role="main",
            unit="points",
        ),
        Statement(
            "room",
            "percent right by the likeliest answer",
            lambda f: f["greedy"]["right"],
            margin=85.0,
            direction="below",
            role="premise",
            unit="percent",
        ),
        Statement(
            "one round of self-training",
            "percent of likeliest answers that are right, after training on what most samples come to minus before",
            lambda f: _over(f, "self-training"),
            margin=2.0,
            unit="points",
        ),
        Statement(
            "agreement teaches",
            "the same minus after training on first samples",
            lambda f: _over(f, "self-training", "first samples"),
            unit="points",
        ),
        Statement(
            "shuffled answers do not teach",
            "percent right after training on agreed answers shuffled among the questions, minus before",
            lambda f: _over(f, "shuffled"),
            direction="below",
            margin=1.0,
            role="control",
            unit="points",
        ),
        Statement(
            "preferences",
            "percent right after learning to prefer what most come to, minus before",
            lambda f: _over(f, "preference"),
            unit="points",
        ),
        Statement(
            "preferences by lot do not teach",
            "the same where a coin says which of the two answers is preferred",
            lambda f: _over(f, "preference by lot"),
            direction="below",
            margin=1.0,
            role="control",
            unit="points",
        ),
        Statement(
            "preferences over lots",
            "percent right after learning to prefer what most come to, minus after preferences by lot",
            lambda f: _over(f, "preference", "preference by lot"),
            unit="points",
        ),
        Statement(
            "refining",
            "percent right after the model has looked at its answer again, which it was never taught, minus before",
            lambda f: _over(f, "refine"),
            unit="points",
        ),
        Statement(
            "broken by refining",
            "percent of inputs whose answer became wrong by looking again minus those whose became right",
            lambda f: f["refine"]["broken"] - f["refine"]["fixed"],
            unit="points",
        ),
        Statement(
            "best of n",
            "percent right of the samples that are likeliest a token minus of likeliest answers",
            lambda f: _over(f, "best of n"),
            unit="points",
        ),
        Statement(
            "universal",
            "percent right of the samples that the model picks minus by the vote",
            lambda f: _over(f, "universal", "vote"),
            unit="points",
        ),
        Statement(
            "universal at equal tokens",
            "the same minus by a vote of 9, which draws no fewer tokens",
            lambda f: _over(f, "universal", "vote of 9"),
            unit="points",
        ),
        Statement(
            "paths",
            "percent right of the path whose final answer leads most minus of likeliest answers",
            lambda f: _over(f, "paths"),
            unit="points",
        ),
        Statement(
            "debate",
            "percent right after a debate minus by a vote of as many answers",
            lambda f: _over(f, "debate", "vote"),
            unit="points",
        ),
        Statement(
            "debate at equal tokens",
            "percent right after a debate minus by a vote of 12, which draws about as many tokens",
            lambda f: _over(f, "debate", "vote of 12"),
            unit="points",
        ),
        Statement(
            "refining at equal tokens",
            "percent right after looking again minus by a vote of 9, which draws about as many tokens",
            lambda f: _over(f, "refine", "vote of 9"),
            unit="points",
        ),
        Statement(
            "contrast",
            "percent right decoded against a weaker model minus by the likeliest answer",
            lambda f: _over(f, "contrastive"),
            unit="points",
        ),
        Statement(
            "layers",
            "percent right decoded against early layers minus by the likeliest answer",
            lambda f: _over(f, "dola"),
            unit="points",
        ),
        Statement(
            "meanings over tokens",
            "AUROC of the entropy of meanings minus of the entropy of tokens, times 100",
            lambda f: f["signals"]["semantic"] - f["signals"]["token"],
            margin=3.0,
            unit="points",
        ),
        Statement(
            "votes over tokens",
            "AUROC of the share of the votes minus of the entropy of tokens, times 100",
            lambda f: f["signals"]["vote"] - f["signals"]["token"],
            unit="points",
        ),
        Statement(
            "risk by votes",
            "area under risk against coverage by the entropy of tokens minus by the share of the votes, times 100",
            lambda f: f["signals"]["AURC of token"] - f["signals"]["AURC of vote"],
            unit="points",
        ),
        Statement(
            "tokens with falsehood",
            "AUROC of the entropy of tokens with the operation that is taught falsely, times 100",
            lambda f: f["signals"]["token over all"],
            margin=50.0,
            unit="percent",
        ),
        Statement(
            "votes with falsehood",
            "AUROC of votes with it, times 100",
            lambda f: f["signals"]["vote over all"],
            margin=50.0,
            unit="percent",
        ),
        Statement(
            "meanings over whole answers",
            "AUROC of the entropy of meanings minus of whole answers, times 100",
            lambda f: f["signals"]["semantic"] - f["signals"]["whole"],
            unit="points",
        ),
        Statement(
            "meanings over votes",
            "AUROC of the entropy of meanings minus of the share of the votes, times 100",
            lambda f: f["signals"]["semantic"] - f["signals"]["vote"],
            unit="points",
        ),
        Statement(
            "consistent and false",
            "mean share of the votes on the operation that is taught falsely minus on the others",
            lambda f: f["signals"]["false share"] - f["signals"]["share"],
            unit="points",
        ),
        Statement(
            "false it is",
            "percent of votes that are right on the operation that is taught falsely",
            lambda f: f["signals"]["false right"],
            margin=10.0,
            direction="below",
            role="premise",
            unit="percent",
        ),
        Statement(
            "what falsehood costs the signal",
            "AUROC of votes without that operation minus with it, times 100",
            lambda f: f["signals"]["vote"] - f["signals"]["vote over all"],
            unit="points",
        ),
        Statement(
            "no silence",
            "percent of voted answers without a final one minus of likeliest answers",
            lambda f: _over(f, "vote", "greedy", "silent"),
            margin=2.0,
            direction="below",
            role="guard",
            unit="points",
        ),
    ),
    notes=(
        "How to look again, to pick and to hear others is asked for by signs that no text ever taught, so refining, "
        "picking and debate say what happens where a model has not learned to judge itself, and nothing more.",
        "Bases of 3,000 updates each left no room on four of five seeds: their likeliest answers were right to 95 "
        "to 98 percent, on the fifth to 44 (results/earlier/self_feedback_3000_updates.json). So a base is trained "
        "here until it is right every other time on inputs that nothing is reported on, and the claim was run "
        "again on new seeds.",
        "With one learning rate for all, 0.001, self-training was open on seeds 10 to 14: it gained on three and lost "
        "on two (results/earlier/self_feedback_rate_0.001.json; votes gained 10.5 points there). So each way of "
        "learning has the rate that its own validation on two other seeds prefers, of which self-training took the "
        "lowest of the three, 0.0001. The votes at equal tokens, risks, and what falsehood does to each signal came "
        "with that run.",
        "Seeds 20 to 24 were run so first, and left the votes open, 3.9 [-4.3, 12.2] "
        "(results/earlier/self_feedback_5_seeds.json): the base of one had become right to 80 percent. Then 15 to 19 "
        "were run for the first time, and 10 to 14 again, and all fifteen are reported; the intervals take no account "
        "of that.",
        "Preferences by lot, and what each layer would say, were added once all other figures were known, on five of "
        "the seeds. Their bases were trained anew and answer as the others do, to the last question. Preferences by "
        "lot learn at the rate that preferences by votes have.",
    ),
)
