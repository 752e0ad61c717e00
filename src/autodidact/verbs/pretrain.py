"""pretrain: from unlabelled data to a model in a run folder."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

import autodidact
from autodidact.data import open_source
from autodidact.data.open import SKIPPED, write_skipped
from autodidact.data.places import place_name
from autodidact.data.source import Source
from autodidact.methods.method import Method
from autodidact.model import Encoder, Model, load_model
from autodidact.model.model import SETTINGS, write_aside
from autodidact.recipes.names import (
    Demands,
    check_options,
    demands,
    encoder_maker,
    encoder_names,
    find,
    make_method,
    statistics_of,
)
from autodidact.recipes.stages import Recipe, Run, Site
from autodidact.report.run_folder import CONFIG, RECORD
from autodidact.training import Settings, train
from autodidact.training.processes import first_process
from autodidact.training.settings import INDIFFERENT, PLACES

TRAINED = ("checkpoints", "stages", "model", "log")
PACKAGES = ("torch", "lightning", "numpy", "timm", "transformers", "scikit-learn", "safetensors")


def pretrain(
    method: str,
    data: str | Path | Source,
    *,
    out: str | Path | None = None,
    encoder: str | Mapping[str, str] | None = None,
    encoder_arguments: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    pretrained: bool | str = False,
    settings: Settings | None = None,
    method_arguments: Mapping[str, Any] | None = None,
    labels: str | None = None,
    cache: bool = True,
    fresh: bool = False,
    force: bool = False,
    until: float = 1.0,
    report: bool = True,
    quiet: bool = False,
) -> Model:
    """Pretrain a method on data, and write the run folder.

    Parameters
    ----------
    method : name of a method or recipe (`autodidact methods` lists them), or ``file.py:Class`` for one's own.
    data : what `autodidact.data.open_source` accepts, or a source.
    out : run folder; default ``runs/METHOD-DATA``. A run found there is resumed, or returned when it is finished.
    encoder : name, or slot -> name; default the method's own.
    encoder_arguments : further arguments of the encoder.
    image_size : side of the views in pixels; default by the data: its own size up to 64, else 224.
    channels : channels of the images; default those of the data.
    pretrained : start from the encoder's published weights, or from a file of weights.
    settings : how to train.
    method_arguments : the method's options.
    labels : where labels come from, for the online kNN monitor only; they never enter the training of a method that
        does not declare that it needs them.
    cache : pack images into the cache first; otherwise files are read as they are needed.
    fresh : do not resume: an existing `out` is an error.
    force : with `fresh`, delete what is in `out`.
    until : share of the training, in (0, 1], after which to pause; the same command without it goes on, exactly. Not of
        recipes, which are several trainings.
    report : write ``report.html`` at the end.
    quiet : no progress lines.

    Returns
    -------
    Model
        What the method keeps, also saved in ``OUT/model``, unless the training only pauses.
    """
    settings = settings or Settings()
    given = dict(method_arguments or {})
    cls, asked = asked_of(method, given, image_size)
    if until != 1.0 and not issubclass(cls, Method):
        raise ValueError(f"{method} is several trainings in a row, which do not pause at a share; leave out until")
    folder = Path(out) if out is not None else run_folder(method, data)
    config = {
        "verb": "pretrain",
        "method": method,
        "data": str(data) if not isinstance(data, Source) else data.name,
        "encoder": dict(encoder) if isinstance(encoder, Mapping) else encoder,
        "encoder_arguments": dict(encoder_arguments or {}),
        "image_size": image_size,
        "channels": channels,
        "pretrained": pretrained,
        "labels": labels,
        "cache": cache,
        "method_arguments": {k: _plain(v) for k, v in given.items()},
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()},
    }
    claim_folder(folder, config, fresh=fresh, force=force)
    if (folder / "model" / SETTINGS).exists():
        return load_model(folder)

    network = {**(encoder_arguments or {}), "image_size": image_size, "channels": channels, "pretrained": pretrained}
    source, names, maker = prepare(
        method, data, asked, encoder, network, settings.seed, labels, cache=cache, quiet=quiet, skipped=folder / SKIPPED
    )
    paused_at = _seconds_before(folder)
    told = data.name if isinstance(data, Source) else place_name(data)
    facts = {"status": "training", "method": method, "data": told, "encoder": names, "samples": len(source)}
    record(folder, facts)
    started = time.monotonic()
    if issubclass(cls, Method):
        made = make_method(cls, maker, given, source, settings.seed)
        model: Any = train(made, source, settings, out=folder, until=until, quiet=quiet, title=method)
    else:
        site = Site(source, maker, settings, folder, quiet)
        model = Run(cls(**given).stages(site), folder).result()
        if not isinstance(model, Model):
            raise ValueError(f"recipe '{method}' ended with a {type(model).__name__}, not a model")
    if source.streaming:
        write_skipped(source, folder / SKIPPED)
    if not first_process():
        return model
    seconds = round(time.monotonic() - started + paused_at, 1)
    if until < 1:
        record(folder, {"status": "paused", "seconds": seconds})
        return model
    model.save(folder / "model")
    record(folder, {"status": "finished", "seconds": seconds})
    if report:
        from autodidact.report import write_report

        write_report(folder, source=source)
    return model


def asked_of(
    method: str, given: Mapping[str, Any], image_size: int | None
) -> tuple[type[Method] | type[Recipe], Demands]:
    """The class behind a name, and what it asks of data and networks.

    Raises
    ------
    ValueError : there is no such method, or no such option, or no image has this size.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is a number of pixels, got {image_size}")
    cls, card = find(method)
    if "lm" in cls.slots:
        raise ValueError(f"'{method}' improves language models: autodidact improve {method} --model NAME --task FILE")
    check_options(cls, given)
    return cls, demands(cls, card, given)


