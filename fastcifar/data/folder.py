"""A folder of image files as a data set: train/ and test/, in each a sub-folder a class (torchvision's ImageFolder)."""

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from fastcifar.data.cifar import cache
from fastcifar.data.dataset import MOST_CLASSES, Dataset
from fastcifar.data.images import RULE, read_folder
from fastcifar.errors import InputError, printable, short
from fastcifar.files import expanded, write_whole
from fastcifar.recipe import DATASETS

SPLITS = ("train", "test")


def load_folder(folder: str | Path, name: str | None = None) -> Dataset:
    """The images of `folder`/train and `folder`/test: of each file the largest centred square, resized to 32x32.

    >>> fastcifar.load_folder("photos").classes
    ('cat', 'dog')

    The classes are the sub-folders of train, sorted by name; mean and standard deviation are those of the training
    images; `name` defaults to the folder's. The arrays are kept in the user's cache until a file changes (by name, size
    or time). Raises `InputError`, one line, if a folder is missing or empty, test has a class that train has not, or a
    file is not an image.
    """
    folder = expanded(folder)
    try:
        classes, listing = _classes(folder), _listing(folder)
    except OSError as error:
        raise InputError(f"{printable(error.filename or folder)}: {error.strerror}") from error
    kept = cache() / "folders" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.npz"
    arrays = _read(kept, listing)
    if arrays is None:
        arrays = {}
        for split in SPLITS:
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = read_folder(folder / split, classes)
        _write(kept, listing, arrays)
    tested = set(arrays["test_labels"].tolist())
    absent = ", ".join(printable(one) for label, one in enumerate(classes) if label not in tested)
    name = printable(name or folder.resolve().name or "folder")[:200]
    return Dataset.from_arrays(
        **arrays,
        classes=[printable(one) for one in classes],
        name=f"{name}-folder" if name in DATASETS else name,
        source=f"{printable(folder)}{f'; no test images of {short(absent)}' if absent else ''}; of each file {RULE}",
    )


def _classes(folder: Path) -> list[str]:
    for split in SPLITS:
        if not (folder / split).is_dir():
            raise InputError(
                f"{printable(folder)}: no folder {split} in it; a data set has train and test, with a folder a class"
            )
    train = folder / "train"
    places = sorted(place for place in train.iterdir() if place.is_dir() and not place.name.startswith("."))
    if not 2 <= len(places) <= MOST_CLASSES:
        raise InputError(f"{printable(train)}: {len(places):,} classes (folders in it), not 2 to {MOST_CLASSES:,}")
    for place in places:
        if all(file.name.startswith(".") for file in place.iterdir()):
            raise InputError(f"{printable(place)}: no image in it")
    return [place.name for place in places]


def _listing(folder: Path) -> str:
    """Another one after every change of the files, or of what is made of a file."""
    found = hashlib.sha256(f"{RULE} {PIL.__version__}".encode())
    for split in SPLITS:
        # Links to folders count as folders, as in reading them.
        for place in sorted(place for place in (folder / split).iterdir() if place.is_dir()):
            for file in sorted(place.iterdir()):
                with contextlib.suppress(FileNotFoundError):  # a link to nothing: reading it says so
                    about = file.stat()
                    found.update(os.fsencode(file.relative_to(folder)))
                    found.update(f"\0{about.st_size} {about.st_mtime_ns}\0".encode())
    return found.hexdigest()


def _read(kept: Path, listing: str) -> dict[str, Any] | None:
    """The arrays of a file of the cache; None where there is none, it is damaged, or of another listing."""
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            if arrays["listing"].item() == listing:
                return {name: arrays[name] for name in arrays.files if name != "listing"}
    except Exception:  # a damaged file fails in its own way: OSError, EOFError, BadZipFile, SyntaxError...
        return None
    return None


def _write(kept: Path, listing: str, arrays: dict[str, Any]) -> None:
    content = io.BytesIO()
    np.savez(content, listing=np.array(listing), **arrays)
    with contextlib.suppress(OSError):  # without a cache it is slower the next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, content.getvalue())
