"""Image files of every kind, as 32x32 RGB bytes."""

import contextlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fastcifar.data.images import read_folder, read_image
from fastcifar.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
CLASSES = ("airplane", "cat", "ship")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm", "a.webp", "name without an ending"])
def test_32x32_pixels_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    form = {"a.webp": "WEBP"}.get(name, "PNG" if "." not in name else None)
    Image.fromarray(PIXELS).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    found = read_image(file)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_fewer_colours(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    alpha = np.full((32, 32, 1), 255, np.uint8)
    alpha[:16] = 0
    Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)).save(tmp_path / "rgba.png")
    found = read_image(tmp_path / "rgba.png")
    assert (found[:16] == 255).all()
    np.testing.assert_array_equal(found[16:], PIXELS[16:])

    Image.fromarray(np.concatenate([PIXELS[..., :1], alpha], axis=2)).save(tmp_path / "la.png")
    found = read_image(tmp_path / "la.png")
    assert (found[:16] == 255).all()
    np.testing.assert_array_equal(found[16:], grey(PIXELS[16:, :, 0]))


def test_a_transparent_palette(tmp_path: Path) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.paste(0, (0, 0, 32, 16))
    image.save(tmp_path / "a.gif", transparency=0)
    image.save(tmp_path / "a.png", transparency=0)
    for name in ("a.gif", "a.png"):
        found = read_image(tmp_path / name)
        assert (found[:16] == 255).all()
        assert (found[16:] == [10, 20, 30]).all()


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bits_become_8(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (32, 32), np.uint16)
    values[0, :3] = 0, 65535, 257
    Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), grey(np.round(values / 257).astype(np.uint8)))


def test_16_bits_in_other_files(tmp_path: Path) -> None:
    """A portable grey map, which PIL holds in 32 bits; and a PNG of 16-bit colours, which PIL makes 8 bits."""
    values = np.random.default_rng(1).integers(0, 65536, (32, 32), np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 32 32 65535\n" + values.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm"), grey(np.round(values / 257).astype(np.uint8)))

    (tmp_path / "a.png").write_bytes(png(32, 32, b"\0" + (PIXELS[0].astype(">u2") * 257).tobytes(), depth=16))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(PIXELS[:1], 32, axis=0))


def png(width: int, height: int, row: bytes, depth: int = 8) -> bytes:
    """A PNG of RGB pixels whose rows are all alike."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L"])
def test_jpegs(tmp_path: Path, mode: str) -> None:
    smooth = Image.fromarray(PIXELS[:2, :2]).resize((32, 32), Image.Resampling.BILINEAR)
    smooth.convert(mode).save(tmp_path / "a.jpg", quality=95)
    wanted = np.asarray(smooth.convert(mode).convert("RGB"), np.float32)
    assert np.abs(read_image(tmp_path / "a.jpg") - wanted).mean() < 4


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (33, 32), (640, 480)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    """The centred square, resized."""
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), np.uint8))
    image.save(tmp_path / "a.png")
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    wanted = image.resize((32, 32), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(wanted))
    assert np.array_equal(np.asarray(wanted), np.asarray(ImageOps.fit(image, (32, 32))))


def test_what_is_no_image(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.png") == "no such file"
    assert refusal(tmp_path / ("x" * 300)) == "no such file"  # nor can there be
    assert refusal(tmp_path) == "not a file"
    file = tmp_path / "a.png"
    for content in (b"", b"text", b"\x89PNG\r\n\x1a\n"):
        file.write_bytes(content)
        assert refusal(file) == "not an image that PIL can read" or content.startswith(b"\x89")
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "not a file"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_damaged_files(tmp_path: Path, form: str) -> None:
    """Cut off or scrambled: one line, whichever way the decoder fails, or an image."""
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, form)
    whole = content.getvalue()
    file = tmp_path / "a"
    file.write_bytes(whole[: len(whole) // 2])
    refusal(file)
    rng = np.random.default_rng(3)
    for _ in range(100):
        scrambled = bytearray(whole)
        for place in rng.integers(0, len(whole), 8):
            scrambled[place] = rng.integers(0, 256)
        file.write_bytes(scrambled)
        with contextlib.suppress(InputError):
            assert read_image(file).shape == (32, 32, 3)


def test_an_eps_file_is_not_given_to_ghostscript(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.eps")
    assert refusal(tmp_path / "a.eps") == "not an image that PIL can read"


def test_a_decompression_bomb(tmp_path: Path) -> None:
    for side in (10_000, 20_000):  # above PIL's limit for a warning, and for an error
        (tmp_path / "a.png").write_bytes(png(side, side, b""))
        with warnings.catch_warnings(record=True) as caught:
            assert "could be decompression bomb" in refusal(tmp_path / "a.png")
        assert not caught


def test_pixels_without_a_range(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32), np.float32)).save(tmp_path / "a.tiff")
    assert "floating point" in refusal(tmp_path / "a.tiff")
    Image.fromarray(np.full((32, 32), 70_000, np.int32)).save(tmp_path / "a.tiff")
    assert "beyond 0 to 65,535" in refusal(tmp_path / "a.tiff")


def test_a_folder_sorted_by_class(tmp_path: Path) -> None:
    for place, value in (("ship/b.png", 3), ("ship/a.bmp", 2), ("airplane/z.png", 1)):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (value, value, value)).save(tmp_path / place)
    (tmp_path / "README").touch()
    (tmp_path / "ship" / ".hidden").touch()
    (tmp_path / ".git").mkdir()
    images, labels = read_folder(tmp_path, CLASSES)
    assert images.shape == (3, 32, 32, 3)
    assert images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert labels.tolist() == [0, 2, 2]
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)

    (tmp_path / "ship" / "c.txt").write_text("no image")
    with pytest.raises(InputError, match=r"ship/c\.txt: not an image"):
        read_folder(tmp_path, CLASSES)
    (tmp_path / "boat").mkdir()
    with pytest.raises(InputError, match=r"boat: no class of that name; there are airplane, cat, ship"):
        read_folder(tmp_path, CLASSES)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images in sub-folders named airplane, cat, ship"):
        read_folder(tmp_path, CLASSES)
    with pytest.raises(InputError, match="nowhere: No such file"):
        read_folder(tmp_path / "nowhere", CLASSES)
