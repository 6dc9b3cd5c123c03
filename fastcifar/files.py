"""Files written whole, their places, and folders that one process at a time writes in."""

import errno
import fcntl
import os
import re
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

from fastcifar.errors import InputError

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")


def expanded(path: str | Path) -> Path:
    """`path`, a person's word, with their home for a ~ at its beginning."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises at an unknown user)


def require_folder_of(file: Path) -> None:
    """Before work that ends in writing `file` or making that folder: raises `InputError` where it has no place."""
    if not file.absolute().parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}")
    folder = file if file.is_dir() else file.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{file}: no file can be written in {folder}")


def require_no_link(folder: Path) -> None:
    """Before writing in a folder of a run that somebody else may have made: raises `InputError` where it is a link."""
    if folder.is_symlink():
        raise InputError(f"{folder}: a link to another folder, in which nothing is written")


def open_regular(path: Path, largest: int | None = None) -> BinaryIO:
    """The file `path` to be read, of at most `largest` bytes. Raises `OSError`, whose `strerror` says what is wrong.

    What is no regular file is refused, for reading a pipe waits for somebody to write, and a device may have no end.
    """
    # Without waiting for a writer, which the look at what it is would come too late for.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    about = os.fstat(file.fileno())
    said = ""
    if not stat.S_ISREG(about.st_mode):
        said = "it is not a regular file"
    elif largest is not None and about.st_size > largest:
        said = f"it is larger than {largest / 2**20:g} MiB"
    if said:
        file.close()
        raise OSError(errno.EINVAL, said, str(path))
    return file


def read_regular(path: Path, largest: int | None = None) -> bytes:
    """What is in the file `path`, as `open_regular` opens it."""
    with open_regular(path, largest) as file:
        return file.read()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that at any instant it is the old one or the new one, whole.

    What a process that was killed leaves of it, `remove_leftovers` removes. Raises `OSError`, which names `path`.
    """
    try:
        temporary, descriptor = _beside(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_leftovers(folder: Path, of: str | None = None) -> None:
    """Remove the files that killed processes were writing in `folder`, with `of` only those of a file of that name."""
    for path in folder.glob(".*.tmp"):
        found = _TEMPORARY.fullmatch(path.name)
        if not found or of not in (None, found[1]):
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # it is gone by now, or not ours
        try:
            if _locked(descriptor):  # else somebody is writing it, or nobody can say
                path.unlink(missing_ok=True)
        except OSError:
            pass  # a folder that is only to be read stays as it is
        finally:
            os.close(descriptor)


class Claim:
    """A folder that no other process claims until `close`, or the end of this one, however it comes.

    Raises `InputError` where another has it. A file system without locks has no claims.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        if _locked(self._descriptor) is False:
            os.close(self._descriptor)
            raise InputError(f"{folder}: another process is writing in it")

    def close(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def _beside(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, and a descriptor that holds its lock."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if _locked(descriptor) is not False and os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)  # `remove_leftovers` came between


def _locked(descriptor: int) -> bool | None:
    """Whether the lock of an open file could be had at once; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
