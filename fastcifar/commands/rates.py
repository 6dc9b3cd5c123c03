"""The subcommands that measure images/s: `fastcifar bench` of loaders, steps and training."""

from argparse import Namespace
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import AvoidSubcommands, arg

from fastcifar.commands.command import AUTO, GROUPS, DataFolder, Device, OfModel, command, require_place
from fastcifar.errors import InputError
from fastcifar.execution import Execution, has_gpu, resolve
from fastcifar.files import write_whole
from fastcifar.recipe import Model, Recipe, Resnet, validated
from fastcifar.recipe.tables import optional
from fastcifar.report.console import Console

GROUPS["bench"] = "Measure images/s, time to accuracy, and rivals; `fastcifar bench` alone is `bench all`."


@dataclass(frozen=True)
class _Rates(OfModel):
    what: ClassVar[Literal["all", "loaders", "step", "train"]]

    device: Device = "auto"
    batch_size: int = 512
    """Images per batch."""
    model: AvoidSubcommands[Model] = field(default_factory=Resnet)
    """Network for step and train; default: the resnet, 64 wide on a GPU and 16 on a CPU."""
    blocks: Annotated[int | None, optional("N")] = None
    """Blocks to measure after warm-up, reported as median and quartiles; default 7, with --short 3."""
    short: bool = False
    """Measure smaller blocks and fewer combinations, as `bench all` does."""
    dataset: Annotated[str, arg(metavar="NAME|DIR")] = "cifar10"
    """The images, which make no difference to speed; synthetic needs no download."""
    limit_train: Annotated[int | None, optional("N")] = None
    """Use the first N training images only."""
    data: DataFolder = None
    json: Annotated[Path | None, optional("FILE")] = None
    """Write the measurements to this file (schema: fastcifar/bench/bench.schema.json)."""
    figure: Annotated[Path | None, optional("FILE.png|svg")] = None
    """Draw the measurements."""

    @classmethod
    def default_model(cls, given: Namespace) -> Model:
        """The resnet, as wide as the machine is fast."""
        on_gpu = has_gpu() if given.device == AUTO else given.device == "cuda"
        return Resnet(width=64 if on_gpu else 16)

    def run(self, console: Console) -> None:
        """Measure, print, write."""
        import torch

        from fastcifar.bench.environment import environment
        from fastcifar.bench.suite import run_benches, to_json
        from fastcifar.data.load import load_dataset
        from fastcifar.own import sealed
        from fastcifar.report.bench_tables import print_tables
        from fastcifar.report.charts import draw_bench

        if self.figure and self.figure.suffix not in (".png", ".svg"):
            raise InputError(f"--figure {self.figure}: the name must end in .png or .svg")
        require_place(self.json, self.figure)
        short = self.short or self.what == "all"
        blocks = (3 if short else 7) if self.blocks is None else self.blocks
        if blocks < 1:
            raise InputError(f"--blocks {blocks}: at least one is needed")
        device = resolve(Execution(device=self.device))[0].device
        recipe = Recipe(
            dataset=self.dataset, limit_train=self.limit_train, batch_size=self.batch_size, model=self.model
        )
        recipe, own = sealed(validated(asdict(recipe), prefix="--"))
        dataset = load_dataset(recipe, self.data)
        if 8 * recipe.batch_size > len(dataset.train_images):
            raise InputError(f"--batch-size {recipe.batch_size}: 8 batches are more than the {dataset.name} images")
        console.say(f"{device}, {dataset.describe()}")
        here = environment(device)
        with console.status("setting up") as status:
            measured = run_benches(
                self.what,
                dataset,
                recipe.model,
                own=own.model,
                device=torch.device(device),
                batch_size=recipe.batch_size,
                blocks=blocks,
                short=short,
                progress=status.update,
            )
        print_tables(console, measured)
        if self.json:
            write_whole(self.json, to_json(measured, dataset, recipe.model, recipe.batch_size, here).encode())
        if self.figure:
            draw_bench(measured, self.figure)


@command("bench all", "bench")
class All(_Rates):
    """Measure loaders, step and train in short form; `fastcifar bench` alone does the same."""

    what = "all"


@command("bench loaders")
class Loaders(_Rates):
    """Measure images/s of every loader that can run here."""

    what = "loaders"

    beside: Annotated[int, arg(metavar="N")] = 0
    """Measure while N other processes keep cores busy, to see how much that costs each loader."""

    def run(self, console: Console) -> None:
        """Measure, print, write."""
        from fastcifar.bench.beside import busy_cores

        if not 0 <= self.beside <= 1024:
            raise InputError(f"--beside {self.beside}: from 0 to 1024 processes")
        with busy_cores(self.beside):
            super().run(console)


@command("bench step")
class Step(_Rates):
    """Measure images/s of one training step, in every combination of layout, precision and compilation."""

    what = "step"


@command("bench train")
class Train(_Rates):
    """Measure images/s of training with each loader, and how long the device waits for data."""

    what = "train"
