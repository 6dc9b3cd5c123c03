"""`python -m benchmarks search FILE.toml`: a question about a recipe, asked of held-out training images.

FILE.toml says what is asked: `recipe` (a name, or a file beside it), `[set]`, changes to it as in a recipe file,
`[fields]`, what is varied by dotted names (a list of choices; or `low`, `high` and, if need be, `log` or `step`),
`validation` (how many of the last training images to test on), `seeds`, `trials`, `sampler` ("grid", or "tpe" seeded by
`sampler_seed`), and `points_per_doubling`: how many points of accuracy twice the work has to bring.

The study is Optuna's, in FILE.db: given again, the command goes on; given twice at once (each with OMP_NUM_THREADS=1,
say), both work on it; with --parallel the trials are made on a Ray cluster, one on each GPU or machine. A trial that is
behind the median of the others after some of its seeds is not trained on the rest. The trials are printed as a table
for benchmarks/search/*.md. The winner is to be measured on the test images once, by `fastcifar bench accuracy`, with
seeds that no trial saw.
"""

import argparse
import contextlib
import itertools
import json
import math
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import optuna
import torch
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.question import Question, drawn, read_question, varied
from fastcifar.bench.flops import work_of
from fastcifar.data.load import load_dataset
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution, resolve
from fastcifar.own import OwnCode, sealed
from fastcifar.recipe import Recipe
from fastcifar.training.trainer import Trainer

HEARTBEAT_SECONDS = 60  # a trial whose process has not been heard of for two of these is begun again by another


Train: TypeAlias = Callable[[Recipe, OwnCode, int], tuple[float, float]]
"""Train a recipe with a seed: final accuracy, 0 to 1, and seconds of training."""


def here(execution: Execution) -> Train:
    """In this process; what is compiled for a recipe is compiled once."""
    made: list[tuple[Recipe, Trainer]] = []

    def train(recipe: Recipe, own: OwnCode, seed: int) -> tuple[float, float]:
        seeded = replace(recipe, seed=seed)
        if made and made[0][0] is recipe:
            made[0][1].restart(seeded)
        else:
            made[:] = [(recipe, Trainer(seeded, load_dataset(recipe), execution, own))]
        result = made[0][1].run()
        return result.final_accuracy, result.train_seconds

    return train


def attempt(trial: Trial, asked: Question, base: Recipe, train: Train) -> float:
    """Train with each seed, and give the mean accuracy in points, less what the work is to bring."""
    try:
        recipe = varied(base, drawn(trial, asked.fields))
        recipe = replace(recipe, evaluation=replace(recipe.evaluation, epochs=(recipe.epochs,)))  # nobody asks before
        recipe, own = sealed(recipe)
    except InputError as error:
        trial.set_user_attr("said", str(error))
        raise optuna.TrialPruned from error
    dataset = load_dataset(recipe)
    by_epoch, _ = work_of(recipe, classes=len(dataset.classes), own=own, device=torch.device("cpu"))
    images = len(dataset.train_images)
    petaflops = sum(recipe.images_of(epoch, images) * work for epoch, work in enumerate(by_epoch)) / 1e15
    trial.set_user_attr("petaflops", petaflops)
    accuracies: list[float] = []
    seconds = 0.0
    for number, seed in enumerate(asked.seeds):
        try:
            accuracy, more = train(recipe, own, seed)
        except RunError as error:
            trial.set_user_attr("said", str(error))
            raise optuna.TrialPruned from error
        accuracies.append(accuracy)
        seconds += more
        trial.set_user_attr("accuracies", accuracies)
        trial.set_user_attr("train_seconds", seconds / len(accuracies))
        found = worth(accuracies, petaflops, asked.points_per_doubling)
        trial.report(found, number)
        if number + 1 < len(asked.seeds) and trial.should_prune():
            raise optuna.TrialPruned
    return found


def worth(accuracies: Sequence[float], petaflops: float, points_per_doubling: float) -> float:
    """Mean accuracy in points, less `points_per_doubling` for each doubling of the work."""
    return 100 * statistics.fmean(accuracies) - points_per_doubling * math.log2(petaflops)


def table(trials: Sequence[FrozenTrial], asked: Question) -> str:
    """The trials in Markdown, the best first. Those in bold no other beats with as little work."""
    names = list(asked.fields)
    rows = []
    for one in trials:
        accuracies, petaflops = one.user_attrs.get("accuracies"), one.user_attrs.get("petaflops")
        values = [str(one.params.get(name, "")).strip('"') for name in names]
        if not accuracies:
            rows.append((-math.inf, math.inf, values, one.user_attrs.get("said", one.state.name.lower()), "", "", ""))
            continue
        said = f"{100 * statistics.fmean(accuracies):.2f} ({', '.join(f'{100 * each:.2f}' for each in accuracies)})"
        score = worth(accuracies, petaflops, asked.points_per_doubling)
        more = f"{petaflops:.3g}", f"{one.user_attrs['train_seconds']:.0f}", f"{score:.2f}"
        rows.append((statistics.fmean(accuracies), petaflops, values, said, *more))
    lines = [
        f"| {' | '.join(names)} | accuracy (by seed), % | petaFLOPs | train_seconds | worth |",
        f"|{' --- |' * (len(names) + 4)}",
    ]
    for accuracy, petaflops, values, said, *more in sorted(rows, key=lambda row: (-row[0], row[1])):
        beaten = any(
            other[0] >= accuracy and other[1] <= petaflops and other[:2] != (accuracy, petaflops) for other in rows
        )
        bold = "" if beaten or accuracy == -math.inf else "**"
        lines.append(f"| {' | '.join(values)} | {bold}{said}{bold} | {' | '.join(more)} |")
    return "\n".join(lines)


