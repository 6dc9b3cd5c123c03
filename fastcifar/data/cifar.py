"""CIFAR-10: find it, download it, verify it. torchvision does the finding, the download and the MD5s."""

import os
import tempfile
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError

ENVIRONMENT_VARIABLE = "FASTCIFAR_DATA"


def load_cifar10(folder: str | Path | None = None) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images (n, 32, 32, 3) uint8 RGB, labels (n,) int64.

    Looks in `folder`, else in `$FASTCIFAR_DATA`, else in the user's cache, into which it downloads at need. A folder
    holds `cifar-10-batches-py`, as torchvision lays it out. Raises `InputError`, one line, where CIFAR-10 is not to be
    had, a file is damaged (its MD5 is not the published one) or cannot be read.
    """
    root = find_cifar10(folder)
    verify(root)  # before torchvision unpickles anything
    train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    return Dataset(
        name="cifar10",
        source=str(root / CIFAR10.base_folder),
        classes=tuple(train.classes),
        train_images=np.ascontiguousarray(train.data),
        train_labels=np.asarray(train.targets, np.int64),
        test_images=np.ascontiguousarray(test.data),
        test_labels=np.asarray(test.targets, np.int64),
    )


def find_cifar10(folder: str | Path | None = None) -> Path:
    """The folder that holds `cifar-10-batches-py`: see `load_cifar10`. Downloads if it is nowhere."""
    root = locate_cifar10(folder)
    if root is None:
        root = cache()
        _download(root)
    return root


def locate_cifar10(folder: str | Path | None = None) -> Path | None:
    """As `find_cifar10`, without a download: None where it is in no place and none was named."""
    named = folder or os.environ.get(ENVIRONMENT_VARIABLE)
    if not named:
        return cache() if (cache() / CIFAR10.base_folder).is_dir() else None
    root = Path(os.path.expanduser(named))  # noqa: PTH111 (Path.expanduser raises at an unknown user)
    if root.name == CIFAR10.base_folder:
        root = root.parent
    where = f"--data {named}" if folder else f"${ENVIRONMENT_VARIABLE}={named}"
    try:
        if CIFAR10.base_folder in os.listdir(root):  # noqa: PTH208 (unlike is_dir, says why a folder is unreadable)
            return root
    except OSError as error:
        raise InputError(
            f"{where}: {error.strerror}; it should be a folder with {CIFAR10.base_folder} in it"
        ) from error
    raise InputError(
        f"{where}: no {CIFAR10.base_folder} in it; unpack {CIFAR10.url} there, or name no folder and CIFAR-10 is "
        f"downloaded into {cache()}"
    )


def cache() -> Path:
    """Where CIFAR-10 is downloaded to."""
    return Path(platformdirs.user_cache_dir("fastcifar"))


def published_md5s() -> Iterator[tuple[str, str]]:
    """File name and MD5 of each of the seven files of CIFAR-10, as torchvision knows them."""
    yield from CIFAR10.train_list
    yield from CIFAR10.test_list
    yield CIFAR10.meta["filename"], CIFAR10.meta["md5"]


def verify(root: Path) -> dict[str, str]:
    """Check the seven files below `root`; return their MD5s by name. Raises `InputError` naming the first bad one."""
    found = {}
    for name, expected in published_md5s():
        path = root / CIFAR10.base_folder / name
        try:
            found[name] = calculate_md5(path)
        except FileNotFoundError as error:
            raise InputError(f"{path}: missing; {_mend(root)}") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        if found[name] != expected:
            raise InputError(f"{path}: damaged: its MD5 is {found[name]}, CIFAR-10's is {expected}; {_mend(root)}")
    return found


def _mend(root: Path) -> str:
    if root == cache():
        return f"delete {root / CIFAR10.base_folder} to have it downloaded again"
    return f"unpack {CIFAR10.url} there again"


def _download(root: Path) -> None:
    """Download and unpack into `root`, under a temporary name until all is there; one process at a time."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "download.lock"):
            if (root / CIFAR10.base_folder).is_dir():
                return  # another process was first
            with tempfile.TemporaryDirectory(prefix="download-", dir=root) as temporary:
                CIFAR10(temporary, download=True)
                (Path(temporary) / CIFAR10.base_folder).rename(root / CIFAR10.base_folder)
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise InputError(
            f"no CIFAR-10: not in --data, ${ENVIRONMENT_VARIABLE} or {root}, and downloading it failed ({error}); "
            f"run again with a network, or unpack {CIFAR10.url} in a folder and name it with --data"
        ) from error
    except RuntimeError as error:  # torchvision's word for a wrong MD5
        raise InputError(f"{CIFAR10.url}: the download is damaged, run again ({error})") from error
    except OSError as error:
        raise InputError(f"{root}: cannot store CIFAR-10: {error.strerror or error}") from error
