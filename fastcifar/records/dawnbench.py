"""A record in DAWNBench's submission format: a JSON and a TSV file a run.

Fields, columns and file names as https://github.com/stanford-futuredata/dawn-bench-entries asks for CIFAR10/train.
"""

import json
import re
from pathlib import Path

from fastcifar.files import write_whole
from fastcifar.records.leaderboard import Entry
from fastcifar.records.record import Run


def write_pair(folder: Path, entry: Entry, *, author: str, author_email: str, code_url: str) -> list[Path]:
    """Write the pair of every run of `entry` into `folder`, made if missing; returns the files.

    Hours are training hours, evaluation not included; accuracies are percent.
    """
    folder.mkdir(exist_ok=True)
    record, environment = entry.record, entry.record.environment
    sizes = [f"{environment.memory_gib:g} GB"] if environment.memory_gib else []
    sizes += [f"{environment.cores} CPU"] if environment.cores else []
    files: list[Path] = []
    for run in record.runs:
        model = entry.recipe if run.seed is None else f"{entry.recipe}-seed{run.seed}"
        stem = "_".join(_tag(part) for part in (author, model, entry.hardware, "pytorch"))
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
        pair = folder / f"{stem}.json", folder / f"{stem}.tsv"
        write_whole(pair[0], (json.dumps(content, indent=4) + "\n").encode())
        write_whole(pair[1], _tsv(run).encode())
        files += pair
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