def suite(arguments: Sequence[str]) -> int:
    """`python -m benchmarks search`. Raises `InputError`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks search", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE.toml")
    parser.add_argument("--trials", type=int, metavar="N", help="in place of the file's; 0 prints what there is")
    parser.add_argument("--minutes", type=float, metavar="N", help="begin no trial after so many")
    parser.add_argument("--study", type=Path, metavar="FILE.db", help="default beside the file")
    parser.add_argument("--parallel", action="store_true", help="on Ray: a trial on each GPU, or each machine without")
    parser.add_argument("--workers", type=int, metavar="N", help="with --parallel, so many trials at once")
    parser.add_argument("--allow-shared", action="store_true", help="several of them on one GPU or machine")
    given = parser.parse_args(arguments)
    asked, recipe = read_question(given.file)
    whole, own = sealed(recipe)  # whose files are missing now, and not in each trial
    wanted = asked.trials if given.trials is None else given.trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    choices = {name: [json.dumps(one) for one in values] for name, values in asked.fields.items() if values}
    combinations = list(itertools.product(*choices.values())) if asked.sampler == "grid" else []
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats are one
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(given.study or given.file.with_suffix('.db')).absolute()}",
        engine_kwargs={"connect_args": {"timeout": 60}},
        heartbeat_interval=HEARTBEAT_SECONDS,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )
    study = optuna.create_study(
        storage=storage,
        study_name=given.file.stem,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.GridSampler(choices, seed=asked.sampler_seed)
        if asked.sampler == "grid"
        else optuna.samplers.TPESampler(seed=asked.sampler_seed, multivariate=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    question = asked.model_dump(exclude={"trials", "points_per_doubling"})
    _require_same(study, question | {"recipe": asdict(whole)})
    for flag, value in (("--workers", given.workers), ("--allow-shared", given.allow_shared)):
        if value and not given.parallel:
            raise InputError(f"{flag}: of trials that are made at once, which --parallel asks for")
    execution, notes = resolve(Execution())
    print(*notes, f"{given.file}: {asked.recipe}, seeds {asked.seeds}, {asdict(execution)}", sep="\n", flush=True)
    began, limit = time.monotonic(), min(wanted, len(combinations)) if combinations else wanted
    asking, asked_for = threading.Lock(), list[object]()  # trials that are yet to be there

    def work(train: Train) -> None:
        """Make one trial after another, until there are enough."""
        while True:
            with asking:
                late = given.minutes is not None and time.monotonic() - began > 60 * given.minutes
                if late or _over(study) + len(asked_for) >= limit:
                    return
                asked_for.append(one := object())

            def made(trial: Trial, one: object = one) -> float:
                asked_for.remove(one)
                return attempt(trial, asked, recipe, train)

            try:
                study.optimize(made, n_trials=1, callbacks=[_say])
            finally:
                with contextlib.suppress(ValueError):
                    asked_for.remove(one)

    if given.parallel:
        _at_once(work, whole, own, execution, given.workers, allow_shared=given.allow_shared)
    else:
        work(here(execution))
    print(table(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)), asked))
    return 0


def _at_once(
    work: Callable[[Train], None],
    recipe: Recipe,
    own: OwnCode,
    execution: Execution,
    count: int | None,
    *,
    allow_shared: bool,
) -> None:
    """Have each worker of a Ray cluster do `work`. Raises `InputError`, and `RunError` where one is lost for good."""
    from fastcifar.records.parallel import RayWorkers

    def say(line: str) -> None:
        print(line, flush=True)

    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
        workers = stack.enter_context(
            RayWorkers(recipe, own, execution, data=None, workers=count, allow_shared=allow_shared, tell=say)
        )
        say(f"{len(workers.numbers)} trials at once")
        left = {pool.submit(work, partial(workers.train, number)) for number in workers.numbers}
        while left:  # with a limit, since a signal is looked at between two calls
            done, left = futures.wait(left, timeout=0.5, return_when=futures.FIRST_COMPLETED)
            for one in done:
                try:
                    one.result()
                except LookupError as error:
                    raise RunError(str(error)) from error


def _require_same(study: optuna.Study, question: dict[str, Any]) -> None:
    """The study's trials are of this question and recipe, or there are none. Raises `InputError`."""
    question = json.loads(json.dumps(question))
    before = study.user_attrs.get("question")
    if before is None:
        if not study.get_trials(deepcopy=False):
            study.set_user_attr("question", question)
    elif other := [name for name in question if question[name] != before.get(name)]:
        raise InputError(f"{study.study_name}: its study has trials of another {other[0]}; --study FILE.db begins one")


def _over(study: optuna.Study) -> int:
    """Trials that are finished or under way, here or in another process."""
    optuna.storages.fail_stale_trials(study)  # of a process that was killed: they are begun again
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)))


def _say(study: optuna.Study, trial: FrozenTrial) -> None:
    found = trial.user_attrs
    accuracies = ", ".join(f"{one:.2%}" for one in found.get("accuracies", [])) or found.get("said", "")
    print(f"trial {trial.number}, {trial.state.name.lower()}: {trial.params}: {accuracies}", flush=True)
