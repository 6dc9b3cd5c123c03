"""The command line: one short function per subcommand, which calls and prints."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

import fastcifar
from fastcifar import cli_records, cli_runs
from fastcifar.arguments import Bench, Command, Data, Env, FindLr, Recipes, Summary, Train, parse, recipe_name
from fastcifar.arguments_records import Accuracy, Check, Export, Page, Peers, Profile, Show
from fastcifar.arguments_runs import Compare, Eval, ExportModel, Predict, Report
from fastcifar.errors import InputError, RunError, Stopped, memory_problem
from fastcifar.execution import Execution, resolve
from fastcifar.recipe import Model, Recipe, header, shipped_recipes, validated

# torch is imported where it is first needed: it takes seconds, and --help must not.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for a failed run, 2 for bad input, 130 for Ctrl-C (128 + signal)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    try:
        if arguments == ["--version"]:
            print(f"fastcifar {fastcifar.__version__}", flush=True)
        else:
            run(parse(arguments), CommandConsole())
        return 0
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "interrupted", stop.exit_code if isinstance(stop, Stopped) else 130, debug)
    except InputError as error:
        return _fail(str(error), 2, debug)
    except RunError as error:
        return _fail(str(error), 1, debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", 1, debug)
    except Exception as error:
        if problem := memory_problem(error):
            return _fail(problem, 1, debug)
        summary = (str(error).splitlines() or [""])[0]
        return _fail(f"{type(error).__name__}: {summary} (--debug prints the traceback)", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"fastcifar: {' '.join(message.split())}", file=sys.stderr)
    return code


class CommandConsole(Console):
    """rich's console, which says so when the reader of its output has gone."""

    def on_broken_pipe(self) -> None:
        """Called by rich where a write fails; the text still held is dropped, lest the exit fails on it too."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BrokenPipeError(errno.EPIPE, "stopped, since the reader of the output has gone") from None


def run(command: Command, console: Console) -> None:
    """Execute a parsed command."""
    match command:
        case Train():
            train(command, console)
        case FindLr():
            find_lr(command, console)
        case Report():
            cli_runs.report(command, console)
        case Compare():
            cli_runs.compare(command, console)
        case Eval():
            cli_runs.evaluate(command, console)
        case Predict():
            cli_runs.predict(command, console)
        case ExportModel():
            cli_runs.export(command, console)
        case Bench():
            bench(command, console)
        case Accuracy():
            cli_records.accuracy(command, console)
        case Peers():
            cli_records.peers(command, console)
        case Profile():
            cli_records.profile(command, console)
        case Check():
            cli_records.check(command, console)
        case Show():
            cli_records.show(command, console)
        case Page():
            cli_records.page(command, console)
        case Export():
            cli_records.export(command, console)
        case Summary():
            summary(command)
        case Data():
            data(command, console)
        case Recipes():
            recipes(console)
        case Env():
            env(console)


def train(command: Train, console: Console) -> None:
    """`fastcifar train`"""
    from fastcifar.data.load import load_dataset
    from fastcifar.measure.environment import environment, wall_seconds
    from fastcifar.report.console import TrainingConsole, print_result, print_start
    from fastcifar.report.lr import keep_lr, print_lr
    from fastcifar.report.run_figures import tested
    from fastcifar.report.run_page import write_report
    from fastcifar.report.tensorboard import TensorBoard
    from fastcifar.training.lr_finder import make_trainer
    from fastcifar.training.run_directory import RunDirectory, default_path
    from fastcifar.training.saved import open_run

    execution, notes = resolve(command.execution)
    name, recipe = recipe_name(command.name, notes), command.recipe
    path = command.out or default_path(name, recipe)
    board = TensorBoard(path / "tensorboard") if command.tensorboard else None
    with RunDirectory(path) as directory:
        dataset = load_dataset(recipe, command.data)
        trainer, found = make_trainer(recipe, dataset, execution)
        recipe = trainer.recipe
        if found:
            print_lr(console, found)
        print_start(console, name, trainer, dataset, execution, notes)
        directory.start(
            recipe_name=name,
            recipe=recipe,
            execution=execution,
            dataset=dataset,
            environment=environment(),
            lr_range=found.note() if found else None,
        )
        if found:
            keep_lr(found, path)
        with TrainingConsole(console, trainer) as table, board or nullcontext():
            if board:
                board.start(recipe, execution)
            result = trainer.run([directory, table, *([board] if board else [])])
            if board:
                board.finish(result)
        directory.finish(result, trainer.model, wall_seconds())
    print_result(console, result, recipe.target)
    console.print(f"kept in {path}", highlight=False, markup=False, soft_wrap=True)
    answers = tested(open_run(path), dataset) if command.report or board else None
    if board and answers:
        board.pictures(answers, dataset)
    if command.report:
        page = write_report(path, dataset=dataset, found=answers)
        console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)


def find_lr(command: FindLr, console: Console) -> None:
    """`fastcifar find-lr`"""
    from fastcifar.data.load import load_dataset
    from fastcifar.report.lr import keep_lr, print_lr
    from fastcifar.training.lr_finder import find_lr, for_range_test
    from fastcifar.training.run_directory import default_path
    from fastcifar.training.trainer import Trainer

    execution, notes = resolve(command.execution)
    name = recipe_name(command.name, notes)
    dataset = load_dataset(command.recipe, command.data)
    for line in (*notes, f"range test of {name} on {dataset.describe()}, {execution.device}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    with console.status("setting up") as status:
        trainer = Trainer(for_range_test(command.recipe), dataset, execution)
        found = find_lr(trainer, progress=lambda step, steps: status.update(f"step {step}/{steps}"))
    folder = command.out or default_path(f"{name}-find-lr", command.recipe)
    folder.mkdir(parents=True, exist_ok=True)
    print_lr(console, found)
    kept = " and ".join(str(file) for file in keep_lr(found, folder))
    console.print(f"kept in {kept}", highlight=False, markup=False, soft_wrap=True)


def bench(command: Bench, console: Console) -> None:
    """`fastcifar bench`"""
    import torch

    from fastcifar.data.load import load_dataset
    from fastcifar.measure.bench import run_benches, to_json
    from fastcifar.report.bench import draw, print_tables
    from fastcifar.training.run_directory import require_folder_of, write_whole

    if command.figure and command.figure.suffix not in (".png", ".svg"):
        raise InputError(f"--figure {command.figure}: the name must end in .png or .svg")
    for file in filter(None, (command.json, command.figure)):
        require_folder_of(file)
    execution, _ = resolve(Execution(device=command.device))
    device = torch.device(execution.device)
    short = command.short or command.what == "all"
    width = (64 if device.type == "cuda" else 16) if command.width is None else command.width
    blocks = (3 if short else 7) if command.blocks is None else command.blocks
    if blocks < 1:
        raise InputError(f"--blocks {blocks}: at least one is needed")
    recipe = Recipe(
        dataset=command.dataset,
        limit_train=command.limit_train,
        batch_size=command.batch_size,
        model=Model(width=width),
    )
    recipe = validated(asdict(recipe), prefix="--")
    dataset = load_dataset(recipe, command.data)
    if 8 * recipe.batch_size > len(dataset.train_images):
        raise InputError(f"--batch-size {recipe.batch_size}: 8 batches are more than the {dataset.name} images")
    console.print(f"{device.type}, {dataset.describe()}", highlight=False, markup=False, soft_wrap=True)
    with console.status("setting up") as status:
        measured = run_benches(
            command.what,
            dataset,
            recipe.model,
            device=device,
            batch_size=recipe.batch_size,
            blocks=blocks,
            short=short,
            progress=status.update,
        )
    print_tables(console, measured)
    if command.json:
        write_whole(command.json, to_json(measured, dataset, recipe.model, recipe.batch_size).encode())
    if command.figure:
        draw(measured, command.figure)


def summary(command: Summary) -> None:
    """`fastcifar summary`"""
    from fastcifar.model import describe

    print(describe(command.recipe.model))


def data(command: Data, console: Console) -> None:
    """`fastcifar data`"""
    from fastcifar.data.cifar10 import find_cifar10, verify

    root = find_cifar10(command.data)
    md5s = verify(root)
    for file, md5 in md5s.items():
        console.print(f"{md5}  {file}", highlight=False)
    said = f"CIFAR-10 is in {root}; the MD5s of all {len(md5s)} files hold"
    console.print(said, highlight=False, markup=False, soft_wrap=True)


def recipes(console: Console) -> None:
    """`fastcifar recipes`"""
    table = Table("recipe", "what it is, and what it was measured to reach", box=None, pad_edge=False)
    for name, path in shipped_recipes().items():
        table.add_row(name, Text("\n".join(header(path))))
    console.print(table)


def env(console: Console) -> None:
    """`fastcifar env`"""
    from fastcifar.data.cifar10 import locate_cifar10, verify
    from fastcifar.measure.environment import environment

    try:
        root = locate_cifar10()
        place = f"{root}, {len(verify(root))} MD5s hold" if root else "not here yet; `fastcifar data` downloads it"
    except InputError as error:
        place = str(error)
    for key, value in {**environment(), "data": place}.items():
        console.print(f"{key:<15} {'none' if value is None else value}", highlight=False, markup=False, soft_wrap=True)
