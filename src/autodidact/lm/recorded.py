"""A transcript of everything a model was asked and said, one JSON line each, and the model that says it again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from autodidact.lm.answering import Answer, Request, Wrapped, answer_of, answers, plain_answer, request_of
from autodidact.lm.lm import LM
from autodidact.lm.scripted import Replayed


class Recorded(Wrapped):
    """A model whose requests are written down with their answers as these arrive.

    A line has the model's name, the number of the call in this process, the request, the answer (with its tokens, where
    the model tells them) and the seconds from the beginning of the call to its arrival. A call that fails leaves a line
    with the error. Each line is durable before the answer is handed over; half a line that a crash has left is cut off
    when the file is next opened. One process writes to a transcript. Around a `Cached` model it has what was asked;
    inside one, what had to be paid for.

    Parameters
    ----------
    lm : the model.
    path : of the transcript, which is continued where it exists.
    clock : seconds that have passed since some moment.
    """

    def __init__(self, lm: LM, path: str | Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(lm)
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _cut_half_a_line(self.path)
        self._clock = clock
        self._calls = 0
        self._turn = Lock()

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        with self._turn:
            call = self._calls
            self._calls += 1
        began = self._clock()
        try:
            for position, answer in answers(self.lm, requests):
                self._write(call, began, request=requests[position].plain(), answer=plain_answer(answer))
                yield position, answer
        except Exception as error:
            self._write(call, began, error=f"{type(error).__name__}: {error}")
            raise

    def _write(self, call: int, began: float, **what: Any) -> None:
        seconds = round(self._clock() - began, 6)
        line = json.dumps({"model": self.name, "call": call, **what, "seconds": seconds}) + "\n"
        with self._turn, self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
            os.fsync(file.fileno())


def _cut_half_a_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        whole = end = file.seek(0, os.SEEK_END)
        # From the end in blocks, for a transcript can be long.
        while whole:
            start = max(0, whole - 65536)
            file.seek(start)
            found = file.read(whole - start).rfind(b"\n")
            whole = start + found + 1
            if found >= 0:
                break
        if whole < end:
            file.truncate(whole)


def read_transcript(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a transcript, without half a line at its end.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : a line is not one of a transcript.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such transcript: {path}")
    lines = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            lines.append(json.loads(line))
        except ValueError as broken:
            raise ValueError(f"line {number} of {path} is not JSON: {broken}") from broken
        if not isinstance(lines[-1], dict) or "model" not in lines[-1]:
            raise ValueError(f"line {number} of {path} is not one of a transcript: it names no model")
    return lines


def replay(path: str | Path) -> Replayed:
    """The model of a transcript: it answers the requests in there as they were answered, and no others.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is not a transcript, it has no answers, or those of several models.
    """
    lines = [line for line in read_transcript(path) if "answer" in line]
    names = sorted({line["model"] for line in lines})
    if len(names) != 1:
        raise ValueError(f"{path} must have the answers of one model, it has those of {', '.join(names) or 'none'}")
    requests = [request_of(line["request"]) for line in lines]
    return Replayed(
        ((request, answer_of(request, line["answer"])) for request, line in zip(requests, lines, strict=True)), names[0]
    )
