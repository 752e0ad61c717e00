"""A model whose answers are kept on disk: what was answered once is never paid for again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from autodidact.lm.answering import Answer, Request, Wrapped, answer_of, answers, innermost, key, plain_answer
from autodidact.lm.lm import LM


class Cached(Wrapped):
    """A model whose answers are kept in a folder.

    An answer is found by the model's name, the prompt, every argument of the sampling but n, and the number of the
    sample; scores and choices by all that was asked. So more samples of a prompt begin with those that are there, and
    the same request is asked once however often a call has it. An answer is durable before it is handed over, whatever
    becomes of the rest of its call; failures are not kept. Threads and processes may share a folder, on a local disk.
    Where two of them ask the same at the same time, both ask the model, and the answer that came first is kept and
    given to both. What a model behind an address finds out about it by asking is kept as well.

    Parameters
    ----------
    lm : the model.
    folder : where ``answers.sqlite`` lies.

    Attributes
    ----------
    hits, misses : requests that were answered from the folder, and by the model.

    Raises
    ------
    ValueError : ``answers.sqlite`` is there and is not a cache.
    """

    def __init__(self, lm: LM, folder: str | Path) -> None:
        super().__init__(lm)
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.hits = self.misses = 0
        self._turn = Lock()
        self._answers = _open(self.folder / "answers.sqlite")
        model = innermost(lm)
        if model.known is not None:
            model.known = _Known(self._answers, model.name, self._turn, model.known)

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        name = self.name
        positions: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            positions.setdefault(key(name, request), []).append(position)
        missing = []
        for key_, where in positions.items():
            kept = self._kept(key_)
            if kept is None:
                missing.append(key_)
                continue
            self._count(hits=len(where))
            for position in where:
                yield position, answer_of(requests[position], json.loads(kept))
        asked = [requests[positions[key_][0]] for key_ in missing]
        for i, answer in answers(self.lm, asked) if asked else ():
            where = positions[missing[i]]
            kept = self._keep(missing[i], name, asked[i], json.dumps(plain_answer(answer)))
            self._count(hits=len(where) - 1, misses=1)
            for position in where:
                yield position, answer_of(requests[position], json.loads(kept))

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._turn:
            self._answers.close()

    def _kept(self, key_: str) -> str | None:
        with self._turn:
            row = self._answers.execute("SELECT answer FROM answers WHERE key = ?", (key_,)).fetchone()
        return row[0] if row else None

    def _keep(self, key_: str, name: str, request: Request, answer: str) -> str:
        """The answer that is kept: this one, or the one that another thread or process has kept before."""
        with self._turn:
            self._answers.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)",
                (key_, name, json.dumps(request.plain()), answer),
            )
            return self._answers.execute("SELECT answer FROM answers WHERE key = ?", (key_,)).fetchone()[0]

    def _count(self, hits: int = 0, misses: int = 0) -> None:
        with self._turn:
            self.hits += hits
            self.misses += misses


class _Known(dict[str, Any]):
    """What is known of a model, written down as soon as it is; begins with what was written before."""

    def __init__(self, file: sqlite3.Connection, model: str, turn: Lock, before: Mapping[str, Any]) -> None:
        super().__init__()
        self._file, self._model, self._turn = file, model, turn
        with turn:
            rows = file.execute("SELECT name, value FROM known WHERE model = ?", (model,)).fetchall()
        super().update({name: json.loads(value) for name, value in rows})
        for name in before.keys() - self.keys():
            self[name] = before[name]

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        with self._turn:
            self._file.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", (self._model, name, json.dumps(value)))


def _open(path: Path) -> sqlite3.Connection:
    # Without transactions around statements, each INSERT is durable when it returns.
    answers_ = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        answers_.execute("PRAGMA journal_mode=WAL")
        answers_.execute("PRAGMA synchronous=FULL")
        answers_.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, model TEXT, request TEXT, answer TEXT)"
        )
        answers_.execute("SELECT key, model, request, answer FROM answers LIMIT 1")
        answers_.execute("CREATE TABLE IF NOT EXISTS known (model TEXT, name TEXT, value TEXT, UNIQUE (model, name))")
    except sqlite3.OperationalError:
        answers_.close()
        raise
    except sqlite3.DatabaseError as broken:
        answers_.close()
        raise ValueError(
            f"{path} is not a cache of answers ({broken}); move it away or name another folder"
        ) from broken
    return answers_
