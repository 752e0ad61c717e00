"""From the bytes of an image file to a small uint8 array: every kind of file people have, one way to fail.

Knows nothing of folders, labels or caches.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "GIF": "gif"}
MAX_PIXELS = 89_478_485
"""Images with more pixels are refused before decoding: where Pillow suspects a decompression bomb."""
MANY_PIXELS = 1 << 16
"""Pixels of an image that PyTorch reduces; Pillow takes as long for it as for decoding a JPEG."""
SMALL_FILE = 1 << 16
"""Bytes of a file that is read at once, and decoded without what only unusual images need."""
PLAIN = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
TURNING = frozenset(("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp", "transparency"))
"""What Pillow tells of an image that has to be turned, or laid over white."""
_READING = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)

Pixels = NDArray[np.uint8]
Origin = str | Path | bytes
Channels = Literal[1, 3]


class UnreadableImage(Exception):
    """An image that cannot be had; the message is the reason, in plain words."""


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file tell: upright height and width in pixels, and whether it is grey."""

    height: int
    width: int
    grey: bool


def read_header(origin: Origin) -> Header:
    """Size and colour of an image without decoding it; UnreadableImage where that fails."""
    with _opened(origin) as image:
        width, height = image.size
        if _sideways(image):
            width, height = height, width
        return Header(height, width, image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16"))


def image_ending(content: bytes) -> str:
    """The usual ending of the file of an image, such as "jpg", by what it holds; UnreadableImage where it is none."""
    with _opened(content) as image:
        return ENDINGS[str(image.format)]


def decode(origin: Origin, channels: Channels, limit: tuple[int, int]) -> Pixels:
    """An image as (channels, height, width) uint8, upright, made smaller where it does not fit `limit`.

    The first frame of an animation is taken. EXIF orientation is applied. Transparency is laid over white. 16 bits are
    scaled by 1/257 (65535 becomes 255), whatever range an image uses, so that brightness stays comparable between
    files; float images must lie in [0, 1] or [0, 255]. CMYK, palette and other colour spaces go through Pillow's
    conversion to RGB (colour profiles are not applied), colour to grey by ITU-R 601-2 luma. Reduction keeps the aspect
    ratio and is antialiased (bicubic; of large images by PyTorch, whose roundings differ from Pillow's by 1 or 2 here
    and there); nothing is ever enlarged.

    Parameters
    ----------
    origin : path of a file, or its bytes.
    channels : 1 (grey) or 3 (RGB).
    limit : largest height and width in pixels.

    Raises
    ------
    UnreadableImage
        With the reason in plain words.
    """
    from PIL import Image

    content = _small_content(origin)
    if content is not None and (plain := _plain(content, channels, limit)) is not None:
        return plain
    with _opened(origin) as image:
        try:
            turned = _sideways(image)
            height, width = image.size[::-1] if not turned else image.size
            target = fitted(height, width, limit)
            if image.format in ("JPEG", "MPO"):
                # Twice the target: the decoder then drops only detail that the antialiased reduction would drop too.
                draft = target[::-1] if not turned else target
                image.draft(None, (2 * draft[0], 2 * draft[1]))
            image.load()
            upright = _upright(_as_eight_bit(image, "L" if channels == 1 else "RGB"), image)
            if upright.size == target[::-1]:
                array = np.asarray(upright)
            elif upright.width * upright.height < MANY_PIXELS:
                array = np.asarray(upright.resize(target[::-1], Image.Resampling.BICUBIC))
            else:
                array = _reduced(np.array(upright), target)
        except (UnreadableImage, ImportError):
            # A process that lacks PyTorch says nothing of the image.
            raise
        except MemoryError as error:
            raise UnreadableImage("not enough memory to decode it") from error
        except Exception as error:  # decoders raise anything on hostile bytes, and one file must not end a run
            raise UnreadableImage(_reason(error)) from error
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _reduced(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image of shape (height, width) or (height, width, 3), at another size; antialiased, bicubic."""
    import torch
    from torch.nn import functional

    planes = torch.from_numpy(pixels).view(*pixels.shape[:2], -1).permute(2, 0, 1)[None]
    smaller = functional.interpolate(planes, size, mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    return smaller.numpy().reshape(*size, *pixels.shape[2:])


def _small_content(origin: Origin) -> bytes | None:
    """The bytes of a small file; None where it is large or cannot be read."""
    if isinstance(origin, bytes):
        return origin if len(origin) <= SMALL_FILE else None
    try:
        # The cheapest way, taken once an image; a pipe would block without O_NONBLOCK.
        file = os.open(origin, _READING)
    except OSError:
        return None
    try:
        content = os.read(file, SMALL_FILE + 1)
    except OSError:
        return None
    finally:
        os.close(file)
    return content if len(content) <= SMALL_FILE else None


def _plain(content: bytes, channels: Channels, limit: tuple[int, int]) -> Pixels | None:
    """What `decode` makes of an image that needs nothing but decoding, in half of the time; None for any other.

    `Image.open` and looking for a tag that turns the image cost as much as decoding one of 28 pixels a side. Whatever
    is odd or damaged is left to `decode`, which says what is the matter with it.
    """
    from PIL import Image

    kind = PLAIN.get(content[:8]) or PLAIN.get(content[:3])
    if kind is None:
        return None
    if kind not in Image.OPEN:
        Image.init()
    try:
        image: Any = Image.OPEN[kind][0](io.BytesIO(content), "")
        width, height = image.size
        usual = image.format == kind and image.mode in ("L", "RGB") and TURNING.isdisjoint(image.info)
        if not usual or height > limit[0] or width > limit[1]:
            return None
        image.load()
        # A PNG may tell more behind its pixels.
        if not TURNING.isdisjoint(image.info):
            return None
        mode = "L" if channels == 1 else "RGB"
        array = np.frombuffer((image if image.mode == mode else image.convert(mode)).tobytes(), dtype=np.uint8)
    except Exception:  # noqa: BLE001 (decoders raise anything on hostile bytes)
        return None
    if channels == 1:
        return array.reshape(1, height, width)
    return np.ascontiguousarray(array.reshape(height, width, 3).transpose(2, 0, 1))


def fitted(height: int, width: int, limit: tuple[int, int]) -> tuple[int, int]:
    """Height and width after reduction into `limit` with the aspect ratio kept; at least one pixel a side."""
    scale = min(1.0, limit[0] / height, limit[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow's remarks on odd files are not shown: what matters is in the reason of a skipped file.

    To be entered by the one thread that hands out the work, since filters belong to the whole process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _opened:
    """An image of one of the accepted formats, checked for size, closed on exit."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def __enter__(self) -> Image:
        from PIL import Image, UnidentifiedImageError

        origin = self.origin
        try:
            if isinstance(origin, bytes):
                size = len(origin)
            else:
                size = os.stat(origin).st_size  # noqa: PTH116 (cheaper, and once an image)
            if size == 0:
                raise UnreadableImage("the file is empty (0 bytes)")
            self.image = Image.open(io.BytesIO(origin) if isinstance(origin, bytes) else origin, formats=FORMATS)
        except UnreadableImage:
            raise
        except FileNotFoundError as error:
            dangling = isinstance(origin, str | Path) and Path(origin).is_symlink()
            raise UnreadableImage("a link to a file that is not there" if dangling else "no such file") from error
        except PermissionError as error:
            raise UnreadableImage("no permission to read it") from error
        except UnidentifiedImageError as error:
            raise UnreadableImage("not an image of a known format") from error
        except Exception as error:  # as in `decode`: headers are hostile too
            raise UnreadableImage(_reason(error)) from error
        width, height = self.image.size
        if width * height > MAX_PIXELS:
            self.image.close()
            raise UnreadableImage(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,}")
        return self.image

    def __exit__(self, *_: Any) -> None:
        self.image.close()


def _sideways(image: Image) -> bool:
    """Whether the EXIF orientation (tag 0x0112) swaps height and width; Pillow turns TIFF files on its own."""
    if image.format == "TIFF":
        return False
    try:
        return image.getexif().get(0x0112) in (5, 6, 7, 8)
    except Exception:  # noqa: BLE001 (a damaged EXIF block raises anything)
        return False


def _upright(small: Image, image: Image) -> Image:
    from PIL import Image as Pillow

    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 (as in `_sideways`)
        orientation = 1
    if orientation not in range(2, 9):
        return small
    turns = (
        Pillow.Transpose.FLIP_LEFT_RIGHT,
        Pillow.Transpose.ROTATE_180,
        Pillow.Transpose.FLIP_TOP_BOTTOM,
        Pillow.Transpose.TRANSPOSE,
        Pillow.Transpose.ROTATE_270,
        Pillow.Transpose.TRANSVERSE,
        Pillow.Transpose.ROTATE_90,
    )
    return small.transpose(turns[orientation - 2])


def _as_eight_bit(image: Image, mode: str) -> Image:
    from PIL import Image as Pillow

    if image.mode.startswith("I") or image.mode == "F":
        return Pillow.fromarray(_eight_bit(np.asarray(image))).convert(mode)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Pillow.new("RGBA", image.size, (255, 255, 255, 255))
        return Pillow.alpha_composite(white, image).convert(mode)
    if image.mode == mode:
        return image
    # Grey of a colour space that has no direct way to L (LAB, HSV) goes through RGB.
    return image.convert(mode) if image.mode in ("1", "L", "P", "RGB", "RGBX") else image.convert("RGB").convert(mode)


def _eight_bit(values: NDArray[Any]) -> Pixels:
    if not np.isfinite(values).all():
        raise UnreadableImage("it has pixels that are NaN or infinite")
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(values.dtype, np.floating):
        if low >= 0 and high <= 1:
            return np.rint(values * 255).astype(np.uint8)
        if low >= 0 and high <= 255:
            return np.rint(values).astype(np.uint8)
        raise UnreadableImage(f"a float image with values from {low:g} to {high:g}; accepted are [0, 1] and [0, 255]")
    if low < 0 or high > 65535:
        raise UnreadableImage(f"an integer image with values from {low:g} to {high:g}; accepted are 16 bits")
    return np.rint(values / 257).astype(np.uint8)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
