"""Signals of how sure a model is, and answers by way of them, on scripted models whose every draw is known."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from tests.lm.loopback import Loopback

from autodidact.lm import Completion, Incapable, Prompt, Sampling
from autodidact.lm.decoding import first_tokens
from autodidact.lm.endpoint import EndpointLM
from autodidact.lm.latent import answer_exits, heads_scaled
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.signals import SIGNALS, Asked, signal_values
from autodidact.lm.task import Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.lm.updates import Feedback, _margin, answered, critique, elected, sampled
from autodidact.measures.uncertainty import eigen_score

STYLE = Style(opening="", demonstration="{input}?{output}", question="{input}?", stop=())
SUMS = Task("Add.", checker="number", final=">", style=STYLE, max_tokens=16)
SAID = ["a>4", "b>04", "c>5", "d"]


def asked(*texts: str, logprobs: bool = True, meant: str = "1+3") -> Asked:
    told = [tuple([-0.5 * (k + 1)] * 2) if logprobs else None for k in range(len(texts))]
    answers = [
        Completion(text, "stop", logprobs=each, completion_tokens=2) for text, each in zip(texts, told, strict=True)
    ]
    return Asked(meant, f"{meant}?", answers)


class Choosing(ScriptedLM):
    """Says what its script says, and chooses by a function of the prompt."""

    def __init__(self, script, choice) -> None:
        super().__init__(script)
        self.choice = choice

    def choose(self, prompts, options, *, divided=True):
        self.shown = [Prompt.of(prompt).text for prompt in prompts]
        return np.array([self.choice(prompt, len(options)) for prompt in self.shown])


MUTE = ScriptedLM(lambda _: "", name="mute", capabilities=("generate",))


def values(name: str, row: Asked, lm=MUTE, task=SUMS) -> list[float | None]:
    return signal_values(name, lm, task, [row])[0]


def test_votes_and_entropies_are_over_what_answers_come_to():
    row = asked(*SAID)
    assert values("vote_share", row) == [0.5, 0.5, 0.25, None]
    shares = [count / 4 for count in Counter(["4", "4", "5", "none"]).values()]
    assert values("semantic_entropy", row) == pytest.approx([sum(p * math.log(p) for p in shares)] * 4)
    # Means of log-probabilities are -0.5, -1, -1.5, -2.
    weights = [math.exp(-0.5 * k) for k in (1, 2, 3, 4)]
    classes = [(weights[0] + weights[1]), weights[2], weights[3]]
    weighted = sum(w / sum(weights) * math.log(w / sum(weights)) for w in classes)
    assert values("weighted_entropy", row)[0] == pytest.approx(weighted)
    assert values("semantic_entropy", asked("x>1", "y>1.0")) == [0.0, 0.0]
    assert values("semantic_entropy", asked(*"abc"))[0] == pytest.approx(-math.log(3))


def test_the_order_of_samples_does_not_matter_and_a_finer_meaning_is_never_surer():
    row, turned = asked(*SAID), asked(*reversed(SAID))
    assert values("semantic_entropy", row)[0] == pytest.approx(values("semantic_entropy", turned)[0])
    plain = Task("Add.", style=STYLE)
    assert values("semantic_entropy", row, task=plain)[0] <= values("semantic_entropy", row)[0]


def test_a_single_sample_has_no_spread():
    row = asked("a>4")
    assert values("semantic_entropy", row) == values("sample_entropy", row) == values("weighted_entropy", row) == [None]
    assert values("vote_share", row) == [1.0]


def test_token_confidence_is_of_the_answers_own_tokens():
    row = asked("a>4", "b>4")
    assert values("mean_logprob", row) == [-0.5, -1.0]
    assert values("least_logprob", row) == [-0.5, -1.0]
    assert values("sample_entropy", row) == [-1.5, -1.5]


def test_a_model_is_shown_its_answer_and_asked_whether_it_is_true():
    lm = Choosing(lambda _: "", lambda prompt, _: [0.8, 0.2] if ">4" in prompt else [0.1, 0.9])
    assert values("p_true", asked("a>4", "b>5"), lm) == [0.8, 0.1]
    assert lm.shown[0].startswith("1+3?a>4\n")


def test_a_number_that_the_model_says_is_its_confidence():
    said = iter(["I am 80 % sure", "no idea", "250"])
    assert values("verbal", asked("a>4", "b>5", "c>6"), ScriptedLM(lambda _: next(said))) == [0.8, None, 1.0]


def test_statements_are_borne_out_by_the_other_samples():
    lm = Choosing(lambda _: "", lambda prompt, _: [1.0, 0.0] if "red" in prompt.partition("\n")[0] else [0.0, 1.0])
    row = asked("It is red. It is big", "red", "blue")
    # Each of two statements is held against "red" and "blue"; of these the first speaks for everything.
    assert values("support", row, lm)[0] == 0.5
    assert values("support", asked("alone"), lm) == [None]


def test_meanings_may_be_told_by_the_model_in_both_directions():
    def same(prompt: str, _: int) -> list[float]:
        lines = prompt.splitlines()
        text, statement = lines[0].removeprefix("Text: "), lines[1].removeprefix("Statement: ")
        return [0.9, 0.1] if {text, statement} <= {"four", "4"} or statement == "a number" else [0.1, 0.9]

    lm = Choosing(lambda _: "", same)
    found = values("entailed_entropy", asked("four", "4", "a number"), lm)
    assert found[0] == pytest.approx(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))


@pytest.mark.parametrize("name", [name for name, signal in SIGNALS.items() if "choose" in signal.needs])
def test_a_capability_that_is_missing_is_named_with_its_signal(name):
    with pytest.raises(Incapable, match=f"the signal '{name}' needs a model that can choose; mute can generate"):
        values(name, asked("a>4", "b>4"))


@pytest.mark.parametrize("name", [name for name, signal in SIGNALS.items() if "latent" in signal.needs])
def test_layers_are_read_only_where_they_can_be_and_say_something_of_every_answer(name):
    with pytest.raises(Incapable, match=f"the signal '{name}' needs a model that can latent"):
        values(name, asked("a>4", "b>4"))
    lm = tiny_lm("0123456789+?>=", width=16, depth=2, context=32, seed=1)
    task = Task("Add.", style=STYLE, max_tokens=4)
    rows = sampled(lm, task, ["1+3", "2+2"], Feedback(draws=3))
    found = signal_values(name, lm, task, rows)
    assert [len(row) for row in found] == [3, 3]
    assert all(value is None or math.isfinite(value) for row in found for value in row)
    assert signal_values(name, lm, task, rows) == found


def test_token_entropy_is_that_of_the_distributions_before_the_tokens():
    lm = tiny_lm("0123456789+?>=", width=16, depth=2, context=32, seed=1)
    row = sampled(lm, Task("Add.", style=STYLE, max_tokens=4), ["1+3"], Feedback(draws=2))[0]
    for one, value in zip(row.answers, values("token_entropy", row, lm), strict=True):
        logits = lm.answer_logits(lm.encode([row.prompt], [one.tokens])).double()
        p = logits.softmax(1)
        assert value == pytest.approx((p * p.log()).sum(1).mean().item(), abs=1e-5)


SPOKEN = Task("Add.", style=STYLE, max_tokens=4)


@pytest.fixture(scope="module")
def speaking():
    """A small model whose heads say different things, and what it said to two questions."""
    lm = tiny_lm("0123456789+?>=", width=16, depth=2, context=32, seed=1)
    with torch.no_grad():
        for layer in lm.causal.model.layers:
            layer.self_attn.o_proj.weight.mul_(40)
        lm.causal.lm_head.weight.mul_(4)
    return lm, sampled(lm, SPOKEN, ["1+3", "2+2"], Feedback(draws=4, temperature=1.0))


def exits_of(lm, row: Asked, one: Completion, layers: list[int]) -> dict[int, torch.Tensor]:
    found = answer_exits(lm, lm.encode([row.prompt], [one.tokens]), layers)
    return {layer: logits.detach().double().softmax(1) for layer, logits in found.items()}


def test_early_exits_are_surer_the_less_the_middle_layer_differs_from_the_last(speaking):
    lm, rows = speaking
    for row, found in zip(rows, signal_values("early_exits", lm, SPOKEN, rows), strict=True):
        for one, value in zip(row.answers, found, strict=True):
            shares = exits_of(lm, row, one, [1, 2])
            p, q, m = shares[1], shares[2], (shares[1] + shares[2]) / 2
            apart = ((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1)) / 2
            assert value == pytest.approx(-float(apart.mean()), abs=1e-5)
            assert value < -1e-3


def test_settling_is_surer_the_earlier_the_likeliest_token_stays(speaking):
    lm, rows = speaking
    values = signal_values("settling", lm, SPOKEN, rows)
    for row, found in zip(rows, values, strict=True):
        for one, value in zip(row.answers, found, strict=True):
            likeliest = torch.stack([shares.argmax(1) for shares in exits_of(lm, row, one, [0, 1, 2]).values()])
            first = []
            for tokens in likeliest.T.tolist():
                first.append(next(k for k in range(3) if len(set(tokens[k:])) == 1))
            assert value == pytest.approx(-np.mean(first) / 2)
    assert len({value for found in values for value in found}) > 1


def test_the_spread_of_states_is_that_of_the_samples_last_tokens_and_less_of_it_is_surer(speaking):
    lm, rows = speaking
    values = signal_values("spread_of_states", lm, SPOKEN, rows)
    for row, found in zip(rows, values, strict=True):
        with torch.no_grad():
            last = [lm.hidden(lm.encode([row.prompt], [one.tokens]), [1])[1][0, -1] for one in row.answers]
        spread = eigen_score(torch.stack(last).double().numpy())
        assert found == pytest.approx([-spread] * len(row.answers), rel=1e-3)
    # The same sample four times is spread less, hence surer.
    alike = Asked(rows[0].input, rows[0].prompt, [rows[0].answers[0]] * 4)
    assert signal_values("spread_of_states", lm, SPOKEN, [alike])[0][0] > values[0][0]


def test_heads_agree_on_what_each_says_with_the_others_at_half_strength(speaking):
    lm, rows = speaking
    sampling = Sampling(max_tokens=4, temperature=0.0)

    def said(*scales: float) -> list[str]:
        with heads_scaled(lm, {1: torch.tensor(scales)}):
            return [found[0].text.strip() for found in lm.generate([row.prompt for row in rows], sampling)]

    alone, none = (said(1.0, 0.5), said(0.5, 1.0)), said(0.5, 0.5)
    assert alone[0] != alone[1]
    assert none not in alone
    told = list(zip(*alone, none, strict=True))
    shown = [
        Asked(row.input, row.prompt, [Completion(text, "stop") for text in texts])
        for row, texts in zip(rows, told, strict=True)
    ]
    found = signal_values("head_agreement", lm, SPOKEN, shown)
    assert found == [[texts[:2].count(text) / 2 for text in texts] for texts in told]


def test_answers_without_log_probabilities_are_missed_by_name():
    with pytest.raises(Incapable, match="the signal 'mean_logprob' needs the log-probabilities of answers; mute"):
        values("mean_logprob", asked("a>4", logprobs=False))
    with pytest.raises(ValueError, match="did you mean 'vote_share'"):
        values("vote_shares", asked("a>4"))


@pytest.mark.parametrize("name", [name for name, signal in SIGNALS.items() if signal.logprobs])
def test_an_endpoint_that_tells_no_log_probabilities_of_its_answers_is_named_with_the_signal(name, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Loopback(ScriptedLM(lambda _: {"a>4": -0.5, "b>5": -1.0})) as server:
        lm = EndpointLM("tiny", server.address)
        rows = sampled(lm, SUMS, ["1+3"], Feedback(draws=2))
        assert signal_values("vote_share", lm, SUMS, rows)[0][0] is not None
        with pytest.raises(Incapable, match=f"the signal '{name}' needs the log-probabilities of answers; tiny@http"):
            signal_values(name, lm, SUMS, rows)


def given(how: Feedback, lm, *inputs: str, task=SUMS):
    return answered(lm, task, inputs or ("1+3",), how)


def test_a_vote_gives_the_first_sample_of_what_most_come_to_and_nothing_where_none_comes_to_anything():
    lm = ScriptedLM({"1+3?": ["c>5", *SAID[:2], "d"], "9?": ["x", "y", "", ""]})
    found = given(Feedback(draws=4), lm, "1+3", "9")
    assert [(one.text, one.confidence) for one in found] == [("a>4", 0.5), ("", None)]
    assert elected(asked("", ""), SUMS) == (None, None)


def test_best_of_takes_the_surest_sample_and_abstaining_keeps_back_what_is_below_the_threshold():
    lm = Choosing({"1+3?": SAID[:3]}, lambda prompt, _: [0.9, 0.1] if ">5" in prompt else [0.2, 0.8])
    assert given(Feedback("best_of", "p_true", draws=3), lm)[0].text == "c>5"
    sure, unsure = (given(Feedback("abstain", draws=3, threshold=t), lm)[0] for t in (0.6, 0.7))
    assert (sure.text, unsure.text, unsure.first) == ("a>4", "", "a>4")
    assert unsure.confidence == pytest.approx(2 / 3)


def test_the_model_picks_the_most_consistent_answer_by_its_number():
    lm = Choosing({"1+3?": SAID[:3]}, lambda prompt, n: [0.1, 0.7, 0.2])
    assert given(Feedback("universal", draws=3), lm)[0].text == "b>04"
    assert "Question: 1+3\n\n1: a>4\n2: b>04\n3: c>5" in lm.shown[0]
    assert Feedback("universal", draws=40).draws == 9


class Talking(ScriptedLM):
    """Answers by the last turn of the conversation."""

    def __init__(self, reply) -> None:
        super().__init__(lambda _: "")
        self.reply, self.turns = reply, []

    def generate(self, prompts, sampling):
        found = []
        for prompt in map(Prompt.of, prompts):
            self.turns.append([message.text for message in prompt.messages])
            said = [self.reply(self.turns[-1], k) for k in range(sampling.n)]
            found.append([Completion(text, "stop", completion_tokens=1, sample=k) for k, text in enumerate(said)])
        return found


def test_an_answer_is_criticised_and_revised_until_it_stays_and_the_first_one_is_remembered():
    def reply(turns: list[str], _: int) -> str:
        if len(turns) == 1:
            return ">3"
        return "too small" if turns[-1] == "why?" else {">3": ">4", "too small": ">4"}.get(turns[-2], ">4")

    lm = Talking(reply)
    found = given(Feedback("refine", rounds=9, critique="why?", revise="again"), lm)[0]
    assert (found.text, found.first) == (">4", ">3")
    # Answer; criticism and a new answer; criticism and the same answer again.
    assert [turns[-1] for turns in lm.turns] == ["1+3?", "why?", "again", "why?", "again"]
    assert found.tokens == 5
    assert critique(lm, SUMS, ["1+3"], [Completion(">3", "stop")], Feedback(critique="why?")) == ["too small"]


def test_without_a_criticism_an_answer_is_revised_at_once():
    lm = Talking(lambda turns, _: ">4")
    given(Feedback("refine", critique="", revise="again"), lm)
    assert [turns[-1] for turns in lm.turns] == ["1+3?", "again"]


@pytest.mark.parametrize("order", permutations(range(3)))
def test_a_debate_does_not_depend_on_which_agent_is_which(order):
    first = [">4", ">5", ">6"]

    def reply(turns: list[str], k: int) -> str:
        if len(turns) == 1:
            return first[order[k]]
        # Who hears of a 4 gives in.
        return ">4" if ">4" in turns[-1] else turns[-2]

    lm = Talking(reply)
    found = given(Feedback("debate", agents=3, rounds=1), lm)[0]
    assert (found.text, found.confidence) == (">4", 1.0)
    heard = sorted(turns[-1] for turns in lm.turns if len(turns) > 1)
    assert [text.split("Others answered:\n")[1].split("\nWith")[0] for text in heard] == [">4\n>5", ">4\n>6", ">5\n>6"]
    assert found.tokens == 6


@pytest.mark.parametrize("order", permutations(range(3)))
@pytest.mark.parametrize(
    ("last", "text", "share"), [((">6", ">4", ">5"), ">4", 1 / 3), ((">7", "so>07", ">5"), ">7", 2 / 3)]
)
def test_which_answer_wins_a_debate_without_a_winner_does_not_either(order, last, text, share):
    lm = Talking(lambda turns, k: last[order[k]] if len(turns) == 1 else turns[-2])
    found = given(Feedback("debate", agents=3, rounds=1), lm)[0]
    assert (found.text, found.confidence) == (text, pytest.approx(share))


@pytest.mark.parametrize("name", ["token_entropy", "early_exits", "settling", "spread_of_states"])
def test_a_signal_of_a_model_whose_logits_are_no_numbers_is_an_error(name):
    broken = tiny_lm("0123456789+?>", width=16, depth=2, context=32)
    with torch.no_grad():
        # In the middle, so that every later layer has them.
        for weight in broken.causal.model.layers[0].parameters():
            weight.fill_(float("nan"))
    drawn = [Completion(text, "stop", completion_tokens=2) for text in (">4", ">5")]
    with pytest.raises(ValueError, match=r"no numbers|hold NaN"):
        values(name, Asked("1+3", "1+3?", drawn), broken)


def test_a_tree_keeps_the_likeliest_partial_answers_until_one_is_final():
    steps = {
        "1+3?": {"good": math.log(0.6), "bad": math.log(0.4)},
        "1+3?good;": {"end>4": math.log(0.9), "more": math.log(0.1)},
        "1+3?bad;": {"end>5": 0.0},
        "1+3?good;more;": {"end>6": 0.0},
    }
    lm = ScriptedLM(lambda prompt: steps[prompt])
    found = given(Feedback("tree", breadth=6, depth=3, step=";", temperature=1.0), lm)[0]
    # Likelier a token than "bad;end>5" and "good;more;end>6"; both steps were looked at.
    assert found.text == "good;end>4"
    assert {"1+3?good;", "1+3?bad;"} <= set(lm.asked)
    with pytest.raises(ValueError, match="must know what stands before a final answer"):
        given(Feedback("tree"), lm, task=Task("Add.", style=STYLE))


def test_a_step_of_many_likely_tokens_beats_one_of_a_single_less_likely_token():
    steps = {"1+3?": {"a>4": math.log(0.6), "a longer answer>5": math.log(0.4)}}
    found = given(Feedback("tree", breadth=6, depth=1, step=";", temperature=1.0), ScriptedLM(lambda p: steps[p]))[0]
    # A token of the longer one is likelier on average, though it is less likely as a whole.
    assert found.text == "a longer answer>5"


def test_of_the_paths_of_cot_decoding_the_greatest_margin_wins(monkeypatch):
    lm = tiny_lm("0123456789+?>=", width=16, depth=2, context=32, seed=1)
    task = Task("Add.", style=STYLE, max_tokens=2, final=">")
    begun = {lm.wording.text([token]) for token in first_tokens(lm, ["1+3?"], 3)[0].tolist()}
    assert len(begun) == 3
    for wanted in begun:
        monkeypatch.setattr(
            "autodidact.lm.updates._margin", lambda lm, prompt, path, task, top=wanted: 0.9 * path.text.startswith(top)
        )
        found = given(Feedback("cot_decoding", draws=3), lm, task=task)[0]
        assert found.text.startswith(wanted)
        assert found.confidence == 0.9


def test_a_margin_is_the_lead_over_the_second_token_among_those_of_the_final_answer():
    lm = tiny_lm("0123456789+?>=", width=16, depth=2, context=32, seed=1)
    (ids,) = lm.wording.answer_ids(["2>=>42"])
    path = Completion("2>=>42", "stop", tokens=tuple(ids), logprobs=(0.0,) * len(ids))
    with torch.no_grad():
        shares = lm.answer_logits(lm.encode(["1+3?"], [ids])).double().softmax(1)[4:]
    leads = [row[-1] - row[-2] for row in (sorted(each) for each in shares.tolist())]
    assert len(leads) == 2
    assert _margin(lm, "1+3?", path, SUMS) == pytest.approx(np.mean(leads), abs=1e-6)
    assert _margin(lm, "1+3?", Completion("42", "stop", tokens=tuple(ids[4:])), SUMS) == 0


def test_cot_decoding_takes_the_path_whose_final_answer_leads_most():
    lm = tiny_lm("0123456789+?>=", width=16, depth=2, context=32, seed=1)
    task = Task("Add.", style=STYLE, max_tokens=4)
    found = given(Feedback("cot_decoding", draws=3), lm, task=SUMS)[0]
    assert 0 <= found.confidence <= 1
    with pytest.raises(ValueError, match="must know what stands before a final answer"):
        given(Feedback("cot_decoding"), lm, task=task)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"update": "votes"}, "did you mean 'vote'"),
        ({"draws": 1}, "draws must be at least 2"),
        ({"temperature": 0.0}, "above 0"),
        ({"alpha": 2.0}, r"alpha lies in \[0, 1\]"),
        ({"pick": "which?"}, "pick must name {answers} and nothing else"),
        ({"debate": "again"}, "debate must name {others} and nothing else"),
        ({"step": ""}, "ends with a text"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Feedback(**options)


@pytest.mark.parametrize("update", ["dola", "contrastive", "intervene", "cot_decoding"])
def test_what_needs_layers_says_so_by_its_name(update):
    with pytest.raises(Incapable, match=f"the update '{update}' needs a model that can latent"):
        given(Feedback(update), MUTE)
