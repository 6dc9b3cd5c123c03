"""Files written whole, and their places."""

import os
import tempfile
from pathlib import Path

from fastcifar.errors import InputError


def require_folder_of(file: Path) -> None:
    """Before work that ends in writing `file` or making that folder: raises `InputError` where it has no place."""
    if not file.absolute().parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that at any instant it is the old one or the new one, whole."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
