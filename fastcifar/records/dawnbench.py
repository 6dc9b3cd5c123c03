"""A record in DAWNBench's submission format: a JSON and a TSV file a run.

Fields, columns and file names as https://github.com/stanford-futuredata/dawn-bench-entries asks for CIFAR10/train.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from fastcifar.errors import InputError
from fastcifar.files import write_whole
from fastcifar.records.leaderboard import Entry
from fastcifar.records.record import Run


def write_pairs(folder: Path, entries: Sequence[Entry], *, author: str, author_email: str, code_url: str) -> list[Path]:
    """Write the pair of every run of `entries` into `folder`, made if missing; returns the files.

    Hours are training hours, evaluation not included; accuracies are percent. Raises `InputError`, before anything is
    written, where two runs would have one name, or a file of that name is there and holds something else.
    """
    contents: dict[Path, bytes] = {}
    whose: dict[Path, Entry] = {}
    for entry in entries:
        for name, content in _pairs(entry, author=author, author_email=author_email, code_url=code_url).items():
            file = folder / name
            if file in contents:
                raise InputError(
                    f"{entry.file}: its {name} would be that of {whose[file].file} too; export them into two folders"
                )
            if file.exists() and not (file.is_file() and file.read_bytes() == content):
                raise InputError(f"{file}: is there, and not of {entry.file}; name another folder")
            contents[file], whose[file] = content, entry
    folder.mkdir(exist_ok=True)
    for file, content in contents.items():
        write_whole(file, content)
    return list(contents)


def _pairs(entry: Entry, *, author: str, author_email: str, code_url: str) -> dict[str, bytes]:
    """The files of every run, by name; a run without a seed is named by its place in the record."""
    record, environment = entry.record, entry.record.environment
    sizes = [f"{environment.memory_gib:g} GB"] if environment.memory_gib else []
    sizes += [f"{environment.cores} CPU"] if environment.cores else []
    files: dict[str, bytes] = {}
    for number, run in enumerate(record.runs, start=1):
        which = f"run{number}" if run.seed is None else f"seed{run.seed}"
        model = f"{entry.recipe}-{which}"
        # A long name is cut, and what tells the runs apart is not.
        stem = "_".join((_tag(author), f"{_tag(entry.recipe)}-{which}", _tag(entry.hardware), "pytorch"))
        content = {
            "version": "v1.0",
            "author": author,
            "authorEmail": author_email,
            "framework": f"PyTorch {environment.torch or ''}".rstrip(),
            "codeURL": code_url,
            "model": model,
            "hardware": " / ".join([entry.hardware, *sizes]),
            "timestamp": run.started[:10],
            "misc": {
                "program": record.program,
                "recipe": None if record.recipe is None else record.recipe_hash,
                "loader": entry.loader,
                "commit": environment.commit,
                "dirty": environment.dirty,
                "hours": "training alone, loading and augmentation included, evaluation and set-up not",
            },
        }
        files[f"{stem}.json"] = (json.dumps(content, indent=4) + "\n").encode()
        files[f"{stem}.tsv"] = _tsv(run).encode()
    return files


def _tsv(run: Run) -> str:
    lines, seconds = ["epoch\thours\ttop1Accuracy"], 0.0
    for epoch in run.epochs:
        seconds += epoch.train_seconds
        if epoch.test_accuracy is not None:
            lines.append(f"{epoch.epoch}\t{seconds / 3600:.12g}\t{100 * epoch.test_accuracy:.6g}")
    return "\n".join(lines) + "\n"


def _tag(text: str) -> str:
    """A part of a file name: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unnamed"