def prepare(
    method: str,
    data: str | Path | Source,
    asked: Demands,
    encoder: str | Mapping[str, str] | None,
    network: Mapping[str, Any],
    seed: int,
    labels: str | None,
    *,
    cache: bool,
    quiet: bool,
    skipped: Path | None = None,
) -> tuple[Source, dict[str, str], Callable[..., Encoder]]:
    """The data of a training, the names of its encoders by slot, and what makes them.

    Parameters
    ----------
    asked : what the method asks for.
    network : arguments of the encoders, with "image_size", "channels" and "pretrained".
    seed : of the encoders' weights.
    """
    source = (
        data
        if isinstance(data, Source)
        else open_source(
            data,
            labels=labels,
            image_size=network["image_size"],
            channels=network["channels"],
            cache=cache,
            progress=not quiet,
            skipped=skipped,
        )
    )
    if not quiet and first_process():
        for note in source.notes:
            print(f"{method}: {note}", file=sys.stderr)
    asked.check(source, method)
    names = encoder_names(encoder, asked.slots, asked.encoder)
    return source, names, encoder_maker(names, source, seed, {**network, "statistics": statistics_of(source)})


def _plain(value: Any) -> Any:
    """An option as a configuration file holds it: sources, and those in a sequence, by their names."""
    if isinstance(value, Source):
        return value.name
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def run_folder(method: str, data: str | Path | Source) -> Path:
    """The run folder where none is named: ``runs/METHOD-DATA``."""
    name = data.name if isinstance(data, Source) else place_name(data)
    return Path("runs") / f"{Path(method).stem.split(':')[0]}-{name}"


def claim_folder(folder: Path, config: Mapping[str, Any], *, fresh: bool, force: bool) -> None:
    """Make the run folder and write its configuration, or make sure that it is a run of the same configuration."""
    written = folder / CONFIG
    if fresh and folder.exists() and any(folder.iterdir()):
        if not force:
            raise ValueError(f"{folder} exists; leave out --fresh to resume it, or add --force to delete it")
        if not written.exists():
            raise ValueError(f"{folder} is not a run folder ({CONFIG} is missing), so it is not deleted")
        shutil.rmtree(folder)
    text = yaml.safe_dump(dict(config), sort_keys=False)
    if written.exists() and any((folder / part).exists() for part in TRAINED):
        _same_run(yaml.safe_load(written.read_text()), yaml.safe_load(text), folder)
        return
    # A run that stopped before its training, at a misspelt name say, has nothing to lose.
    if not written.exists() and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and is not a run folder; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(written, text.encode())


def _same_run(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    free = INDIFFERENT | PLACES
    old = {**before, **before.get("settings", {})}
    new = {**now, **now["settings"]}
    different = [
        f"{key} was {old.get(key)}, is {value}"
        for key, value in new.items()
        if key not in free | {"settings"} and old.get(key) != value
    ]
    if different:
        raise ValueError(f"{folder} is another run ({'; '.join(different)}); choose another --out, or --fresh --force")


def record(folder: Path, facts: Mapping[str, Any]) -> None:
    """Add facts to ``run.json``, beside the versions and the machine."""
    path = folder / RECORD
    known = json.loads(path.read_text()) if path.exists() else {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    known |= {"versions": versions(), "machine": platform.machine(), "python": sys.version.split()[0], **facts}
    write_aside(path, json.dumps(known, indent=1).encode())


def _seconds_before(folder: Path) -> float:
    """What a training that pauses took so far."""
    known = json.loads((folder / RECORD).read_text()) if (folder / RECORD).exists() else {}
    return float(known.get("seconds", 0.0)) if known.get("status") == "paused" else 0.0


def versions() -> dict[str, str]:
    """Versions of autodidact and of what results depend on."""
    found = {"autodidact": autodidact.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
