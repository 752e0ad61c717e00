"""The entry point: finds the verb, and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module

from autodidact import __version__
from autodidact.catalog import unknown
from autodidact.lean import leave_out_metrics
from autodidact.training.processes import first_process

VERBS = {
    "pretrain": "train an encoder on unlabelled data",
    "improve": "make a language model better at a task, from itself",
    "evaluate": "measure a run with few labels, beside baselines",
    "compare": "methods x settings x seeds under one budget, in one table",
    "choose": "try methods and settings under one budget, and rank them without labels",
    "apply": "use one ability of a run's model on data",
    "embed": "write the embeddings of data to Parquet or npy",
    "select": "choose from a large pool what resembles a small set",
    "tracks": "crop what moves in videos, a folder a track, to train on",
    "export": "hand a run's model to timm, transformers, plain PyTorch or ONNX",
    "report": "draw a run as one self-contained HTML file",
    "methods": "list the methods, or describe one",
    "claim": "test a paper's claim: method against baseline, several seeds, a verdict",
    "demo": "learn from real digits without labels, in a few minutes",
    "doctor": "say what is installed, which devices there are, and what would make it faster",
}
EPILOGUE = """\
autodidact VERB --help explains every option; autodidact pretrain METHOD --help those of a method.
--debug (or AUTODIDACT_DEBUG=1) shows where an error comes from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 is success, 2 an input that cannot be used (one line on stderr says which and what is valid), 1 a training that
    failed or a disk that is full, 130 an interruption.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("AUTODIDACT_DEBUG", "0") not in ("", "0")
    if not first_process():
        # The processes that Lightning starts beside this one run the same command; one of them speaks for all.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    with warnings.catch_warnings():
        if not debug:
            _plain_warnings()
        try:
            return _run([word for word in words if word != "--debug"])
        except BrokenPipeError:
            # The reader of our output has gone (as in `autodidact methods | head`); nothing is left to say to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (KeyboardInterrupt, ValueError, OSError, ModuleNotFoundError, RuntimeError) as error:
            line, code = _complaint(error)
            if not line:
                raise
            if debug:
                traceback.print_exc()
            print(f"autodidact: {line}", file=sys.stderr)
            return code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    verb, *rest = words
    if verb == "--version":
        print(f"autodidact {__version__}")
        return 0
    if verb not in VERBS:
        if verb.startswith("-"):
            raise ValueError(f"unknown option {verb}; an option follows its verb (autodidact --help lists the verbs)")
        raise unknown("verb", verb, VERBS)
    if verb != "methods" and not {"-h", "--help"} & set(rest):
        leave_out_metrics()
    try:
        import_module(f"autodidact.cli.{verb}").run(rest)
    except SystemExit as done:
        # Lightning answers Ctrl-C by an orderly shutdown and then leaves the program.
        if isinstance(done.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from done
        return done.code if isinstance(done.code, int) else 0
    sys.stdout.flush()
    return 0


def overview() -> str:
    """What `autodidact --help` prints."""
    width = max(map(len, VERBS))
    listed = "\n".join(f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items())
    return (
        f"usage: autodidact VERB ...\n\nFrom unlabelled data of any kind to a useful model.\n\n{listed}\n\n{EPILOGUE}"
    )


def _complaint(error: BaseException) -> tuple[str, int]:
    """What to say of an error in one line, and the exit code; nothing of one that nobody foresaw."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command goes on from the last checkpoint", 130
    # No answer from an address comes as an OSError, but what was asked for is no wrong input.
    if isinstance(error, ConnectionError) and (said := _failure(error)):
        return said, 1
    if isinstance(error, OSError):
        # A write that fails names no file, an opening does.
        said = f"{error.strerror[:1].lower()}{error.strerror[1:]}" if error.strerror else ""
        line = f"error: {said}: {error.filename}" if said and error.filename else f"error: {said or _one_line(error)}"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return (f"{line}; what was saved is whole: make room, and the same command goes on", 1) if full else (line, 2)
    if isinstance(error, ValueError):
        return f"error: {_one_line(error)}", 2
    if isinstance(error, ModuleNotFoundError):
        own = str(error.name).startswith("autodidact")
        return "" if own else f"error: {error.name} is not installed; autodidact doctor says what adds it", 2
    return _failure(error), 1


def _failure(error: BaseException) -> str:
    """What to say of a training that failed; nothing of an error that nobody foresaw."""
    import torch

    from autodidact.lm.answering import Unfinished
    from autodidact.training import NonFinite

    if isinstance(error, Unfinished):
        budget = "" if isinstance(error, ConnectionError) else ", with a larger budget if need be"
        return f"{_one_line(error)}. What was answered is kept: the same command goes on{budget}"
    if isinstance(error, torch.OutOfMemoryError):
        small = "take a smaller --batch-size, or cut it into parts with --accumulate"
        return f"error: the device ran out of memory; {small}"
    return f"error: {_one_line(error)}" if isinstance(error, NonFinite) else ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _plain_warnings() -> None:
    """Our own warnings as one line; none of those with which our dependencies address developers."""
    for category in (FutureWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", module=r"(lightning|torch|torchvision|timm|transformers|datasets|sklearn)\b")

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"autodidact: warning: {' '.join(str(message).split())}", file=sys.stderr)

    warnings.showwarning = show
