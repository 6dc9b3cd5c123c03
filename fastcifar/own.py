"""Custom networks, optimizers and augmentations: what they have to be, and how those that a recipe names are
found, read and kept.

Nothing here is run that a person did not name: a file of their own by a recipe or a flag, or, with `trust_code`, the
copy of one that came with a run.
"""

import builtins
import importlib.util
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fastcifar.errors import InputError, RunError, memory_problem, perhaps
from fastcifar.recipe import OwnModel, OwnOptimizer, Recipe
from fastcifar.source import beyond, digest, read_source, source_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PARTS = ("model", "optimizer", "augmentation")


class NetworkFactory(Protocol):
    """Makes a network that maps normalised images (B, 3, H, W) to logits (B, classes).

    A network may have `prepare(images)`, which is given normalised training images (n, 3, 32, 32) once its weights are
    drawn, and `trained_epochs`, a mapping of parameters' names to the epochs after which they are left as they are.
    """

    def __call__(self, classes: int, /, **arguments: Any) -> "nn.Module": ...


class OptimizerFactory(Protocol):
    """Makes the torch optimizers of a network, which together hold each of its trained parameters once.

    The schedule multiplies the rate that each group begins with; a group with a value "epochs" falls linearly to 0 over
    as many.
    """

    def __call__(
        self, network: "nn.Module", /, **arguments: Any
    ) -> "torch.optim.Optimizer | Iterable[torch.optim.Optimizer]": ...


class AugmentationFunction(Protocol):
    """Maps a batch (B, 3, 32, 32), normalised and transformed by the loader, to one of equal shape, dtype and device.

    `generator` is on the batch's device, and seeded by the run's seed, the epoch and the batch.
    """

    def __call__(self, images: "Tensor", generator: "torch.Generator", /) -> "Tensor": ...


@dataclass(frozen=True)
class OwnCode:
    """The custom code that a recipe is trained with, the text of its files by name, and where they are.

    `unknown` says of parts why their source is not all there is to them: such a run can be made, but not kept as a
    record.
    """

    model: NetworkFactory | None = None
    optimizer: OptimizerFactory | None = None
    augmentation: AugmentationFunction | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Path] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def steps(self) -> bool:
        """Whether the network or the optimizer is custom, and so what a training step does."""
        return bool(self.model or self.optimizer)

    def require_sources(self) -> None:
        """Raises `InputError` where a record would lack a part of what was trained."""
        if self.unknown:
            raise InputError(f"{self.unknown[0]}; so there is no record")


def sealed(recipe: Recipe, callables: Mapping[str, Any] | None = None) -> tuple[Recipe, OwnCode]:
    """The custom code that `recipe` names, read from its files, and the recipe with their names and sha256 alone.

    `callables` are given in place of what the recipe names: "model", "optimizer", "augmentation". Raises `InputError`,
    one line that names the file, where one is not there, cannot be imported, lacks the name, or has another sha256 than
    the recipe says.
    """
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    places: dict[str, Path] = {}
    given = {part: one for part, one in (callables or {}).items() if one is not None}
    for part in PARTS:
        if part in given:
            bare, arguments = _taken_apart(_callable(part, given[part]))
            found[part] = bare
            name, text, place = source_of(bare, part)
            recipe = _with_name(recipe, part, name, None if text is None else digest(text), arguments=arguments)
        elif named := _named(recipe, part):
            file, _, attribute = named.partition(":")
            if not file.endswith(".py"):
                raise InputError(f"{named}: not FILE.py:NAME")
            text, place = read_source(Path(file)), Path(file).absolute()
            wanted = _sha256(recipe, part)
            if wanted and wanted != digest(text):
                raise InputError(f"{file}: is not the file of the recipe: its sha256 is {digest(text)}, not {wanted}")
            found[part] = from_source(text, Path(file), attribute)
            name = f"{Path(file).name}:{attribute}"
            recipe = _with_name(recipe, part, name, digest(text))
        else:
            continue
        if text is not None and sources.setdefault(file_of(name), text) != text:
            raise InputError(f"{file_of(name)}: two different files of this name; rename one")
        if place is not None:
            places[file_of(name)] = place
    for part in ("model", "optimizer"):
        if keywords := getattr(getattr(recipe, part), "arguments", {}):
            found[part] = partial(found[part], **keywords)
    return recipe, OwnCode(**found, sources=sources, places=places, unknown=beyond_sources(recipe, sources))


def beyond_sources(recipe: Recipe, sources: Mapping[str, str]) -> tuple[str, ...]:
    """For each custom part whose source in `sources`, by file, is not all there is to it: why."""
    parts = [(f"{part} {name}", beyond(name, sources.get(file_of(name)))) for part, name in own_names(recipe).items()]
    return tuple(f"{part}: {said}" for part, said in parts if said)


def own_names(recipe: Recipe) -> dict[str, str]:
    """The custom code that a recipe names, FILE.py:NAME, by part."""
    return {part: named for part in PARTS if (named := _named(recipe, part))}


