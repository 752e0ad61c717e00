"""Answers by way of a model's own feedback (2407.14507): it draws, judges, looks again, and only then answers.

Nothing is trained here. What each way costs is told in tokens that were drawn, so that ways can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import unknown
from autodidact.lm.decoding import Rule, across_layers, against, decode, first_tokens, likeliest
from autodidact.lm.judging import check_places
from autodidact.lm.latent import depth, heads_shifted
from autodidact.lm.lm import LM, Asked, Capability, Completion, Message, Prompt, Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.repeated import generate_each
from autodidact.lm.signals import Asked as Answers
from autodidact.lm.signals import check_model, check_signal, signal_values
from autodidact.lm.task import Task
from autodidact.lm.turns import asked_again
from autodidact.selection.consensus import vote

Update = Literal[
    "greedy",
    "vote",
    "best_of",
    "universal",
    "refine",
    "cot_decoding",
    "tree",
    "debate",
    "contrastive",
    "dola",
    "intervene",
    "abstain",
]
CRITIQUE = "\nWhat is wrong with this answer? Say so briefly:"
REVISE = "\nNow write the answer again, without what is wrong:"
PICK = (
    "{instruction}\n\nQuestion: {input}\n\n{answers}\n\nWhich of these answers is most consistent with the others? "
    "The number of it:"
)
DEBATE = "\nOthers answered:\n{others}\nWith these in mind, answer again:"


@dataclass(frozen=True)
class Feedback:
    """How a model answers.

    Attributes
    ----------
    update : "greedy": its likeliest answer. "vote": what most samples come to (self-consistency, 2203.11171).
        "best_of": the sample of which `signal` is surest. "universal": the sample that the model says is the most
        consistent one (2311.17311). "refine": its answer after `rounds` of criticising and revising it, or until it
        changes nothing; it does not stop at a score (Self-Refine, 2303.17651). "cot_decoding": of greedy answers after
        the `draws` likeliest first tokens, the one whose final answer is surest (2402.10200). "tree": the best of
        `breadth` partial answers that are each taken further by `breadth` steps, `depth` times (2305.10601). "debate":
        the vote of `agents` that read each other's answers for `rounds` (2305.14325). "contrastive": against a weaker
        model (2210.15097).
        "dola": against early layers (2309.03883). "intervene": with some heads pushed (2306.03341). "abstain": the
        vote, or no answer where `signal` is below `threshold`.
    signal : see `autodidact.lm.signals.SIGNALS`.
    draws : samples, from 2; "universal" takes 9 at most, which have numbers of one digit.
    temperature, top_p : of these.
    step : text that ends a step of "tree".
    alpha : of "contrastive" and "dola", see `autodidact.lm.decoding.plausible`.
    critique, revise : of "refine", asked after an answer; without a critique it is revised at once.
    pick : of "universal", with {answers}, and where wanted {instruction} and {input}.
    debate : asked after an agent's answer, with {others}.
    mark, between : what stands behind the number of an answer that is picked from, and between answers that are shown.
    seed : of all draws.
    """

    update: Update = "vote"
    signal: str = "vote_share"
    draws: int = 10
    temperature: float = 0.7
    top_p: float = 1.0
    rounds: int = 2
    agents: int = 3
    breadth: int = 3
    depth: int = 4
    step: str = "\n"
    alpha: float = 0.1
    threshold: float = 0.5
    critique: str = CRITIQUE
    revise: str = REVISE
    pick: str = PICK
    debate: str = DEBATE
    mark: str = ": "
    between: str = "\n"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.update not in get_args(Update):
            raise unknown("update", self.update, get_args(Update))
        for name, least in (("draws", 2), ("rounds", 1), ("agents", 2), ("breadth", 1), ("depth", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ValueError(f"samples are drawn at a temperature above 0, got {self.temperature}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha lies in [0, 1], got {self.alpha}")
        if self.update == "universal" and self.draws > 9:
            object.__setattr__(self, "draws", 9)
        check_places("pick", self.pick, {"answers"}, {"instruction", "input"})
        check_places("debate", self.debate, {"others"})
        if not self.step:
            raise ValueError("a step of a tree ends with a text, got an empty one")


@dataclass(frozen=True)
class Given:
    """An answer, and what it took.

    Attributes
    ----------
    text : empty where none is given.
    tokens : that were drawn for it; 0 where the model does not tell.
    confidence : of a vote the share of the samples, else of the signal; None where it is not told.
    first : what was answered before the feedback, where there was something.
    """

    text: str
    tokens: int
    confidence: float | None = None
    first: str | None = None


@dataclass(frozen=True)
class Tools:
    """What some updates need beside the model.

    Attributes
    ----------
    amateur : of "contrastive".
    shift : of "intervene", see `autodidact.lm.intervening.intervention`.
    """

    amateur: LocalLM | None = None
    shift: Float[Tensor, "l d"] | None = None


NEEDS: Mapping[str, tuple[Capability, ...]] = {
    "universal": ("generate", "choose"),
    "cot_decoding": ("generate", "latent"),
    "contrastive": ("generate", "latent"),
    "dola": ("generate", "latent"),
    "intervene": ("generate", "latent"),
}
BY_SIGNAL = ("best_of", "abstain")


def check_update(how: Feedback, lm: LM, task: Task) -> None:
    """Raise `Incapable` where a model lacks what an update needs, ValueError where the task does."""
    check_model(f"the update '{how.update}'", lm, NEEDS.get(how.update, ("generate",)))
    if how.update in BY_SIGNAL:
        check_signal(how.signal, lm)
    if how.update in ("tree", "cot_decoding") and not task.final:
        raise ValueError(f"the update '{how.update}' must know what stands before a final answer: final in the task")


def answered(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools | None = None) -> list[Given]:
    """The answer to each input.

    Raises
    ------
    Incapable : the model lacks what the update needs.
    """
    check_update(how, lm, task)
    return WAYS[how.update](lm, task, inputs, how, tools or Tools())


def sampled(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, n: int = 0) -> list[Answers]:
    """The samples of each input; of `n` 0 as many as the update takes."""
    prompts = [task.prompt(text) for text in inputs]
    drawn = lm.generate(prompts, replace(_sampling(task, how), n=n or how.draws))
    return [Answers(*row) for row in zip(inputs, prompts, drawn, strict=True)]


def elected(row: Answers, task: Task) -> tuple[Completion | None, float | None]:
    """The first sample that comes to what most of them do, and their share among all; None where none comes to any."""
    meant = row.meant(task)
    most = vote([one for one in meant if one is not None])
    if most is None:
        return None, None
    return row.answers[meant.index(most)], meant.count(most) / len(meant)


def _greedy(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    found = lm.generate([task.prompt(text) for text in inputs], _likeliest(task))
    return [Given(one.text.strip(), _spent([one])) for (one,) in found]


def _vote(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    given = []
    for row in sampled(lm, task, inputs, how):
        one, share = elected(row, task)
        given.append(Given("" if one is None else one.text.strip(), _spent(row.answers), share))
    return given


def _best_of(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    rows = sampled(lm, task, inputs, how)
    given = []
    for row, values in zip(rows, signal_values(how.signal, lm, task, rows), strict=True):
        best = max(range(len(values)), key=lambda k: _or_least(values[k]))
        given.append(Given(row.answers[best].text.strip(), _spent(row.answers), values[best]))
    return given


def _abstain(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    rows = sampled(lm, task, inputs, how)
    given = []
    for row, values in zip(rows, signal_values(how.signal, lm, task, rows), strict=True):
        one, _ = elected(row, task)
        value = None if one is None else values[list(row.answers).index(one)]
        sure = one is not None and _or_least(value) >= how.threshold
        first = None if one is None else one.text.strip()
        given.append(Given(first if sure and first is not None else "", _spent(row.answers), value, first))
    return given


def _universal(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    rows = sampled(lm, task, inputs, how)
    shown = [
        how.pick.format(
            instruction=task.instruction,
            input=row.input,
            answers=how.between.join(f"{k}{how.mark}{one.text.strip()}" for k, one in enumerate(row.answers, 1)),
        )
        for row in rows
    ]
    picked = lm.choose(shown, [str(k) for k in range(1, how.draws + 1)])
    return [
        Given(row.answers[int(shares.argmax())].text.strip(), _spent(row.answers), float(shares.max()))
        for row, shares in zip(rows, picked, strict=True)
    ]


def _refine(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    prompts = [task.prompt(text) for text in inputs]
    said = [found[0] for found in lm.generate(prompts, _likeliest(task))]
    first, spent = list(said), [_spent([one]) for one in said]
    going = list(range(len(inputs)))
    for _ in range(how.rounds):
        if not going:
            break
        asked: list[Asked] = [prompts[k] for k in going]
        answers = [said[k] for k in going]
        if how.critique:
            asked = [asked_again(lm, *turn, how.critique) for turn in zip(asked, answers, strict=True)]
            answers = [found[0] for found in lm.generate(asked, _likeliest(task))]
            for k, one in zip(going, answers, strict=True):
                spent[k] += _spent([one])
        asked = [asked_again(lm, *turn, how.revise) for turn in zip(asked, answers, strict=True)]
        changed = []
        for k, found in zip(going, lm.generate(asked, _likeliest(task)), strict=True):
            spent[k] += _spent(found)
            if found[0].text.strip() != said[k].text.strip():
                said[k] = found[0]
                changed.append(k)
        going = changed
    return [
        Given(one.text.strip(), tokens, first=before.text.strip())
        for one, tokens, before in zip(said, spent, first, strict=True)
    ]


def critique(lm: LM, task: Task, inputs: Sequence[str], answers: Sequence[Completion], how: Feedback) -> list[str]:
    """S6: what the model finds wrong with answers, in words."""
    pairs = zip((task.prompt(text) for text in inputs), answers, strict=True)
    asked = [asked_again(lm, prompt, one, how.critique or CRITIQUE) for prompt, one in pairs]
    return [found[0].text.strip() for found in lm.generate(asked, _likeliest(task))]


def _debate(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    rows = sampled(lm, task, inputs, how, n=how.agents)
    spent = [_spent(row.answers) for row in rows]
    for number in range(1, how.rounds + 1):
        asked = [
            asked_again(lm, row.prompt, own, how.debate.format(others=how.between.join(sorted(_others(row, k)))))
            for row in rows
            for k, own in enumerate(row.answers)
        ]
        drawn = generate_each(lm, asked, replace(_sampling(task, how), n=1, seed=how.seed + number))
        flat = [found[0] for found in drawn]
        turns = [flat[start : start + how.agents] for start in range(0, len(flat), how.agents)]
        rows = [replace(row, answers=answers) for row, answers in zip(rows, turns, strict=True)]
        spent = [before + _spent(row.answers) for before, row in zip(spent, rows, strict=True)]
    given = []
    for row, tokens in zip(rows, spent, strict=True):
        # Agents have no order: where several answers win, or several texts mean the winner, the first by its text.
        one, share = elected(replace(row, answers=sorted(row.answers, key=lambda said: said.text)), task)
        given.append(Given("" if one is None else one.text.strip(), tokens, share))
    return given


def _others(row: Answers, own: int) -> list[str]:
    return [one.text.strip() for k, one in enumerate(row.answers) if k != own]


@dataclass(frozen=True)
class Partial:
    """A partial answer of a tree search, with the log-probabilities of its tokens."""

    text: str
    logprobs: tuple[float, ...]
    done: bool

    @property
    def score(self) -> float:
        return sum(self.logprobs) / max(1, len(self.logprobs))


def _tree(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    beams = {k: [Partial("", (), False)] for k in range(len(inputs))}
    spent = dict.fromkeys(beams, 0)
    sampling = replace(_sampling(task, how), n=how.breadth, stop=(*task.style.stop, how.step))
    for number in range(how.depth):
        open_ = [(k, partial) for k, beam in beams.items() for partial in beam if not partial.done]
        if not open_:
            break
        asked = [_begun(task.prompt(inputs[k]), partial.text) for k, partial in open_]
        grown: dict[int, list[Partial]] = {k: [one for one in beam if one.done] for k, beam in beams.items()}
        for (k, partial), found in zip(
            open_, generate_each(lm, asked, replace(sampling, seed=how.seed + number)), strict=True
        ):
            spent[k] += _spent(found)
            for one in found:
                done = task.final in partial.text + one.text or one.finish != "stop"
                text = partial.text + one.text + ("" if done else how.step)
                grown[k].append(Partial(text, partial.logprobs + (one.logprobs or ()), done))
        for k, some in grown.items():
            distinct = {one.text: one for one in some}
            beams[k] = sorted(distinct.values(), key=lambda one: -one.score)[: how.breadth]
    given = []
    for k, beam in beams.items():
        best = max(beam, key=lambda one: (task.meant(one.text) is not None, one.score))
        given.append(Given(best.text.strip(), spent[k], best.score))
    return given


def _begun(prompt: str, text: str) -> Asked:
    return Prompt.of(prompt).then(Message("assistant", text)) if text else prompt


def _cot_decoding(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
    assert isinstance(lm, LocalLM)
    prompts = [task.prompt(text) for text in inputs]
    firsts = first_tokens(lm, prompts, how.draws).tolist()
    asked = [prompt for prompt, tokens in zip(prompts, firsts, strict=True) for _ in tokens]
    begun = [[token] for tokens in firsts for token in tokens]
    found = iter(decode(lm, asked, _likeliest(task), likeliest, begun=begun))
    given = []
    for prompt, tokens in zip(prompts, firsts, strict=True):
        paths = [next(found) for _ in tokens]
        margins = [_margin(lm, prompt, path, task) for path in paths]
        best = max(range(len(paths)), key=lambda k: margins[k])
        given.append(Given(paths[best].text.strip(), _spent(paths), margins[best]))
    return given


def _margin(lm: LocalLM, prompt: str, path: Completion, task: Task) -> float:
    """Mean lead of the likeliest token over the second one among the tokens of the final answer; 0 without one."""
    if task.meant(path.text) is None or path.tokens is None:
        return 0.0
    lead = path.text.rpartition(task.final)[0] + task.final
    before = len(lm.wording.answer_ids([lead])[0])
    tokenised = lm.encode([prompt], [path.tokens])
    with torch.no_grad(), lm.evaluating():
        top = lm.answer_logits(tokenised)[before:].softmax(dim=1).topk(2, dim=1).values
    return float((top[:, 0] - top[:, 1]).mean()) if len(top) else 0.0


def _by_rule(rule: Callable[[LocalLM, Feedback, Tools], Rule]) -> Callable[..., list[Given]]:
    def way(lm: LM, task: Task, inputs: Sequence[str], how: Feedback, tools: Tools) -> list[Given]:
        assert isinstance(lm, LocalLM)
        prompts = [task.prompt(text) for text in inputs]
        shift = tools.shift if how.update == "intervene" else None
        pushed = heads_shifted(lm, dict(enumerate(shift))) if shift is not None else nullcontext()
        with pushed:
            found = decode(lm, prompts, _likeliest(task), rule(lm, how, tools))
        return [Given(one.text.strip(), _spent([one])) for one in found]

    return way


def _amateur(lm: LocalLM, how: Feedback, tools: Tools) -> Rule:
    if tools.amateur is None:
        raise ValueError("contrastive decoding needs a weaker model to decode against: amateur")
    return against(tools.amateur, how.alpha)


def _pushed(lm: LocalLM, how: Feedback, tools: Tools) -> Rule:
    if tools.shift is None:
        raise ValueError("an intervention needs to know which heads to push, and where to")
    return likeliest


def _sampling(task: Task, how: Feedback) -> Sampling:
    return Sampling(
        n=how.draws,
        max_tokens=task.max_tokens,
        temperature=how.temperature,
        top_p=how.top_p,
        stop=task.style.stop,
        seed=how.seed,
    )


def _likeliest(task: Task) -> Sampling:
    return Sampling(max_tokens=task.max_tokens, temperature=0.0, stop=task.style.stop)


def _spent(answers: Sequence[Completion]) -> int:
    return sum(one.completion_tokens or len(one.tokens or ()) for one in answers)


def _or_least(value: float | None) -> float:
    return float("-inf") if value is None else value


WAYS: Mapping[str, Callable[[LM, Task, Sequence[str], Feedback, Tools], list[Given]]] = {
    "greedy": _greedy,
    "vote": _vote,
    "best_of": _best_of,
    "universal": _universal,
    "refine": _refine,
    "cot_decoding": _cot_decoding,
    "tree": _tree,
    "debate": _debate,
    "contrastive": _by_rule(_amateur),
    "dola": _by_rule(lambda lm, how, tools: across_layers(lm, range(depth(lm)), how.alpha)),
    "intervene": _by_rule(_pushed),
    "abstain": _abstain,
}
