"""Questions whose answer is begun already: likelihood of the beginning, roll-outs of the rest (MIXER, 1511.06732)."""

from __future__ import annotations

from dataclasses import dataclass

from autodidact.lm.lm import Message, Prompt, Tokens
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.rewards import Answered
from autodidact.rollouts.judging import Question


@dataclass(frozen=True)
class Begun(Question):
    """A question with the beginning of the wanted answer, after which a policy goes on.

    Attributes
    ----------
    given : tokens of the beginning; may be none.
    begun : what they say.
    read : the prompt with them.
    """

    given: tuple[int, ...] = ()
    begun: str = ""
    read: Prompt | None = None

    @property
    def asked(self) -> Prompt | str:
        return self.prompt if self.read is None else self.read

    def answered(self, text: str) -> Answered:
        return super().answered(self.begun + text)


def begun(lm: LocalLM, task: Task, question: Question, share: float) -> Question:
    """A question with the first `share` of its wanted answer's tokens; as it is where it has none.

    Parameters
    ----------
    share : in [0, 1].
    """
    if question.wanted is None or share <= 0:
        return question
    (whole,) = lm.wording.answer_ids([task.answer(question.wanted)])
    given = tuple(whole[: round(share * len(whole))])
    (before,) = lm.wording.prompt_ids([Prompt.of(question.prompt)])
    text = lm.wording.text(given)
    read = Tokens((Message("user", question.prompt), Message("assistant", text)), (*before, *given))
    return Begun(question.input, question.prompt, question.wanted, given, text, read)
