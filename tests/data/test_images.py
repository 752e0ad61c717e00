"""Decoding: every kind of image file people have, and one plain reason for each that cannot be had."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from autodidact.data import images, open_source
from autodidact.data.decoding import Decoding, Helper
from autodidact.data.images import MANY_PIXELS, MAX_PIXELS, UnreadableImage, decode, fitted, read_header

BIG = (1000, 1000)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(height: int = 6, width: int = 8) -> np.ndarray:
    """Smooth RGB, so that lossy formats stay close."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y * 200 // height, x * 200 // width, (y + x) * 200 // (height + width)], -1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(gradient()), kind, **options)
    np.testing.assert_array_equal(decode(data, 3, BIG), gradient().transpose(2, 0, 1))


def test_jpeg_stays_close():
    data = saved(Image.fromarray(gradient(64, 64)), "JPEG", quality=95)
    difference = decode(data, 3, BIG).astype(int) - gradient(64, 64).transpose(2, 0, 1)
    assert abs(difference).max() <= 6


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert decode(data, 3, BIG)[:, 0, 0].tolist() == [255, 0, 0]


def test_sixteen_bits_are_scaled_by_their_full_range():
    values = np.array([[0, 257, 25700, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        assert decode(saved(Image.fromarray(values), kind), 1, BIG)[0, 0].tolist() == [0, 1, 100, 255]


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma():
    grey = saved(Image.fromarray(np.array([[10, 200]], dtype=np.uint8)))
    assert decode(grey, 3, BIG)[:, 0].tolist() == [[10, 200]] * 3
    colour = saved(Image.new("RGB", (1, 1), (200, 100, 50)))
    # ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B
    assert decode(colour, 1, BIG)[0, 0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def test_one_bit_images_are_black_and_white():
    data = saved(Image.fromarray(np.array([[True, False]])))
    assert decode(data, 1, BIG)[0, 0].tolist() == [255, 0]


def test_a_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(saved(image), 3, BIG)[:, 0].T.tolist() == [[1, 2, 3], [40, 50, 60]]


def test_transparency_is_laid_over_white():
    image = Image.new("RGBA", (3, 1))
    image.putdata([(100, 0, 0, 255), (100, 0, 0, 0), (100, 0, 0, 51)])
    assert decode(saved(image), 3, BIG)[0, 0].tolist() == [100, 255, 224]


def test_transparency_of_a_palette_and_of_grey_is_laid_over_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    data = saved(palette, transparency=1)
    assert decode(data, 3, BIG)[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]
    grey = Image.new("LA", (2, 1))
    grey.putdata([(50, 255), (50, 0)])
    assert decode(saved(grey), 1, BIG)[0, 0].tolist() == [50, 255]


def test_cmyk_becomes_rgb():
    data = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)
    red, green, blue = decode(data, 3, BIG)[:, 4, 4].tolist()
    assert red < 10
    assert green > 245
    assert blue > 245


def test_lab_becomes_rgb_and_grey():
    rgb = Image.new("RGB", (2, 2), (200, 30, 30))
    lab = ImageCms.applyTransform(
        rgb, ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    )
    assert decode(saved(lab, "TIFF"), 3, BIG).shape == (3, 2, 2)
    assert decode(saved(lab, "TIFF"), 1, BIG).shape == (1, 2, 2)


@pytest.mark.parametrize("high", [1.0, 255.0])
def test_float_images_lie_in_one_of_two_ranges(high):
    values = np.linspace(0, high, 6, dtype=np.float32).reshape(2, 3)
    found = decode(saved(Image.fromarray(values), "TIFF"), 1, BIG)[0]
    assert found.tolist() == [[0, 51, 102], [153, 204, 255]]


@pytest.mark.parametrize(
    ("values", "reason"), [([[0, 1e4]], "values from 0 to 10000"), ([[-1, 0]], "from -1 to 0"), ([[0, np.nan]], "NaN")]
)
def test_other_floats_are_refused_rather_than_guessed(values, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(saved(Image.fromarray(np.array(values, dtype=np.float32)), "TIFF"), 1, BIG)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    upright = np.zeros((48, 32), dtype=np.uint8)
    upright[:24, :16] = 240
    upright[24:, 16:] = 120
    # What the sensor stored, so that the orientation of EXIF 2.32, table 6, turns it upright again.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    data = saved(Image.fromarray(np.ascontiguousarray(stored)).convert("RGB"), kind, exif=exif, **options)
    found = decode(data, 1, BIG)[0].astype(int)
    assert abs(found - upright)[2:-2:4, 2:-2:4].max() < 30
    header = read_header(data)
    assert (header.height, header.width) == (48, 32)


def test_reduction_keeps_the_ratio_and_the_mean():
    values = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    small = decode(saved(Image.fromarray(values)), 3, (60, 60))
    assert small.shape == (3, 60, 40)
    np.testing.assert_allclose(small.mean(axis=(1, 2)), values.mean(axis=(0, 1)), atol=1)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize(
    ("size", "limit"), [((700, 500), (192, 192)), ((3000, 260), (64, 300)), ((256, 256), (250, 250))]
)
def test_a_large_image_is_reduced_as_pillow_reduces_it(mode, channels, size, limit):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    assert size[0] * size[1] >= MANY_PIXELS
    found = decode(saved(image), channels, limit)
    wanted = np.asarray(image.resize(found.shape[:0:-1], Image.Resampling.BICUBIC))
    wanted = wanted[None] if channels == 1 else wanted.transpose(2, 0, 1)
    difference = abs(found.astype(int) - wanted)
    assert difference.max() <= 2
    assert difference.mean() < 0.02
    assert found.flags.c_contiguous


def test_a_large_image_is_reduced_alike_in_another_process():
    rng = np.random.default_rng(0)
    data = saved(Image.fromarray(rng.integers(0, 256, (400, 300, 3), dtype=np.uint8)))
    helper = Helper(Decoding(3, 60, 60))
    try:
        found = helper.all([data].__getitem__, [0])
        assert helper.process is not None
    finally:
        helper.close()
    assert np.array_equal(found.pixels[0, :, :, :45], decode(data, 3, (60, 60)))


def test_nothing_is_enlarged():
    assert decode(saved(Image.fromarray(gradient())), 3, (100, 100)).shape == (3, 6, 8)


def test_a_large_jpeg_decoded_small_equals_one_decoded_whole():
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).resize(
        (1800, 1200), Image.Resampling.BICUBIC
    )
    data = saved(rough, "JPEG", quality=95)
    whole = np.asarray(Image.open(io.BytesIO(data)).resize((96, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert abs(decode(data, 3, (96, 96)).astype(int) - whole).mean() < 1


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [((10, 20000), (256, 256), (1, 256)), ((1, 1), (8, 8), (1, 1)), ((300, 400), (150, 150), (112, 150))],
)
def test_sizes_fit_their_limit(size, limit, expected):
    assert fitted(*size, limit) == expected


def test_a_long_thin_image_is_decoded():
    assert decode(saved(Image.new("L", (20000, 10), 7)), 1, (256, 256)).tolist() == [[[7] * 256]]


def broken_png() -> bytes:
    return saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)))[:2000]


def broken_jpeg() -> bytes:
    return saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")[:900]


def bomb() -> bytes:
    """A PNG that says it has 50,000 x 50,000 pixels and holds next to nothing."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am text", "not an image of a known format"),
        (broken_png(), "truncated"),
        (broken_jpeg(), "truncated"),
        (bomb(), "exceeds limit|more than the limit"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image of a known format"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "."),
        (b"\xff\xd8\xff" + b"\0" * 100, "."),
        (b"GIF89a" + b"\0" * 5, "."),
        (b"II*\0" + b"\xff" * 64, "."),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "."),
        (b"BM" + b"\0" * 60, "."),
    ],
    ids=[
        "empty",
        "text",
        "png cut",
        "jpeg cut",
        "bomb",
        "eps",
        "png zeros",
        "jpeg zeros",
        "gif",
        "tiff",
        "webp",
        "bmp",
    ],
)
def test_damage_has_one_plain_reason(data, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(data, 3, BIG)


def test_many_pixels_below_the_limit_are_read_without_a_warning():
    data = saved(Image.new("1", (50_000, 1700)))
    assert MAX_PIXELS > 50_000 * 1700
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data, 1, (64, 64)).shape == (1, 2, 64)


def test_remarks_of_the_decoder_are_not_shown(tmp_path: Path):
    (tmp_path / "d").mkdir()
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    (tmp_path / "d" / "a.png").write_bytes(saved(palette, transparency=b"\0\x80"))
    (tmp_path / "d" / "b.tif").write_bytes(saved(Image.new("L", (9, 9)), "TIFF")[:-60])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_source(tmp_path / "d", progress=False)


def test_files_that_are_not_there_have_their_reason(tmp_path: Path):
    with pytest.raises(UnreadableImage, match="no such file"):
        decode(tmp_path / "a.png", 3, BIG)
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UnreadableImage, match="a link to a file that is not there"):
        decode(tmp_path / "link.png", 3, BIG)


def test_a_file_without_permission_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    path.write_bytes(saved(Image.fromarray(gradient())))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    # The superuser may read everything, so the refusal is played.
    monkeypatch.setattr(images.os, "open", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UnreadableImage, match="no permission"):
        decode(path, 3, BIG)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_headers_tell_grey_from_colour(mode):
    assert read_header(saved(Image.new(mode, (3, 2)))).grey
    assert not read_header(saved(Image.new("RGB", (3, 2)))).grey


ORIENTED = [(kind, where) for kind in ("PNG", "JPEG") for where in ("exif", "xmp")] + [("PNG", "behind")]


def oriented(kind: str, where: str) -> bytes:
    """An image that has to be turned by a quarter, and where it tells."""
    picture, exif = Image.fromarray(gradient()), Image.Exif()
    exif[0x0112] = 6
    xmp = '<x tiff:Orientation="6"/>'
    if where == "exif":
        return saved(picture, kind, exif=exif)
    if where == "xmp" and kind == "JPEG":
        return saved(picture, kind, xmp=xmp.encode())
    if where == "xmp":
        told = PngInfo()
        told.add_itxt("XML:com.adobe.xmp", xmp)
        return saved(picture, kind, pnginfo=told)
    content, block = saved(picture), b"eXIf" + exif.tobytes()[6:]
    end = content.index(b"IEND") - 4
    chunk = struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block))
    return content[:end] + chunk + content[end:]


@pytest.mark.parametrize(("kind", "where"), ORIENTED)
def test_a_small_image_is_turned_wherever_it_tells_that(kind: str, where: str):
    upright = saved(Image.fromarray(gradient()), kind)
    assert np.array_equal(decode(oriented(kind, where), 3, BIG), np.rot90(decode(upright, 3, BIG), -1, (1, 2)))


def ordinary() -> list[bytes]:
    """Small images as they are met with, and as they are not."""
    rgb = Image.fromarray(gradient(9, 14))
    modes = [rgb.convert(mode) for mode in ("RGB", "L", "1", "P", "RGBA", "CMYK")]
    modes.append(Image.fromarray(np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)))
    whole = [
        saved(image, kind)
        for kind in ("PNG", "JPEG")
        for image in modes
        if image.mode not in (("RGBA", "P", "I;16") if kind == "JPEG" else ("CMYK",))
    ]
    whole += [saved(rgb, transparency=(1, 2, 3)), saved(rgb, "JPEG", progressive=True), saved(rgb, "MPO")]
    rng = np.random.default_rng(0)
    broken = []
    for content in whole:
        broken += [content[: int(rng.integers(len(content)))] for _ in range(8)]
        for _ in range(16):
            bad = bytearray(content)
            bad[int(rng.integers(len(bad)))] = int(rng.integers(256))
            broken.append(bytes(bad))
    return whole + broken


def test_the_short_way_of_small_images_gives_the_same_pixels_and_reasons(monkeypatch: pytest.MonkeyPatch):
    def outcomes() -> list[object]:
        found: list[object] = []
        for content in ordinary():
            for channels, limit in ((1, (9, 14)), (3, BIG), (3, (5, 5))):
                try:
                    array = decode(content, channels, limit)  # type: ignore[arg-type]
                    found.append((array.shape, array.tobytes()))
                except UnreadableImage as error:
                    found.append(str(error))
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = outcomes()
        monkeypatch.setattr(images, "PLAIN", {})
        assert short == outcomes()


def test_a_small_plain_image_is_decoded_without_looking_for_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "_opened", None)
    assert np.array_equal(decode(saved(Image.fromarray(gradient())), 3, BIG), gradient().transpose(2, 0, 1))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_empty_and_does_not_block(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="empty"):
        decode(str(tmp_path / "a.png"), 3, BIG)
