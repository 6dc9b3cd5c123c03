"""CIFAR-10 and CIFAR-100: find, download, verify. torchvision does the reading, the download and the MD5s."""

import os
import tempfile
import urllib.error
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import platformdirs
from filelock import FileLock
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5

from fastcifar.data.dataset import MEAN, STD, Channels, Dataset
from fastcifar.errors import InputError
from fastcifar.files import expanded, open_regular

ENVIRONMENT_VARIABLE = "FASTCIFAR_DATA"
KINDS: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def load_cifar10(folder: str | Path | None = None) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images (n, 32, 32, 3) uint8 RGB, labels (n,) int64.

    >>> fastcifar.load_cifar10().train_images.shape
    (50000, 32, 32, 3)

    It is read from `folder`, else from `$FASTCIFAR_DATA`, else from the user's cache, into which it is downloaded if
    needed. The folder contains `cifar-10-batches-py`, torchvision's layout. Raises `InputError`, one line, if CIFAR-10
    cannot be found or downloaded, or a file cannot be read or does not match its published MD5.
    """
    return _loaded(CIFAR10, "cifar10", folder, MEAN, STD)


def load_cifar100(folder: str | Path | None = None) -> Dataset:
    """CIFAR-100, with its 100 fine classes: as `load_cifar10`; a folder holds `cifar-100-python`.

    >>> len(fastcifar.load_cifar100().classes)
    100

    Mean and standard deviation are those of its training images.
    """
    return _loaded(CIFAR100, "cifar100", folder, None, None)


def _loaded(
    kind: type[CIFAR10], name: str, folder: str | Path | None, mean: Channels | None, std: Channels | None
) -> Dataset:
    root = find_cifar10(folder, kind)
    verify(root, kind)  # before torchvision unpickles anything
    verified = type(kind.__name__, (kind,), {"_check_integrity": lambda self: True})  # else each split verifies all
    train, test = verified(root, train=True), verified(root, train=False)
    dataset = Dataset.from_arrays(
        train.data,
        train.targets,
        test.data,
        test.targets,
        classes=tuple(train.classes),
        source=str(root / kind.base_folder),
        mean=mean,
        std=std,
    )
    return replace(dataset, name=name)


def find_cifar10(folder: str | Path | None = None, kind: type[CIFAR10] = CIFAR10) -> Path:
    """The folder that holds `cifar-10-batches-py` (of CIFAR100 as `kind`, `cifar-100-python`): see `load_cifar10`.
    Downloads if it is nowhere."""
    root = locate_cifar10(folder, kind)
    if root is None:
        root = cache()
        _download(root, kind)
    return root


def locate_cifar10(folder: str | Path | None = None, kind: type[CIFAR10] = CIFAR10) -> Path | None:
    """As `find_cifar10`, without a download: None where it is in no place and none was named."""
    named = folder or os.environ.get(ENVIRONMENT_VARIABLE)
    if not named:
        return cache() if (cache() / kind.base_folder).is_dir() else None
    root = expanded(named)
    if root.name == kind.base_folder:
        root = root.parent
    where = f"--data {named}" if folder else f"${ENVIRONMENT_VARIABLE}={named}"
    try:
        if kind.base_folder in os.listdir(root):  # noqa: PTH208 (unlike is_dir, says why a folder is unreadable)
            return root
    except OSError as error:
        raise InputError(f"{where}: {error.strerror}; it should be a folder with {kind.base_folder} in it") from error
    raise InputError(
        f"{where}: no {kind.base_folder} in it; unpack {kind.url} there, or name no folder and it is "
        f"downloaded into {cache()}"
    )


def cache() -> Path:
    """Where images are downloaded to, and kept."""
    return Path(platformdirs.user_cache_dir("fastcifar"))


def published_md5s(kind: type[CIFAR10] = CIFAR10) -> Iterator[tuple[str, str]]:
    """File name and MD5 of each of the files of CIFAR-10, or of another `kind`, as torchvision knows them."""
    yield from kind.train_list
    yield from kind.test_list
    yield kind.meta["filename"], kind.meta["md5"]


def verify(root: Path, kind: type[CIFAR10] = CIFAR10) -> dict[str, str]:
    """Check the files below `root`; return their MD5s by name. Raises `InputError` naming the first bad one."""
    found = {}
    for name, expected in published_md5s(kind):
        path = root / kind.base_folder / name
        try:
            open_regular(path).close()
            found[name] = calculate_md5(path)
        except FileNotFoundError as error:
            raise InputError(f"{path}: missing; {_mend(root, kind)}") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        if found[name] != expected:
            raise InputError(
                f"{path}: damaged: its MD5 is {found[name]}, {title(kind)}'s is {expected}; {_mend(root, kind)}"
            )
    return found


def title(kind: type[CIFAR10]) -> str:
    """The data set's name."""
    return "CIFAR-100" if issubclass(kind, CIFAR100) else "CIFAR-10"


def _mend(root: Path, kind: type[CIFAR10]) -> str:
    if root == cache():
        return f"delete {root / kind.base_folder} to have it downloaded again"
    return f"unpack {kind.url} there again"


def _download(root: Path, kind: type[CIFAR10]) -> None:
    """Download and unpack into `root`, under a temporary name until all is there; one process at a time."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "download.lock"):
            if (root / kind.base_folder).is_dir():
                return  # another process was first
            with tempfile.TemporaryDirectory(prefix="download-", dir=root) as temporary:
                kind(temporary, download=True)
                (Path(temporary) / kind.base_folder).rename(root / kind.base_folder)
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise InputError(
            f"no {title(kind)}: not in --data, ${ENVIRONMENT_VARIABLE} or {root}, and downloading it failed "
            f"({error}); run again with a network, or unpack {kind.url} in a folder and name it with --data"
        ) from error
    except RuntimeError as error:  # torchvision's word for a wrong MD5
        raise InputError(f"{kind.url}: the download is damaged, run again ({error})") from error
    except OSError as error:
        raise InputError(f"{root}: cannot store {title(kind)}: {error.strerror or error}") from error
