"""plan: what a pretraining would cost, before it is begun."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autodidact.data.source import Source
from autodidact.methods.method import Method
from autodidact.recipes.names import make_method
from autodidact.training import Settings
from autodidact.training.cost import Forecast, foresee
from autodidact.verbs.pretrain import asked_of, prepare


def plan(
    method: str,
    data: str | Path | Source,
    *,
    encoder: str | Mapping[str, str] | None = None,
    encoder_arguments: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    pretrained: bool | str = False,
    settings: Settings | None = None,
    method_arguments: Mapping[str, Any] | None = None,
    labels: str | None = None,
    cache: bool = True,
    quiet: bool = False,
    together: bool = False,
) -> Forecast:
    """What `autodidact.pretrain` with the same arguments would cost, from a few updates on this device, or on all that
    it would take (`together`, see `autodidact.training.cost.foresee`); no run folder is written.

    Raises
    ------
    ValueError : as of `pretrain`; or `method` is a recipe, whose trainings need what the earlier ones made.
    """
    given = dict(method_arguments or {})
    settings = settings or Settings()
    cls, asked = asked_of(method, given, image_size)
    if not issubclass(cls, Method):
        raise ValueError(f"{method} is several trainings in a row, each on what the one before made: none is planned")
    network = {**(encoder_arguments or {}), "image_size": image_size, "channels": channels, "pretrained": pretrained}
    source, _, maker = prepare(method, data, asked, encoder, network, settings.seed, labels, cache=cache, quiet=quiet)
    planned = make_method(cls, maker, given, source, settings.seed)
    return foresee(planned, source, settings, together=together)
