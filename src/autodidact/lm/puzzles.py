"""Questions with options, answers and human rationales: the fields of PuzzleBen (2405.04086), as inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

FINAL = "Answer:"
"""Stands between a rationale and the answer, unless a task says otherwise."""
LETTERED = re.compile(r"\(?([A-Za-z])[).:]\s*")
"""A letter before the text of an option: "A.", "A)", "(A)" or "A:"."""


def is_puzzle(row: Any) -> bool:
    """Whether an entry is a question of this form, not one of input and output."""
    return isinstance(row, Mapping) and "question" in row


def puzzle(row: Mapping[str, Any], final: str = FINAL) -> dict[str, str]:
    """An entry of input and output; of input alone where there is no answer, or an empty one.

    The input is the question with its options, a line each and lettered from A. The output is the rationale, `final`,
    and the answer, all in one line, for a line break ends what a model writes: of options it is the letter. Further
    fields, such as a difficulty, are left out.

    Parameters
    ----------
    row : "question"; where known "answer" and "rationale"; "options" as a list of two to 26 texts, or texts by letter.
        Letters that already stand before all of the options are taken off. The answer of options is the letter ("B",
        "b", "(B)"), the text, or both ("B. rain").

    Raises
    ------
    ValueError : a question that is empty or none, options that are none, empty or alike, an answer that is none of the
        options.
    """
    question = _text(row["question"])
    if not question:
        raise ValueError(f"a puzzle needs a question, got {dict(row)}")
    options = _options(row.get("options"))
    asked = {"input": "\n".join([question, *(f"{letter}. {text}" for letter, text in options.items())])}
    answer = _line(row.get("answer"))
    if not answer:
        return asked
    if options:
        letter = _letter(answer, options)
        if letter is None:
            raise ValueError(
                f"the answer {answer!r} of {question!r} is none of its options {', '.join(options.values())}"
            )
        answer = letter
    return {**asked, "output": " ".join(filter(None, (_line(row.get("rationale")), final, answer)))}


def _text(given: Any) -> str:
    return "" if given is None else str(given).strip()


def _line(given: Any) -> str:
    return " ".join(_text(given).split())


def _letter(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that an answer names."""
    by_text = {text: letter for letter, text in options.items()}
    if answer in options:
        return answer
    if answer in by_text:
        return by_text[answer]
    bare = answer.strip("().: ").upper()
    if bare in options:
        return bare
    named = LETTERED.match(answer)
    letter = named[1].upper() if named else ""
    return letter if named and options.get(letter) == answer[named.end() :] else None


def _options(given: Any) -> dict[str, str]:
    """Texts by letter."""
    if not given:
        return {}
    if not isinstance(given, Mapping | list | tuple) or not 2 <= len(given) <= len(ascii_uppercase):
        raise ValueError(f"options are a list of two to {len(ascii_uppercase)} texts, or texts by letter; got {given}")
    letters = [str(one).strip("().: ") for one in given] if isinstance(given, Mapping) else [*ascii_uppercase]
    found = [_line(one) for one in (given.values() if isinstance(given, Mapping) else given)]
    letters = [one.upper() if len(one) == 1 else one for one in letters[: len(found)]]
    before = [LETTERED.match(text) for text in found]
    if all(one and one[1].upper() == letter for one, letter in zip(before, letters, strict=True)):
        found = [text[one.end() :] for text, one in zip(found, before, strict=True) if one]
    if "" in found:
        raise ValueError(f"an option is empty: {given}")
    if len({*found}) < len(found) or len({*letters}) < len(letters):
        raise ValueError(f"two options are the same: {given}")
    return dict(zip(letters, found, strict=True))
