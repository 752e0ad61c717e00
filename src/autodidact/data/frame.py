"""The canvas that all images of a source share, chosen from a look at some headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from autodidact.data.folder import evenly
from autodidact.data.images import Channels, Header, Origin, UnreadableImage, fitted, read_header, without_warnings

LOOKED_AT = 512
DEFAULT_SIZE = 224


class Pictures(Protocol):
    """Undecoded images: files of a folder, or cells of a dataset."""

    digest: str

    def __len__(self) -> int: ...

    def origin(self, index: int) -> Origin: ...


@dataclass(frozen=True)
class Frame:
    """The canvas.

    Attributes
    ----------
    channels, height, width : its shape.
    pixels : mean number of pixels of the images before they are reduced.
    uniform : whether all images looked at have one size.
    """

    channels: Channels
    height: int
    width: int
    pixels: float
    uniform: bool

    @property
    def size(self) -> int:
        """Bytes of one image."""
        return self.channels * self.height * self.width


def choose_frame(
    pictures: Pictures,
    image_size: int | None = None,
    canvas: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> Frame:
    """A canvas for these images, from up to 512 headers evenly spread over them.

    The limit of a side is `canvas`, else 1.5 times `image_size` rounded up to 8 (a 4:3 photograph then keeps a shorter
    side of 1.125 times the training size, so that random crops seldom enlarge); `image_size` is 224 where it is not
    given. Images that fit are kept as they are: where all of them have one size, or fit the limit, nothing is resized.
    The canvas is the bounding box of the images after reduction, so a folder of landscape photographs does not pay for
    a square.

    Parameters
    ----------
    image_size : side in pixels at which the data will be used; default 224.
    canvas : fixed canvas, a side or (height, width).
    channels : 1 or 3; default 1 where every image is grey.

    Raises
    ------
    ValueError
        Sizes below 1, channels other than 1 and 3, or no readable image at all.
    """
    if channels is not None and channels not in (1, 3):
        raise ValueError(f"image files are read with 1 or 3 channels, not {channels}")
    for what, value in (("image_size", image_size), ("canvas", canvas)):
        if value is not None and min(value if isinstance(value, tuple) else (value,)) < 1:
            raise ValueError(f"{what} must be at least 1 pixel, got {value}")
    fixed = (canvas, canvas) if isinstance(canvas, int) else canvas
    with without_warnings():
        headers = _headers(pictures)
    limit = fixed
    if limit is None:
        limit = (side_limit(image_size), side_limit(image_size))
    sizes = [fitted(header.height, header.width, limit) for header in headers]
    height, width = fixed or (max(h for h, _ in sizes), max(w for _, w in sizes))
    return Frame(
        channels or (1 if all(header.grey for header in headers) else 3),  # type: ignore[arg-type]
        height,
        width,
        sum(header.height * header.width for header in headers) / len(headers),
        len({(header.height, header.width) for header in headers}) == 1,
    )


def side_limit(image_size: int | None) -> int:
    """Largest side of a canvas for images that are used at `image_size` pixels; see `choose_frame`."""
    return -(-3 * (image_size or DEFAULT_SIZE) // 2 // 8) * 8


def _headers(pictures: Pictures) -> list[Header]:
    found: list[Header] = []
    reason = ""
    for index in evenly(len(pictures), LOOKED_AT):
        try:
            found.append(read_header(pictures.origin(index)))
        except UnreadableImage as error:
            reason = str(error)
    if found:
        return found
    # Every image looked at is damaged: the first one that is not speaks for the rest.
    for index in range(len(pictures)):
        try:
            return [read_header(pictures.origin(index))]
        except UnreadableImage as error:
            reason = str(error)
    raise ValueError(f"none of the {len(pictures):,} images can be read; the last one: {reason}")
