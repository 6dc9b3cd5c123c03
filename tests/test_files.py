"""Files that are whole, those that killed processes leave, and folders that are claimed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastcifar.errors import InputError
from fastcifar.files import Claim, remove_leftovers, write_whole

HANGING = """
import os, sys, time
from pathlib import Path
from fastcifar import files
os.fsync = lambda descriptor: time.sleep(60)
files.write_whole(Path(sys.argv[1]), b"half")
"""


def writing(path: Path) -> subprocess.Popen[bytes]:
    """A process in the middle of writing `path`."""
    process = subprocess.Popen([sys.executable, "-c", HANGING, str(path)])
    while not list(path.parent.glob(f".{path.name}.*.tmp")):
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for other in (".hidden.tmp", ".file.tmp", "file.0123abcd.tmp", ".note.0123abcde.tmp"):
        (tmp_path / other).write_text("somebody's")
    before = sorted(tmp_path.iterdir())
    process = writing(tmp_path / "file")
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(before) + 1  # it is alive
    process.kill()
    process.wait()
    remove_leftovers(tmp_path, of="another")
    assert len(list(tmp_path.iterdir())) == len(before) + 1
    remove_leftovers(tmp_path, of="file")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "old"


def test_leftovers_that_are_no_files_stay(tmp_path: Path) -> None:
    (tmp_path / ".a.01234567.tmp").mkdir()
    (tmp_path / ".b.01234567.tmp").symlink_to("nowhere")
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_is_claimed_once(tmp_path: Path) -> None:
    first = Claim(tmp_path)
    with pytest.raises(InputError, match="another process is writing in it"):
        Claim(tmp_path)
    first.close()
    Claim(tmp_path).close()


def test_an_error_names_the_file_that_was_to_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No such file or directory: .*/gone/file'$"):
        write_whole(tmp_path / "gone" / "file", b"")