def own_files(recipe: Recipe, parts: Iterable[str] = PARTS) -> dict[str, str | None]:
    """The custom files that a recipe names, with the sha256 it has of each."""
    return {file_of(named): _sha256(recipe, part) for part in parts if (named := _named(recipe, part))}


def located(recipe: Recipe, places: Mapping[str, Path]) -> Recipe:
    """`recipe` with the custom files that it names, those of `places`, named by where they are."""
    for part in PARTS:
        file, _, attribute = (_named(recipe, part) or "").partition(":")
        if place := places.get(file):
            name = f"{place}:{attribute}"
            if part == "augmentation":
                recipe = replace(recipe, augmentation=replace(recipe.augmentation, own=name))
            else:
                recipe = replace(recipe, **{part: replace(getattr(recipe, part), name=name)})
    return recipe


def unnamed(recipe: Recipe) -> list[str]:
    """The custom parts that no name in a file finds again, such as a lambda."""
    return [part for part in PARTS if re.match(r"python:|.*<", _named(recipe, part) or "")]


def file_of(name: str) -> str:
    """The file of FILE.py:NAME."""
    return name.partition(":")[0]


_importing: list[Path] = []  # custom files whose code is being run, to have what it defines


def require_no_import() -> None:
    """Raises `InputError` where a custom file, imported for the network in it, say, trains another as it is."""
    if _importing:
        raise InputError('it trains where it is imported; put that below if __name__ == "__main__":')


def from_source(text: str, file: Path, name: str) -> Any:
    """What `name` is in a module made of `text`, whose file is, or was, `file`. Raises `InputError`."""
    module_name = f"fastcifar_own_{file.stem}_{digest(text)[:12]}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_loader(module_name, loader=None, origin=str(file))
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(file)
        sys.modules[module_name] = module  # dataclasses look for their module there
        _importing.append(file)
        try:
            exec(compile(text, str(file), "exec"), module.__dict__)
        except BaseException as error:
            del sys.modules[module_name]
            if not isinstance(error, Exception | SystemExit):
                raise
            raise InputError(f"{file}: cannot be imported: {said(error, file)}") from error
        finally:
            _importing.remove(file)
    target: Any = module
    for part in name.split("."):
        if not hasattr(target, part):
            hint = perhaps(part, [one for one in vars(target) if one not in vars(builtins)])
            raise InputError(f"{file}: there is no {name} in it{hint}")
        target = getattr(target, part)
    return _callable(f"{file}: {name}", target)


def said(error: BaseException, file: Path | str | None = None) -> str:
    """An error of custom code as one line, with the last line of `file` that it came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    place = f" (line {line})" if line else ""
    return f"{type(error).__name__}{f': {text[:300]}' if text else ''}{place}"


T = TypeVar("T")


def called(what: str, call: Callable[[], T]) -> T:
    """What `call`, custom code, gives; an error of its own becomes an `InputError` beginning with `what`."""
    try:
        return call()
    except (InputError, RunError):
        raise
    except Exception as error:
        if memory_problem(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        installed = (str(Path(__file__).parent), sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"))
        theirs = [frame.filename for frame in frames if not frame.filename.startswith(installed)]
        raise InputError(f"{what}: {said(error, theirs[-1] if theirs else None)}") from error


def _callable(what: str, value: Any) -> Any:
    if not callable(value):
        raise InputError(f"{what}: a class or a function is needed, not {type(value).__name__}")
    if not isinstance(value, type) and hasattr(value, "state_dict"):
        raise InputError(
            f"{what}: give a class or function that makes a {type(value).__name__}, not one: each run makes its own"
        )
    return value


def _taken_apart(value: Any) -> tuple[Any, dict[str, Any]]:
    """A `functools.partial` whose arguments a recipe can hold, as the callable in it and them."""
    if isinstance(value, partial) and not value.args:
        plain = all(isinstance(one, bool | int | float | str) for one in value.keywords.values())
        if plain:
            return value.func, dict(value.keywords)
    return value, {}


def _named(recipe: Recipe, part: str) -> str | None:
    """FILE.py:NAME of a custom part."""
    if part == "augmentation":
        return recipe.augmentation.own
    table = recipe.model if part == "model" else recipe.optimizer
    return table.name if isinstance(table, OwnModel | OwnOptimizer) else None


def _sha256(recipe: Recipe, part: str) -> str | None:
    return recipe.augmentation.own_sha256 if part == "augmentation" else getattr(recipe, part).sha256


def _with_name(recipe: Recipe, part: str, name: str, sha256: str | None, **more: Any) -> Recipe:
    if part == "augmentation":
        return replace(recipe, augmentation=replace(recipe.augmentation, own=name, own_sha256=sha256))
    kind = OwnModel if part == "model" else OwnOptimizer
    table = getattr(recipe, part)
    arguments = more.get("arguments", getattr(table, "arguments", {}))
    made = kind(name=name, arguments=arguments, sha256=sha256)
    return replace(recipe, model=made) if isinstance(made, OwnModel) else recipe.with_optimizer(made)
