"""The discriminator: what it descends, that it learns, how it is named, and methods that let rewards learn."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
import yaml

from autodidact.cli.main import main
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.policy_gradient import PolicyGradient
from autodidact.methods.language.trajectory_balance import TrajectoryBalance
from autodidact.methods.language.two_turns import TwoTurns
from autodidact.recipes.improving import question_source
from autodidact.rewards import Answered, Lessons, named
from autodidact.rewards.discriminator import Discriminator
from autodidact.training import Settings, train

STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))
PAIRS = (("ab", "ab"), ("ab", "ba"), ("b", "bb"), ("c", "cc"))
TASK = Task("Say.", examples=tuple(Demonstration(*pair) for pair in PAIRS), style=STYLE, max_tokens=3)


@pytest.fixture
def lm():
    return tiny_lm("abc>;", width=16, depth=1, context=24)


def answers(*pairs: tuple[str, str]) -> list[Answered]:
    return [Answered(given, f"{given}>", said) for given, said in pairs]


def test_what_it_descends_is_half_the_cross_entropy_of_wanted_outputs_and_of_answers(lm):
    found = Discriminator(lm, TASK, width=8, drop=0.0)
    said = answers(("b", "a"), ("c", "cccc"), ("b", ""))
    d_real = found.judge(answers(("b", "bb"), ("c", "cc"), ("b", "bb")))
    d_said = found.judge(said)
    expected = -(sum(map(math.log, d_real)) + sum(math.log(1 - d) for d in d_said)) / 6
    assert float(found.learning(said, torch.Generator()).detach()) == pytest.approx(expected, abs=1e-6)
    assert all(0 < d < 1 for d in d_real)


def test_an_answer_is_judged_by_its_tokens_and_the_end_of_its_input_whatever_else_is_judged(lm):
    found = Discriminator(lm, TASK, width=8, most=2)
    alone = found.judge(answers(("ab", "ca")))
    among = found.judge(answers(("cab", "ca"), ("b", "abcabcabc"), ("ab", "")))
    assert among[0] == pytest.approx(alone[0], abs=1e-6)
    assert found.judge(answers(("bb", "ca")))[0] != pytest.approx(alone[0], abs=1e-6)
    blind = Discriminator(lm, TASK, width=8, most=0)
    first, second = blind.judge(answers(("bb", "ca"), ("", "ca")))
    assert first == pytest.approx(second, abs=1e-6)


def test_every_output_of_an_input_is_shown_as_often(lm):
    found = Discriminator(lm, TASK, width=8)
    shown = []
    found._logits = lambda texts, drop: shown.extend(texts[: len(texts) // 2]) or torch.zeros(len(texts))
    found.learning(answers(*[("ab", "c")] * 400), torch.Generator().manual_seed(0))
    assert shown.count(("ab", "ab")) + shown.count(("ab", "ba")) == 400
    assert 150 < shown.count(("ab", "ab")) < 250


def test_it_learns_to_tell_wanted_outputs_by_what_was_asked(lm):
    torch.manual_seed(0)
    found = Discriminator(lm, TASK, width=16, drop=0.1)
    said = answers(("b", "cc"), ("c", "bb"), ("ab", "cc"), ("ab", "aa"))
    descent = torch.optim.Adam(found.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        descent.zero_grad()
        loss = found.learning(said, generator)
        loss.backward()
        descent.step()
    assert max(found.judge(said)) < 0.2
    assert min(found.judge(answers(("b", "bb"), ("c", "cc"), ("ab", "ba")))) > 0.8


def test_it_is_named_with_its_arguments_alone_or_in_a_sum_that_then_learns(lm):
    found = named("discriminator?width=8&every=3&rate=2.5&drop=0 + 0.1*novelty", TASK, lm=lm)
    (pupil,) = found.learners
    assert isinstance(pupil, Discriminator)
    assert pupil.lessons == Lessons(every=3, rate=2.5)
    assert pupil.network.embedding.weight.shape == (7 + 2, 8)
    assert found.wants_outputs
    assert named("novelty", TASK).learners == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("discriminator?widht=8", "did you mean 'width'"),
        ("discriminator?width", r"NAME\?name=number".replace("NAME", "discriminator")),
        ("discriminator?every=1.5", "whole but for rate and drop; got 'every=1.5'"),
        ("discriminator?every=0", "every, rounds and passes of 1 or more"),
        ("discriminator?width=0", "width is at least 1"),
        ("discriminator?drop=1", "drop lies in"),
        ("discriminater", "did you mean 'discriminator'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(lm, name, said):
    with pytest.raises(ValueError, match=said):
        named(name, TASK, lm=lm)


def test_without_examples_or_a_model_there_is_nothing_to_learn_from(lm):
    with pytest.raises(ValueError, match="learns what wanted outputs look like, and the task has none"):
        PolicyGradient(lm, Task("x", inputs=("a",)), reward="discriminator")
    with pytest.raises(ValueError, match="beside a model whose tokens it reads"):
        named("discriminator", TASK)


def test_a_reward_is_due_while_it_learns_alone_and_then_every_so_many_updates():
    lessons = Lessons(every=3, alone=2)
    assert [step for step in range(10) if lessons.due(step)] == [0, 1, 2, 5, 8]


@pytest.mark.parametrize("kind", [PolicyGradient, TrajectoryBalance, TwoTurns])
def test_every_method_on_a_task_lets_a_reward_learn_first_alone_and_then_beside_the_policy(lm, kind):
    torch.manual_seed(0)
    options = {"request": ">"} if kind is TwoTurns else {}
    made = kind(lm, TASK, reward="discriminator?width=8&alone=2&passes=1&rate=1", lr_scale=1.0, **options)
    source = question_source("questions", TASK, made.questions)
    settings = Settings(steps=3, batch_size=3, lr=1e-2, weight_decay=0.0)
    start = copy.deepcopy(made.state_dict())

    def changed(part: str) -> bool:
        return any(not torch.equal(v, start[k]) for k, v in made.state_dict().items() if k.startswith(part))

    seen = []
    learning = made.reward.learning
    made.reward.learning = lambda *given: seen.append((len(given[0]), changed("policy.lm."))) or learning(*given)
    train(made, source, settings, quiet=True)
    each = 3 * made.group if kind is not TwoTurns else 3 * made.firsts * (1 + made.follow)
    assert seen == [(each, False)] * 3
    assert changed("policy.lm.")
    assert changed("reward.")


def test_on_the_command_line_a_model_learns_from_a_discriminator_and_its_loss_is_in_the_log(lm, tmp_path, capsys):
    lm.save_folder(tmp_path / "tiny")
    style = {"opening": "", "demonstration": "{input}>{output};", "question": "{input}>", "stop": [";"]}
    rows = [{"input": given, "output": said} for given, said in PAIRS]
    written = {"instruction": "Say.", "examples": rows, "style": style, "max_tokens": 3}
    (tmp_path / "say.yaml").write_text(yaml.safe_dump(written))
    command = f"improve policy_gradient --model {tmp_path}/tiny --task {tmp_path}/say.yaml --out {tmp_path}/run"
    options = "--method.reward discriminator?width=8 --method.completions 2 --epochs 2 --batch-size 3 --no-report"
    assert main([*command.split(), *options.split()]) == 0, capsys.readouterr().err
    log = (tmp_path / "run" / "log" / "metrics.csv").read_text()
    assert "loss/reward_loss" in log
    assert len((tmp_path / "run" / "examples.jsonl").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
