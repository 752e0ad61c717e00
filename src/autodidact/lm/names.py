"""What a person types for a language model: a folder, a name on the hub, a run, or an address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

from autodidact.lm.answering import innermost
from autodidact.lm.lm import LM
from autodidact.model.model import SETTINGS

LARGE = 200_000_000
"""Weights above which a model is trained by an adapter unless it is said otherwise."""


def open_lm(
    name: str | Path,
    *,
    device: str = "auto",
    threads: int = 8,
    timeout: float = 600.0,
    key: str = "OPENAI_API_KEY",
) -> LM:
    """A language model by name.

    Parameters
    ----------
    name : ``http://ADDRESS/v1#MODEL`` for an OpenAI-compatible address, whose only model need not be named; a run of
        `autodidact improve`; a folder of transformers or peft; or a name on the hub.
    device : of a model that runs here.
    threads : requests that an address gets at once.
    timeout : seconds after which a request to an address counts as failed and is made again.
    key : name of the environment variable that holds the key of an address.

    Raises
    ------
    FileNotFoundError : there is no such folder.
    ValueError : there is no language model, or an address has several and none was named.
    """
    text = str(name)
    if text.startswith(("http://", "https://")):
        return _endpoint(text, threads, timeout, key)
    found = run_model(Path(text))
    if found is not None:
        from autodidact.model.device import pick_device

        found.to(pick_device(device))
        return found
    from autodidact.lm.local import LocalLM

    return LocalLM.load(name, device=device)


def run_model(folder: Path) -> Any:
    """The language model of a run, or of a model that was kept; None where the folder holds neither.

    Raises
    ------
    ValueError : it holds a model of another kind.
    """
    held = next((part for part in (folder, folder / "model") if (part / SETTINGS).is_file()), None)
    if held is None:
        return None
    from autodidact.lm.kept import LanguageModel
    from autodidact.model import load_model

    kind = json.loads((held / SETTINGS).read_text()).get("kind")
    if kind != LanguageModel.kind:
        raise ValueError(f"{folder} holds a model of kind {kind}, not a language model")
    model = load_model(held)
    assert isinstance(model, LanguageModel)
    return model.lm


def address_of(lm: LM) -> tuple[str, str] | None:
    """What `open_lm` opens a model behind an address by again, its name and the environment variable of its key; None
    for one that has no address."""
    found = innermost(lm)
    where, key = (getattr(found, name, None) for name in ("where", "key"))
    return None if where is None or key is None else (str(where), str(key))


def _endpoint(text: str, threads: int, timeout: float, key: str) -> LM:
    from autodidact.lm.connection import Connection
    from autodidact.lm.endpoint import EndpointLM
    from autodidact.lm.retrying import Retries

    address, model = urldefrag(text)
    if not model:
        offered = Connection(address, key=key, timeout=min(60.0, timeout), retries=Retries()).models()
        if len(offered) != 1:
            raise ValueError(
                f"{address} offers {', '.join(offered) or 'no model'}; name one: {address}#{(offered or ['MODEL'])[0]}"
            )
        model = offered[0]
    return EndpointLM(model, address, threads=threads, timeout=timeout, key=key)
