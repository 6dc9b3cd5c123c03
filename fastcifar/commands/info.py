"""The subcommands that tell what is here: summary, data, recipes, env."""

from dataclasses import replace

from fastcifar.commands.command import Command, DataFolder, OfRecipe, command
from fastcifar.errors import InputError
from fastcifar.recipe import Model, header, shipped_recipes
from fastcifar.report.console import Console


@command("summary")
class Summary(OfRecipe):
    """Print the network's layers, their output shapes and parameters."""

    def run(self, console: Console) -> None:
        """Print them."""
        console.out(describe(self.recipe.model), highlight=False)


def describe(config: Model) -> str:
    """Table of the network's layers, as torchinfo prints it: output shapes for one image, and parameters."""
    import torch
    import torchinfo

    from fastcifar.models import build, parameter_count

    network = build(config, classes=10)
    table = torchinfo.summary(
        network,
        (1, 3, 32, 32),
        device="cpu",
        verbose=0,
        depth=4,
        col_names=("output_size", "num_params"),
        row_settings=("var_names",),
    )
    with torch.device("meta"):
        other = build(replace(config, layer2_residual=not config.layer2_residual), classes=10)
    return (
        f"{table}\n{parameter_count(network):,} parameters; {parameter_count(other):,} "
        f"with{'out' if config.layer2_residual else ''} a residual block in layer 2 "
        f"(--model.{'no-' if config.layer2_residual else ''}layer2-residual)"
    )


@command("data")
class Data(Command):
    """Find or download CIFAR-10 and check its seven MD5s."""

    data: DataFolder = None

    def run(self, console: Console) -> None:
        """Find or download, check, say so."""
        from fastcifar.data.cifar import find_cifar10, verify

        root = find_cifar10(self.data)
        md5s = verify(root)
        console.say(*(f"{md5}  {file}" for file, md5 in md5s.items()))
        console.say(f"CIFAR-10 is in {root}; the MD5s of all {len(md5s)} files hold")


@command("recipes")
class Recipes(Command):
    """List the recipes that ship and what each was measured to reach."""

    def run(self, console: Console) -> None:
        """Print a row for each."""
        from rich.table import Table
        from rich.text import Text

        table = Table("recipe", "what it is, and what it was measured to reach", box=None, pad_edge=False)
        for name, path in shipped_recipes().items():
            table.add_row(name, Text("\n".join(header(path))))
        console.print(table)


@command("env")
class Env(Command):
    """Print what a bug report needs: GPU, driver, versions, CPU, compiler, where the data is."""

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
