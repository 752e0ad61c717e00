"""Values that start from a reward model: what they read, that they learn, and when there is nothing to start from."""

from __future__ import annotations

import pytest
import torch

from autodidact.lm.judging import JudgeForm
from autodidact.lm.reward_model import RewardModel
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.lm.tokenised import Tokenised
from autodidact.methods.language.policy_gradient import PolicyGradient
from autodidact.recipes.improving import question_source
from autodidact.rewards import named
from autodidact.rewards.learned import Learned
from autodidact.rewards.reward import Weighted
from autodidact.rewards.rules import Length
from autodidact.rollouts.valuing import reward_values
from autodidact.training import Settings, train

TASK = Task(
    "Write.",
    examples=tuple(Demonstration(a + b, a) for a in "abc" for b in "abc"),
    style=Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",)),
    judge=JudgeForm(reward="{input}>{answer}{principles}"),
    max_tokens=3,
)


@pytest.fixture
def lm():
    return tiny_lm("abc>;", width=16, depth=2, context=24)


@pytest.fixture
def reward():
    """A reward model of another trunk than the policy's, whose head says something."""
    made = RewardModel(tiny_lm("abc>;", width=8, depth=1, context=24, seed=5), TASK, ())
    torch.nn.init.normal_(made.head.weight, generator=torch.Generator().manual_seed(1))
    torch.nn.init.constant_(made.head.bias, 0.3)
    return made


def method(lm, model, **options) -> PolicyGradient:
    options = {"estimator": "ppo", "value": "reward", "reward": Learned(model), "group": 3, "lr_scale": 1.0, **options}
    return PolicyGradient(lm, TASK, **options)


def test_the_value_before_a_token_begins_as_the_reward_of_what_stands_there(lm, reward):
    made = method(lm, reward)
    found = made.rolled([made._questions[text] for text in ("ab", "cc")], 3)
    tokens, values, _ = found.valued
    for row, place in found.tokens.answer.nonzero().tolist():
        ids = found.tokens.ids[row, :place].tolist()
        alone = reward.read(Tokenised.of([(ids, [])]))
        assert float(values[row, place]) == pytest.approx(float(alone.detach()), abs=1e-5)
    assert tokens is found.tokens


def test_the_value_learns_as_a_whole_and_moves_neither_policy_nor_reward_model(lm, reward):
    made = method(lm, reward)
    found = made.rolled([made._questions["ab"]], 3)
    total = made.value_loss_of(found).total
    own = [one for _, one in made.value.named_parameters()]
    others = [*lm.parameters(), *reward.parameters()]
    grads = torch.autograd.grad(total, [*own, *others], allow_unused=True)
    assert all(grad is None for grad in grads[len(own) :])
    # The head of the tokens, which no value needs, is all that gets none.
    unused = {name for (name, _), grad in zip(made.value.named_parameters(), grads, strict=False) if grad is None}
    assert unused == {"model.lm.module.lm_head.weight"}
    before = {name: value.clone() for name, value in made.value.state_dict().items()}
    kept = [value.clone() for value in reward.state_dict().values()]
    source = question_source("questions", TASK, made.questions)
    train(made, source, Settings(steps=3, batch_size=3, lr=1e-2, weight_decay=0.0), quiet=True)
    moved = {name for name, value in made.value.state_dict().items() if not torch.equal(value, before[name])}
    assert {"model.head.weight", "model.lm.module.model.layers.0.mlp.up_proj.weight"} <= moved
    assert all(torch.equal(value, then) for value, then in zip(reward.state_dict().values(), kept, strict=True))


def test_there_must_be_one_reward_model_with_the_policys_tokens_and_an_estimator_that_learns_values(lm, reward):
    with pytest.raises(ValueError, match="this reward asks 0; let it start fresh"):
        method(lm, reward, reward="length:3")
    twice = Weighted([(1.0, Learned(reward)), (0.5, Learned(reward))])
    with pytest.raises(ValueError, match="this reward asks 2"):
        method(lm, reward, reward=twice)
    with pytest.raises(ValueError, match="'rloo' learns no value"):
        method(lm, reward, estimator="rloo")
    with pytest.raises(ValueError, match="unknown start of the value 'rewards'; did you mean 'reward'"):
        method(lm, reward, value="rewards")
    foreign = RewardModel(tiny_lm("abcd>;", width=8, depth=1, context=24), TASK, ())
    with pytest.raises(ValueError, match="reads the tokens of tiny, and tiny has others"):
        method(lm, foreign)
    beside = Weighted([(1.0, Learned(reward)), (0.1, Length(3))])
    assert reward_values(beside, lm).model is not reward


def test_a_saved_reward_model_is_where_a_value_starts_from_by_its_folder(lm, reward, tmp_path):
    reward.save(tmp_path / "rm")
    made = method(lm, reward, reward=named(str(tmp_path / "rm"), TASK))
    torch.testing.assert_close(made.value.model.head.weight, reward.head.weight)
