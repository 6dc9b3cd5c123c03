"""Image files of any size and mode, and folders of them sorted by class, as the network sees them: 32x32 RGB bytes."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fastcifar.errors import InputError, printable

SIDE = 32
RULE = "the largest centred square, resized to 32x32 with PIL's bicubic filter"


def read_image(path: Path) -> NDArray[np.uint8]:
    """The image file `path` as (32, 32, 3) uint8 RGB: turned upright by its EXIF orientation, then `RULE`.

    An image of 32x32 pixels is taken as it is. Transparent parts become white; 16 bits a channel become 8; of several
    frames the first counts; colour profiles are ignored. Raises `InputError`, one line that begins with the path, at
    what is no image, is damaged, has pixels of no fixed range (floating point), or is so large that it may be a
    decompression bomb (PIL's limit, about 89 million pixels).
    """
    name = printable(path)
    # Opening a pipe would wait for somebody to write to it; Path's own raise at a name that is too long.
    if not os.path.isfile(path):  # noqa: PTH113
        raise InputError(f"{name}: {'not a file' if os.path.exists(path) else 'no such file'}")  # noqa: PTH110
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PIL makes of odd metadata is no error line of ours
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_formats()) as image:
                return np.array(ImageOps.fit(_rgb(ImageOps.exif_transpose(image)), (SIDE, SIDE)))
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image that PIL can read") from error
    except MemoryError as error:
        raise InputError(f"{name}: too large for this machine's memory") from error
    except Exception as error:  # a damaged file fails in its decoder's own way: OSError, SyntaxError, struct.error...
        said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name}: cannot be read as an image: {said}") from error


def read_folder(folder: Path, classes: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 32, 32, 3) uint8 and labels (n,) int64 of a folder whose sub-folders are named as `classes`.

    In the order of the names. Not every class needs a folder; hidden files, and files outside the sub-folders, are
    left out. Raises `InputError`, one line, at a sub-folder of another name, where there is no image, or at a file that
    `read_image` refuses: an accuracy over the rest would be another one.
    """
    name = printable(folder)
    try:
        places = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
        for place in places:
            if place.name not in classes:
                raise InputError(f"{printable(place)}: no class of that name; there are {', '.join(classes)}")
        files = [file for place in places for file in sorted(place.iterdir()) if not file.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from error
    if not files:
        raise InputError(f"{name}: no images in sub-folders named {', '.join(classes)}")
    images = np.stack([read_image(file) for file in files])
    return images, np.array([classes.index(file.parent.name) for file in files], np.int64)


def _formats() -> list[str]:
    """What PIL reads by itself: for EPS it would start Ghostscript, which executes what is in the file."""
    Image.init()
    return [name for name in Image.OPEN if name != "EPS"]


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers, whose range nothing says")
    if image.has_transparency_data:
        if image.mode == "La":  # premultiplied, with no direct way to RGBA
            image = image.convert("LA")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(values: NDArray[np.integer]) -> Image.Image:
    """Grey of 16 bits, which PIL may hold in 32, to 8 bits; PIL's own conversion would cut off at 255."""
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels are 32-bit numbers beyond 0 to 65,535")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))
