"""What a user wrote in a file of their own, named as ``path/to/file.py:NAME``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autodidact.catalog.nearest import unknown
from autodidact.lean import whole_metrics


def from_file(name: str, what: str, fits: Callable[[Any], bool]) -> Any:
    """The value of a name in a file, which is run for it.

    Parameters
    ----------
    name : ``path/to/file.py:NAME``.
    what : what it should be, for errors.
    fits : whether a value is one.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it has no such name, or something else stands there; names the nearest one that would do.
    """
    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    whole_metrics()
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = getattr(module, attribute, None)
    if not fits(found):
        raise unknown(f"{what} in {path}", attribute, [n for n, value in vars(module).items() if fits(value)])
    return found
