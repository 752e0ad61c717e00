"""Every method of the catalogue on two processes with half a batch each: the weights, all else that it keeps, and the
losses are those of one process with the whole batch.

One pair of processes trains them all, one after the other, and each test reads what became of one. Both see the same
views, in float64, so that batch norms do not blow up what is rounded; two updates by SGD with momentum hold every
gradient on the way, and what queues, slow copies and running statistics have become in between. And every method is
planned for two processes by one.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tests.catalog.test_every_method import source_for
from tests.training.forked import together
from torch import Tensor

from autodidact.catalog import cards, target
from autodidact.data import ArraySource, Batch, Schema, Source
from autodidact.data.ids import row_ids
from autodidact.data.schema import Field
from autodidact.encoders.rows import Rows
from autodidact.lm.local import LocalLM
from autodidact.lm.reward_model import RewardModel
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.image import bss
from autodidact.methods.language.bradley_terry import BradleyTerry
from autodidact.methods.language.two_turns import TwoTurns
from autodidact.methods.language.two_views import TwoViewJudge
from autodidact.methods.method import Loss, Method, Progress, Step, Views
from autodidact.methods.on_task import OnTask
from autodidact.recipes.improving import example_source, question_source
from autodidact.recipes.names import encoder_maker, encoder_names, make_method, statistics_of
from autodidact.recipes.preferring import pair_source
from autodidact.rewards.programs import Programmed
from autodidact.training import Settings, train
from autodidact.training.cost import foresee
from autodidact.training.feed import seeded

pytestmark = pytest.mark.filterwarnings("ignore:ddpo starts from a model that was never trained")

BATCH, STEPS = 16, 2
VIT = "small:vit?width=16&depth=2&heads=2&patch=2"


@dataclass
class Case:
    """How a method is tried.

    Attributes
    ----------
    make : from the name of the case, the method and what it is trained on.
    card : name of its card; empty for methods that only recipes use.
    options : of the method.
    encoder : name of an encoder that is smaller than the card's; empty for that.
    by_sample : views that hold several rows of one sample after each other, and not all of one kind after each other.
    unlabelled : whether some labels are unknown, more in one half of a batch than in the other.
    one_seed : whether both processes draw from one seed, for methods that draw a number for a whole batch.
    single : parts that compute in float32 whatever they are given.
    """

    make: Callable[[str], tuple[Method, Source]]
    card: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    encoder: str = ""
    by_sample: tuple[str, ...] = ()
    unlabelled: bool = False
    one_seed: bool = False
    single: tuple[str, ...] = ()


def of_card(name: str) -> tuple[Method, Source]:
    case = CASES[name]
    cls = target(cards()[case.card])
    source = source_for(cls.needs)
    names = encoder_names(case.encoder or None, cls.slots, cards()[case.card].encoder)
    maker = encoder_maker(names, source, 0, {"statistics": statistics_of(source)})
    return make_method(cls, maker, case.options, source, seed=0), source


INPUTS = [a + b for a in "abc" for b in "abc"]
TASK = Task(
    "The first letter.",
    examples=tuple(Demonstration(text, text[0]) for text in INPUTS),
    style=Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",)),
    max_tokens=3,
)
ANSWERS = [text[::-1] * (1 + place % 3) for place, text in enumerate(INPUTS)]
"""Of different lengths, so that a process has more tokens than the other."""


def letters(given: str, answer: str, wanted: str | None) -> float:
    """A reward that tells answers apart."""
    return answer.count("a") - 0.3 * answer.count("b") + 0.1 * len(answer)


def model() -> LocalLM:
    return tiny_lm("abc>;", width=16, depth=1, context=16)


def on_answers(name: str) -> tuple[Method, Source]:
    prompts = [text + ">" for text in INPUTS]
    if name == "sft":
        return target(cards()[name])(model()), example_source("answers", list(zip(prompts, ANSWERS, strict=True)))
    pairs = pair_source("pairs", [(prompt, answer, "cc") for prompt, answer in zip(prompts, ANSWERS, strict=True)])
    if name == "dpo":
        return target(cards()[name])(model()), pairs
    if name == "bradley_terry":
        torch.manual_seed(0)
        return BradleyTerry(RewardModel(model(), TASK, ())), pairs
    columns = {"prompt": prompts, "referenced": ["c" + text for text in prompts], "completion": list("abc" * 3)}
    schema = Schema(**{column: Field("text") for column in columns})
    return TwoViewJudge(model()), ArraySource("ratings", columns, schema, row_ids("ratings", "", len(prompts)))


def on_task(name: str) -> tuple[Method, Source]:
    case = CASES[name]
    cls = target(cards()[case.card]) if case.card else TwoTurns
    torch.manual_seed(0)
    return cls(model(), TASK, reward=Programmed(letters), **case.options), question_source("questions", TASK, INPUTS)


# Sizes that are drawn once a batch, by each process for itself, are given; units that are dropped are of no process
# but the one that drew them. Everything else is as it is by default, but smaller.
CASES: dict[str, Case] = {
    name: Case(of_card, card=name) for name, card in cards().items() if card.kind == "method" and not card.extra
} | {
    "beit": Case(of_card, "beit", {"codes": 8}, VIT),
    "data2vec": Case(of_card, "data2vec", {}, VIT),
    "dino": Case(of_card, "dino", {"prototypes": 16, "hidden": 16, "bottleneck": 8}, VIT),
    "gmml": Case(of_card, "gmml", {}, VIT),
    "i_jepa": Case(
        of_card,
        "i_jepa",
        {"targets": 1, "target_area": (0.25, 0.25), "target_aspect": (1.0, 1.0), "context_area": (1.0, 1.0)},
        VIT,
    ),
    "ibot": Case(of_card, "ibot", {"prototypes": 16, "hidden": 16, "bottleneck": 8}, VIT),
    "jigsaw": Case(of_card, "jigsaw", {"orders": 6, "each": 16, "together": 16, "dropout": 0.0}, by_sample=("shown",)),
    "look": Case(of_card, "look", {"neighbours": 10}),
    "mixed_barlow_twins": Case(of_card, "mixed_barlow_twins", one_seed=True),
    "sit": Case(of_card, "sit", {}, VIT),
    "scat_simclr": Case(of_card, "scat_simclr", {"pretext_dropout": 0.0}, by_sample=("pretext",)),
    "seer": Case(of_card, "seer", {"prototypes": 12}),
    "sla": Case(of_card, "sla", {}, by_sample=("input",)),
    "sla, some unlabelled": Case(
        of_card, "sla", {"inference": "distilled", "task": "separate"}, by_sample=("input",), unlabelled=True
    ),
    "supervised, some unlabelled": Case(of_card, "supervised", unlabelled=True),
    "distilled, some unlabelled": Case(of_card, "distilled", {"label_share": 0.5}, unlabelled=True),
    "swav": Case(of_card, "swav", {"prototypes": 12}),
    "ddpo by weights": Case(of_card, "ddpo", {"estimator": "reward_weighted", "beta": 0.1}),
    "t_jepa": Case(of_card, "t_jepa", {"context_share": (0.3, 0.3), "target_share": (0.4, 0.4)}),
    "sft": Case(on_answers, "sft"),
    "dpo": Case(on_answers, "dpo"),
    "bradley_terry": Case(on_answers),
    "two_views": Case(on_answers),
    "two_turns": Case(on_task, options={"request": ">"}),
    "policy_gradient": Case(on_task, "policy_gradient"),
    "policy_gradient with a baseline": Case(on_task, "policy_gradient", {"estimator": "reinforce"}),
    "policy_gradient with a value": Case(
        on_task, "policy_gradient", {"estimator": "ppo", "inner": 2}, single=("value",)
    ),
    "trajectory_balance": Case(on_task, "trajectory_balance", {"group": 4}),
}


def test_all_methods_of_the_catalogue_are_tried() -> None:
    assert {case.card for case in CASES.values()} - {""} == {n for n, c in cards().items() if c.kind == "method"}


def joined(parts: Sequence[Any], rows: int, by_sample: bool) -> Any:
    """The views of two halves of a batch, with so many samples each, as those of the whole."""
    first = parts[0]
    if isinstance(first, Tensor) and first.ndim == 0:
        assert all(part == first for part in parts)
        return first
    if isinstance(first, Rows):
        return Rows(*(torch.cat([getattr(part, kind) for part in parts]) for kind in ("numeric", "categorical")))
    kinds = 1 if by_sample else len(first) // rows
    return torch.cat([piece for pieces in zip(*(part.chunk(kinds) for part in parts), strict=True) for piece in pieces])


def exact(view: Any) -> Any:
    """In float64."""
    if isinstance(view, Rows):
        return Rows(view.numeric.double(), view.categorical)
    return view.double() if isinstance(view, Tensor) and view.is_floating_point() else view


class SaidByTheFirst:
    """Stands for `from_first` in a process that plays two: the second half is told what the first one has said."""

    def __init__(self) -> None:
        self.said: list[Tensor] = []
        self.listens = False

    def __call__(self, x: Tensor) -> Tensor:
        if self.listens:
            return self.said.pop(0)
        self.said.append(x)
        return x


def shows_halves(case: Case, method: Method, processes: int) -> None:
    """Let a process that is alone show each half of its batch as the one of two does that has it.

    What a language model is shown follows from the batch, or from the batch and a seed, from which it then draws
    answers to each question apart; that seed is the same in all processes here.
    """
    views = method.views
    language = any(isinstance(part, LocalLM) for part in method.modules())

    def drawn(progress: Progress, rank: int) -> Progress:
        rank = 0 if case.one_seed or isinstance(method, OnTask) else rank
        generator = torch.Generator().manual_seed(seeded(0, "views", progress.step, 0, rank))
        return replace(progress, generator=generator)

    def halves(batch: Batch, progress: Progress) -> Views:
        shown, first = list[Views](), SaidByTheFirst()
        for rank, rows in enumerate(torch.arange(len(batch)).chunk(2)):
            first.listens = rank == 1
            with patch.object(bss, "from_first", first):
                shown.append(views(batch.select(rows), drawn(progress, rank)))
        rows = len(batch) // 2
        if "order" in shown[1].named:
            # Numbers of rows, with which those are mixed.
            shown[1].named["order"] = shown[1]["order"] + rows
        named = {name: joined([half[name] for half in shown], rows, name in case.by_sample) for name in shown[0].named}
        slot = shown[0].slot and {name: torch.cat([half.slot[name] for half in shown]) for name in shown[0].slot}
        return Views(named, batch.ids, slot=slot)

    def made(batch: Batch, progress: Progress) -> Views:
        if processes == 1 and not language:
            found = halves(batch, progress)
        else:
            found = views(batch, drawn(progress, dist.get_rank() if processes > 1 else 0))
        found.named = {name: exact(view) for name, view in found.named.items()}
        if case.unlabelled:
            for name in {"answer", "label"} & found.named.keys():
                found.named[name] = found[name].where(batch.ids % 3 > 0, -1)
        return found

    method.views = made  # type: ignore[method-assign]


def trained(name: str, processes: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[float]]:
    """What a method holds before and after, and its losses."""
    case = CASES[name]
    method, source = case.make(name)
    method.double()
    for part in case.single:
        method.get_submodule(part).float()
    shows_halves(case, method, processes)
    losses, update = list[float](), method.update

    def told(batch: Batch, step: Step) -> Loss:
        loss = update(batch, step)
        losses.append(float(loss.total.detach()))
        return loss

    method.update = told  # type: ignore[method-assign]
    before = {key: value.clone().numpy() for key, value in method.state_dict().items()}
    settings = Settings(
        steps=STEPS,
        batch_size=min(BATCH, len(source) // 2 * 2),
        optimizer="sgd",
        lr=1e-3,
        warmup=0.0,
        accelerator="cpu",
        devices=processes,
    )
    train(method, source, settings, quiet=True)
    return before, {key: value.numpy() for key, value in method.state_dict().items()}, losses


def every_case() -> dict[str, Any]:
    """Of each case what this process holds (the first sends it, others its digest), and its losses; or what failed."""
    found = dict[str, Any]()
    for name in CASES:
        try:
            _, after, losses = trained(name, 2)
            digest = hashlib.sha256(b"".join(np.ascontiguousarray(value).tobytes() for value in after.values()))
            found[name] = (after if dist.get_rank() == 0 else {}, digest.hexdigest(), losses)
        except Exception:  # noqa: BLE001 (told to the test)
            found[name] = traceback.format_exc()
    return found


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    # What it imports, both processes have then imported.
    model()
    return together(2, every_case, seconds=500)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_with_half_a_batch_each_end_as_one_with_the_whole_batch(
    ranks: list[dict[str, Any]], name: str
) -> None:
    for found in ranks:
        assert not isinstance(found[name], str), found[name]
    (two, digest, losses), (_, other, same) = (found[name] for found in ranks)
    before, one, expected = trained(name, 1)
    assert digest == other
    for told in (losses, same):
        assert told == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert two.keys() == one.keys()
    numbers = {key for key, value in one.items() if value.size and np.issubdtype(value.dtype, np.floating)}
    moved = {key: np.abs(one[key] - before[key]).max() for key in numbers}
    # Of what has no gradient but rounding, such as a bias before a batch norm, nothing can be asked.
    least = 1e-6 * max(moved.values())
    assert least > 0
    for key, value in one.items():
        if key in numbers:
            assert np.abs(two[key] - value).max() <= 1e-5 * max(moved[key], least), key
        else:
            assert np.array_equal(two[key], value), key


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.card in ("", name)])
def test_one_process_plans_it_for_two(name: str) -> None:
    method, source = CASES[name].make(name)
    batch = min(BATCH, len(source) // 2 * 2)
    found = foresee(method, source, Settings(steps=1, batch_size=batch, devices=2, accelerator="cpu"))
    assert (found.devices, found.share, found.together) == (2, batch // 2, False)
    assert found.messages > 0
    # A ring of two sends half of a tensor twice.
    assert found.exchanged == found.gradients + found.sent[-1] > 0
    assert not dist.is_initialized()
