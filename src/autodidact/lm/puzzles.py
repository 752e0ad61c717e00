"""Questions with options, answers and human rationales: the fields of PuzzleBen (2405.04086), as inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

FINAL = "Answer:"
"""Stands between a rationale and the answer, unless a task says otherwise."""


def is_puzzle(row: Any) -> bool:
    """Whether an entry is a question of this form, not one of input and output."""
    return isinstance(row, Mapping) and "question" in row


def puzzle(row: Mapping[str, Any], final: str = FINAL) -> dict[str, str]:
    """An entry of input and output; of input alone where there is no answer.

    The input is the question with its options, a line each and lettered from A. The output is the rationale in one
    line, `final`, and the answer: the letter, where there are options. Further fields, such as a difficulty, are left
    out.

    Parameters
    ----------
    row : "question"; where known "answer" (of options the letter or the text) and "rationale"; "options" as a list of
        texts, or texts by letter.

    Raises
    ------
    ValueError : a question that is empty, options that are none, an answer that is none of the options.
    """
    question = str(row["question"]).strip()
    if not question:
        raise ValueError(f"a puzzle needs a question, got {dict(row)}")
    options = _options(row.get("options"))
    asked = {"input": "\n".join([question, *(f"{letter}. {text}" for letter, text in options.items())])}
    if row.get("answer") is None:
        return asked
    answer = str(row["answer"]).strip()
    if options:
        by_text = {text: letter for letter, text in options.items()}
        letter = answer if answer in options else by_text.get(answer)
        if letter is None:
            raise ValueError(f"the answer {answer!r} of {question!r} is none of its options {', '.join(by_text)}")
        answer = letter
    rationale = " ".join(str(row.get("rationale") or "").split())
    return {**asked, "output": " ".join(filter(None, (rationale, final, answer)))}


def _options(given: Any) -> dict[str, str]:
    """Texts by letter."""
    if not given:
        return {}
    if isinstance(given, Mapping):
        return {str(letter).strip(): str(text).strip() for letter, text in given.items()}
    if not isinstance(given, list | tuple) or not 2 <= len(given) <= len(ascii_uppercase):
        raise ValueError(f"options are a list of two to {len(ascii_uppercase)} texts, or texts by letter; got {given}")
    return {letter: str(text).strip() for letter, text in zip(ascii_uppercase, given, strict=False)}
