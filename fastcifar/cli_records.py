"""The subcommands that make and compare records: time to accuracy, rivals, the leaderboard."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fastcifar.arguments import recipe_name
from fastcifar.arguments_records import Accuracy, Check, Export, Page, Peers, Profile, Show
from fastcifar.errors import InputError, RunError
from fastcifar.execution import resolve

if TYPE_CHECKING:
    from fastcifar.measure.leaderboard import Entry


def accuracy(command: Accuracy, console: Console) -> None:
    """`fastcifar bench accuracy`"""
    from fastcifar.data.load import load_dataset
    from fastcifar.measure.bench_accuracy import bench_accuracy
    from fastcifar.measure.record import Record, to_json
    from fastcifar.measure.record_check import read_record
    from fastcifar.report.accuracy import AccuracyConsole, print_accuracy
    from fastcifar.training.run_directory import default_path, require_folder_of, write_whole

    if command.runs < 1:
        raise InputError(f"--runs {command.runs}: at least one is needed")
    seconds = _seconds(command.minutes)
    execution, notes = resolve(command.execution)
    name = recipe_name(command.name, notes)
    if command.resume and command.json is None:
        raise InputError("--resume: name the record to go on with by --json FILE")
    if command.json is None:
        path = default_path(f"{name}-{command.protocol}", command.recipe)
        file = path.with_name(f"{path.name}.record.json")
        file.parent.mkdir(exist_ok=True)
    else:
        file = command.json
        require_folder_of(file)
        if file.exists() and not command.resume:
            raise InputError(f"--json {file}: exists; --resume goes on with it, or name another")
    earlier = read_record(file) if command.resume else None
    dataset = load_dataset(command.recipe, command.data)
    kept = len(earlier.runs) if earlier else 0

    def keep(record: Record) -> None:
        nonlocal kept
        write_whole(file, to_json(record))
        kept = len(record.runs)

    for line in (*notes, f"{name} on {dataset.describe()}, {execution.device}, loader {execution.loader}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    try:
        with AccuracyConsole(console, command.runs, command.recipe.target) as watcher:
            record = bench_accuracy(
                name,
                command.recipe,
                dataset,
                execution,
                protocol=command.protocol,
                runs=command.runs,
                seconds=seconds,
                earlier=earlier,
                keep=keep,
                watcher=watcher,
            )
    except (KeyboardInterrupt, RunError) as error:
        if kept:
            error.args = (f"{error.args[0] if error.args else 'interrupted'}; {kept} finished runs are kept in {file}",)
        raise
    print_accuracy(console, record)
    if len(record.runs) < command.runs:
        said = f"{len(record.runs)} of {command.runs} runs: {command.minutes:g} minutes had passed; --resume goes on"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    console.print(f"kept in {file}", highlight=False, markup=False, soft_wrap=True)


def profile(command: Profile, console: Console) -> None:
    """`fastcifar bench profile`"""
    from fastcifar.data.load import load_dataset
    from fastcifar.measure.profile import profile_training, to_json
    from fastcifar.report.profile import print_profile
    from fastcifar.training.run_directory import require_folder_of, write_whole

    if command.steps < 1:
        raise InputError(f"--steps {command.steps}: at least one is needed")
    for file in filter(None, (command.json, command.trace)):
        require_folder_of(file)
        if file.is_dir():
            raise InputError(f"{file}: is a folder; name a file")
    if command.trace and command.trace.suffix != ".gz":
        raise InputError(f"--trace {command.trace}: is written gzipped; the name must end in .json.gz")
    execution, notes = resolve(command.execution)
    name = recipe_name(command.name, notes)
    dataset = load_dataset(command.recipe, command.data)
    for line in (*notes, f"{name} on {dataset.describe()}, {execution.device}, loader {execution.loader}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    with console.status("setting up") as status:
        found = profile_training(
            command.recipe, dataset, execution, steps=command.steps, trace=command.trace, progress=status.update
        )
    print_profile(console, found)
    if command.json:
        write_whole(command.json, to_json(found, name, command.recipe, execution, dataset).encode())


def _seconds(minutes: float | None) -> float | None:
    if minutes is not None and not 0 < minutes < float("inf"):
        raise InputError(f"--minutes {minutes:g}: must be above 0")
    return None if minutes is None else 60 * minutes


def check(command: Check, console: Console) -> None:
    """`fastcifar leaderboard check`"""
    from fastcifar.measure.leaderboard import find_records, read_entry

    files, refused = find_records(command.files), 0
    for file in files:
        try:
            entry = read_entry(file)
        except InputError as error:
            refused += 1
            print(f"fastcifar: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        said = f"{file}: holds: {entry.record.name}, {entry.seconds:,.2f} s, {entry.record.summary.runs} runs"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    if refused or not files:
        raise InputError(f"{refused} of {len(files)} records refused" if files else "no records there (*.record.json)")


def _entries(places: Sequence[Path]) -> "list[Entry]":
    """The entries of records that hold; the others are told on stderr, one line each."""
    from fastcifar.measure.leaderboard import checkout, find_records, read_entry

    entries = []
    for file in find_records(places or [checkout() / "results"]):
        try:
            entries.append(read_entry(file))
        except InputError as error:
            print(f"fastcifar: left out: {' '.join(str(error).split())}", file=sys.stderr)
    return entries


def show(command: Show, console: Console) -> None:
    """`fastcifar leaderboard show`"""
    from fastcifar.measure.leaderboard import checkout, groups, read_published
    from fastcifar.report.leaderboard import print_groups, print_published

    found = groups(_entries(command.files), target=command.target, hardware=command.hardware, protocol=command.protocol)
    print_groups(console, found)
    print_published(console, read_published(checkout())[0], command.target)


def page(command: Page, console: Console) -> None:
    """`fastcifar leaderboard page`"""
    from fastcifar.measure.leaderboard import checkout, groups, read_published
    from fastcifar.report.leaderboard import markdown
    from fastcifar.report.page import write_page
    from fastcifar.training.run_directory import require_folder_of, write_whole

    for file in filter(None, (command.out, command.markdown)):
        require_folder_of(file)
    found = groups(_entries(command.files))
    published, curves = read_published(checkout())
    written = [write_page(command.out, found, published, curves)]
    if command.markdown:
        write_whole(command.markdown, markdown(found, published).encode())
        written.append(command.markdown)
    for file in written:
        console.print(f"written: {file}", highlight=False, markup=False, soft_wrap=True)


def export(command: Export, console: Console) -> None:
    """`fastcifar leaderboard export`"""
    from fastcifar.measure.leaderboard import read_entry
    from fastcifar.report.dawnbench import write_pair
    from fastcifar.training.run_directory import require_folder_of

    require_folder_of(command.dawnbench)
    for entry in [read_entry(file) for file in command.files]:
        for file in write_pair(
            command.dawnbench,
            entry,
            author=command.author,
            author_email=command.author_email,
            code_url=command.code_url,
        ):
            console.print(f"written: {file}", highlight=False, markup=False, soft_wrap=True)


def peers(command: Peers, console: Console) -> None:
    """`fastcifar bench peers`"""
    from fastcifar.measure.peers import parse_paths, run_peers
    from fastcifar.measure.record import to_json
    from fastcifar.report.peers import print_peers
    from fastcifar.training.run_directory import require_folder_of, write_whole

    if command.out:
        require_folder_of(command.out)
        if command.out.exists() and (not command.out.is_dir() or list(command.out.glob("*.record.json"))):
            raise InputError(f"--out {command.out}: is no folder, or holds records; name another")
    paths = parse_paths(command.peer)
    notes: list[str] = []
    name = recipe_name(command.name, notes)
    for line in notes:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    outcomes = run_peers(
        name,
        command.recipe,
        command.execution,
        data=command.data,
        runs=command.runs,
        paths=paths,
        protocol=command.protocol,
        seconds=_seconds(command.minutes),
        progress=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
    )
    print_peers(console, outcomes, command.recipe.target)
    if command.out:
        command.out.mkdir(exist_ok=True)
        for outcome in outcomes:
            if outcome.record:
                write_whole(command.out / f"{outcome.program}.record.json", to_json(outcome.record))
        console.print(f"records kept in {command.out}", highlight=False, markup=False, soft_wrap=True)
