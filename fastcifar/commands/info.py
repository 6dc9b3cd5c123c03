"""The subcommands that show what there is: summary, data, recipes, recipe, env."""

from argparse import Namespace
from dataclasses import replace
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fastcifar.commands.command import AUTO, Command, DataFolder, OfModel, RecipeName, command, recipe_named
from fastcifar.errors import InputError
from fastcifar.recipe import DATASETS, Model, Recipe, Resnet
from fastcifar.recipe.files import find_recipe, header, load_recipe, shipped_recipes, to_toml
from fastcifar.report.console import Console

ASSUMED = 10  # classes of a folder of images


@command("summary")
class Summary(OfModel):
    """Print a network's layers, output shapes and parameter counts."""

    name: RecipeName = AUTO

    @classmethod
    def default_model(cls, given: Namespace) -> Model:
        """The recipe's."""
        return recipe_named(given.recipe).model

    def run(self, console: Console) -> None:
        """Print them."""
        recipe = Recipe(model=self.model, dataset=recipe_named(self.name).dataset)
        console.out(describe(recipe), highlight=False)


def describe(recipe: Recipe) -> str:
    """Table of the network's layers, as torchinfo prints it: output shapes for one image, and parameters.

    It has as many answers as the recipe's data set has classes; a folder of images is not opened to count them.
    """
    import torch
    import torchinfo

    from fastcifar.models import build, parameter_count
    from fastcifar.own import sealed

    recipe, own = sealed(recipe)
    classes = DATASETS.get(recipe.dataset, ASSUMED)
    network = build(recipe.model, classes, own.model)
    table = torchinfo.summary(
        network,
        (1, 3, 32, 32),
        device="cpu",
        verbose=0,
        depth=4,
        col_names=("output_size", "num_params"),
        row_settings=("var_names",),
    )
    lines = [str(table), f"{parameter_count(network):,} trained parameters"]
    if isinstance(recipe.model, Resnet):
        residual = recipe.model.layer2_residual
        with torch.device("meta"):
            other = build(replace(recipe.model, layer2_residual=not residual), classes)
        lines[1] += (
            f"; {parameter_count(other):,} with{'out' if residual else ''} a residual block in layer 2 "
            f"(--model.{'no-' if residual else ''}layer2-residual)"
        )
    if recipe.dataset not in DATASETS:
        lines.append(f"{ASSUMED} classes are assumed: the images of {recipe.dataset} are not opened")
    return "\n".join(lines)


@command("data")
class Data(Command):
    """Find or download CIFAR-10, or CIFAR-100, and check the MD5 of each file."""

    dataset: Literal["cifar10", "cifar100"] = "cifar10"
    """The data set."""
    data: DataFolder = None

    def run(self, console: Console) -> None:
        """Find or download, check, say so."""
        from fastcifar.data.cifar import KINDS, find_cifar10, title, verify

        kind = KINDS[self.dataset]
        root = find_cifar10(self.data, kind)
        md5s = verify(root, kind)
        console.say(*(f"{md5}  {file}" for file, md5 in md5s.items()))
        console.say(f"{title(kind)} is in {root}; the MD5s of all {len(md5s)} files hold")


@command("recipes")
class Recipes(Command):
    """List the recipes that ship and the result measured for each."""

    def run(self, console: Console) -> None:
        """Print a row for each."""
        from rich.table import Table
        from rich.text import Text

        table = Table("recipe", "what it is", "measured", box=None, pad_edge=False, padding=(0, 2, 1, 0))
        for name, path in shipped_recipes().items():
            table.add_row(name, *map(Text, header(path)))
        console.print(table)
        console.say("The comments in fastcifar/recipes/NAME.toml say more: machines, every run, how it was found.")


@command("recipe")
class Show(Command):
    """Print a recipe with all of its fields, as a TOML file to start from."""

    name: Annotated[str, Positional, arg(metavar="NAME|FILE.toml")]
    """A recipe that ships (see `fastcifar recipes`), or a file."""

    def run(self, console: Console) -> None:
        """Print it."""
        console.out(to_toml(load_recipe(find_recipe(self.name, prefix=""))).rstrip(), highlight=False)


@command("env")
class Env(Command):
    """Print what a bug report needs: GPU, driver, versions, CPU, compiler, location of the data."""

    def run(self, console: Console) -> None:
        """Print a line for each."""
        from fastcifar.bench.environment import environment
        from fastcifar.data.cifar import locate_cifar10, verify

        try:
            root = locate_cifar10()
            place = f"{root}, {len(verify(root))} MD5s hold" if root else "not here yet; `fastcifar data` downloads it"
        except InputError as error:
            place = str(error)
        found = {**environment(), "data": place}
        width = max(map(len, found))
        console.say(*(f"{key:<{width}} {'none' if value is None else value}" for key, value in found.items()))
