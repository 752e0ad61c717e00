"""Self-feedback by layer: the end of whose right answer each layer would say, question by question."""

from __future__ import annotations

import pytest
import torch

from autodidact.claims.self_feedback import _right_by_layer
from autodidact.lm.latent import exit_logits
from autodidact.lm.lm import Completion
from autodidact.lm.signals import Asked
from autodidact.lm.task import Demonstration, Task
from autodidact.lm.tiny import tiny_lm

SAID = ["=12", "=7 ", "none", "=30"]


def asked(lm: object) -> tuple[Task, list[Asked]]:
    """Questions whose right answers end as the second layer would end the first and the last of them."""
    rows = [Asked(f"q{k}", f"{k}?", [Completion(text, "stop")]) for k, text in enumerate(SAID)]
    ends = [likeliest(lm, row, 2) for row in rows if row.answers[0].text != "none"]
    wanted = [ends[0], "x" if ends[1] != "x" else "=", "1", ends[2]]
    test = tuple(Demonstration(row.input, output) for row, output in zip(rows, wanted, strict=True))
    return Task("Answer.", test=test, final="="), rows


def likeliest(lm: object, row: Asked, layer: int) -> str:
    """What a layer would say in the place of the answer's last symbol."""
    tokens = lm.encode([row.prompt], [row.answers[0].text.rstrip()], end=False)  # type: ignore[attr-defined]
    with torch.no_grad():
        states = lm.hidden(tokens, [layer])[layer]  # type: ignore[attr-defined]
        place = int(tokens.answer[0].nonzero().max()) - 1
        token = int(exit_logits(lm, states[0, place : place + 1], layer).argmax())  # type: ignore[arg-type]
    return lm.wording.tokenizer.decode([token])  # type: ignore[attr-defined]


def test_a_layer_is_right_where_it_would_end_the_right_answer() -> None:
    lm = tiny_lm("0123456789?=x none", width=16, depth=2, heads=2, context=32, seed=5)
    task, rows = asked(lm)
    found = _right_by_layer(lm, task, rows)
    assert set(found) == {"right.0", "right.1", "right.2"}
    assert found["right.2"] == pytest.approx(100 * 2 / 4)
    for layer in (0, 1):
        right = sum(
            likeliest(lm, row, layer) == one.output
            for row, one in zip(rows, task.test, strict=True)
            if row.answers[0].text != "none"
        )
        assert found[f"right.{layer}"] == pytest.approx(100 * right / 4)


def test_where_nothing_has_a_final_answer_no_layer_is_right() -> None:
    lm = tiny_lm("0123456789?=x none", width=16, depth=1, heads=2, context=32, seed=5)
    task = Task("Answer.", test=(Demonstration("q", "1"),), final="=")
    found = _right_by_layer(lm, task, [Asked("q", "q?", [Completion("none", "stop")])])
    assert found == {"right.0": 0.0, "right.1": 0.0}
