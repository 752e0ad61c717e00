"""A source of images, wherever their pixels lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autodidact.catalog.nearest import unknown
from autodidact.data.batch import Value
from autodidact.data.durable import write_aside
from autodidact.data.frame import Pictures
from autodidact.data.ids import Ids, sample_id, sample_ids
from autodidact.data.images import image_ending
from autodidact.data.labels import Labels
from autodidact.data.packed import PackedPixels, PixelStore, box_field, megabytes
from autodidact.data.schema import Field, Schema
from autodidact.data.source import PickedNames, Positions, Source


def _ids(name: str, names: Sequence[str], pixels: PixelStore) -> Ids:
    """Ids of all pictures. A cache entry keeps them: of a million pictures they take a second, and are always the same,
    since another name of a picture is another entry."""
    if not isinstance(pixels, PackedPixels):
        return sample_ids(name, names)
    kept = pixels.entry / f"ids-{sample_id(f'{name}/{names[0]}', names[-1]):x}.i64"
    if kept.is_file() and len(found := np.fromfile(kept, dtype=np.int64)) == len(names):
        return found
    ids = sample_ids(name, names)
    with suppress(OSError):
        # A cache that others have filled may be read only.
        write_aside(kept, ids.tobytes())
    return ids


class ImageSource(Source):
    """Images with whatever is known of each.

    Fields: "image" (channels, height, width) uint8; "box", only where some image does not fill the canvas; "label" or
    "target" where there are labels.

    Parameters
    ----------
    name : name of the source.
    pixels : where the pixels come from; pictures that it could not read are left out and listed in `skipped`.
    names : names of all pictures, readable or not.
    labels : labels of all pictures, readable or not.
    skipped, notes : what was found before any picture was opened.
    ids : ids of all pictures, readable or not; default by their names.
    pictures : all pictures undecoded, for `undecoded`.
    """

    def __init__(
        self,
        name: str,
        pixels: PixelStore,
        names: Sequence[str],
        labels: Labels | None = None,
        *,
        skipped: Sequence[Mapping[str, str]] = (),
        notes: Sequence[str] = (),
        ids: Ids | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self.name, self.pixels, self.pictures, self.context = name, pixels, pictures, {}
        frame = pixels.frame
        self.places: Positions = np.flatnonzero(pixels.boxes[:, 2] > 0)
        self.names = PickedNames(names, self.places)
        self.ids = _ids(name, names, pixels)[self.places] if ids is None else ids[self.places]
        self.schema = Schema(image=Field("image", shape=(frame.channels, frame.height, frame.width)))
        whole = (pixels.boxes[self.places] == np.array([0, 0, frame.height, frame.width])).all()
        self.boxed = not bool(whole)
        if self.boxed:
            self.schema["box"] = Field("box", shape=(4,), unit="px")
        self.labels = labels
        if labels is not None:
            self.schema[labels.field] = labels.about
        self.skipped = [
            *skipped,
            *({"name": names[place], "reason": why} for place, why in sorted(pixels.reasons.items())),
        ]
        self.notes = [*notes, *(labels.notes if labels else [])]
        if isinstance(pixels, PackedPixels):
            size = megabytes(len(pixels.boxes) * frame.size)
            self.notes.append(f"packed: {frame.channels} x {frame.height} x {frame.width}, {size} in {pixels.entry}")

    def read(self, positions: Positions) -> dict[str, Value]:
        places = self.places[positions]
        fields: dict[str, Value] = {"image": self.pixels.read(places)}
        if self.boxed:
            fields["box"] = box_field(self.pixels.boxes, places)
        if self.labels is not None:
            fields[self.labels.field] = torch.from_numpy(self.labels.values[places])
        return fields

    def column(self, field: str) -> NDArray[Any]:
        if self.labels is None or field != self.labels.field:
            raise unknown(f"scalar field of '{self.name}'", field, [self.labels.field] if self.labels else [])
        return self.labels.values[self.places]

    def undecoded(self, position: int) -> dict[str, bytes]:
        if self.pictures is None:
            return super().undecoded(position)
        origin = self.pictures.origin(int(self.places[position]))
        content = origin if isinstance(origin, bytes) else Path(origin).read_bytes()
        return {image_ending(content): content}
