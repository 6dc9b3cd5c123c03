"""The subcommands that use a finished run: report, compare, eval, predict, export."""

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from fastcifar.commands.command import Command, DataFolder, Device, TrustCode, command, require_place
from fastcifar.errors import InputError
from fastcifar.execution import Execution, resolve
from fastcifar.recipe.tables import optional
from fastcifar.report.console import Console
from fastcifar.runs.paused import read_json

Run = Annotated[Path, Positional, arg(metavar="RUN", help="Run directory, as written by `fastcifar train`.")]


@command("report")
class Report(Command):
    """Write the report of a finished run: an HTML page with its figures."""

    path: Run
    out: Annotated[Path | None, optional("DIR")] = None
    """Folder for index.html and the figures; default: RUN/report."""
    data: DataFolder = None
    trust_code: TrustCode = False

    def run(self, console: Console) -> None:
        """Draw and say where."""
        read_json(self.path)  # what is no run is refused before torch is imported, here and below
        from fastcifar.report.run_page import write_report

        with console.status("drawing"):
            page = write_report(self.path, self.out, self.data, trust_code=self.trust_code)
        console.say(f"written: {page}")


@command("compare")
class Compare(Command):
    """Compare finished runs on one page: their curves together, their differences in tables."""

    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="RUN", help_behavior_hint="(required)")]
    """Run directories, two or more."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for index.html and the figures."""
    by_class: bool = False
    """Also test the weights of each run again, and compare their accuracies by class."""
    data: DataFolder = None
    trust_code: TrustCode = False

    def run(self, console: Console) -> None:
        """Draw and say where."""
        for run in self.runs:
            read_json(run)
        from fastcifar.report.compare_page import write_comparison

        about: Any = {"by_class": self.by_class, "data": self.data, "trust_code": self.trust_code}
        with console.status("drawing") as status:
            page = write_comparison(self.runs, self.out, **about, progress=status.update)
        console.say(f"written: {page}")


@command("eval")
class Eval(Command):
    """Test a finished run on its test set or on a folder of images: accuracy, also by class, loss and images/s."""

    path: Run
    tta: Literal["recipe", "none", "flip", "flip+shift", "flip+shift-quarter"] = "recipe"
    """Test-time augmentation: flip averages 2 views, flip+shift 6, -quarter 6 for the least certain; recipe: as run."""
    images: Annotated[Path | None, optional("DIR")] = None
    """Test on the images in this folder, in sub-folders named after the classes, instead of the run's test set."""
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the network's arithmetic; auto: that of the run (on a CPU, float32 instead of float16)."""
    data: DataFolder = None
    trust_code: TrustCode = False

    def run(self, console: Console) -> None:
        """Test and print."""
        read_json(self.path)
        from fastcifar.data.images import RULE, read_folder
        from fastcifar.data.load import load_dataset
        from fastcifar.report.tables import print_scores
        from fastcifar.runs.predictions import score
        from fastcifar.runs.saved import open_run

        saved = open_run(self.path, trust_code=self.trust_code)
        execution, _ = resolve(Execution(device=self.device, precision=self.precision, compile="off"))
        device = execution.device
        precision: str = execution.precision
        if self.precision == "auto":
            precision = "float32" if (device, saved.precision) == ("cpu", "float16") else saved.precision
        if self.images is None:
            dataset = load_dataset(saved.recipe, self.data)
            images, labels = dataset.test_images, dataset.test_labels
            where = f"{len(images):,} test images of {dataset.name} ({dataset.source})"
        else:
            images, labels = read_folder(self.images, saved.classes)
            where = f"{len(images):,} images of {self.images}; of each, {RULE}"
        tta = saved.recipe.evaluation.tta if self.tta == "recipe" else self.tta
        console.say(f"{saved.name}, {device}, {precision}, test-time augmentation {tta}", where)
        network = saved.on_bytes(tta).to(device)
        scores = score(network, images, labels, precision=precision)
        print_scores(console, scores, saved.classes)
        if self.images is None:
            console.say(f"the run's own last test: {saved.final_accuracy:.2%} ({saved.precision})")


@command("predict")
class Predict(Command):
    """Class probabilities of image files of any size and mode, without test-time augmentation."""

    path: Run
    images: Annotated[tuple[Path, ...], Positional, arg(metavar="IMAGE", help_behavior_hint="(required)")]
    """Image files. Of each, the largest centred square is resized to 32x32; transparent parts become white."""
    json: bool = False
    """Print JSON, with the probabilities of all classes, instead of a table of the five likeliest."""
    trust_code: TrustCode = False

    def run(self, console: Console) -> None:
        """Read what is an image, print what it shows, refuse the rest."""
        read_json(self.path)
        import numpy as np

        from fastcifar.data.images import read_image
        from fastcifar.report.tables import predictions_json, print_predictions
        from fastcifar.runs.predictions import probabilities
        from fastcifar.runs.saved import open_run

        if not self.images:
            raise InputError("IMAGE: name at least one image file")
        saved = open_run(self.path, trust_code=self.trust_code)
        files, images = [], []
        for file in self.images:
            try:
                images.append(read_image(file))
                files.append(file)
            except InputError as error:
                console.complain(str(error))
        found = np.empty((0, len(saved.classes)), np.float32)
        if images:
            found = probabilities(saved.on_bytes(), np.stack(images))
        if self.json:
            console.out(predictions_json(files, found, saved.classes), highlight=False)
        else:
            print_predictions(console, files, found, saved.classes)
        if refused := len(self.images) - len(files):
            raise InputError(f"{refused} of {len(self.images)} files refused")


@command("export")
class Export(Command):
    """Export a finished run's network to one file, and check it against the network on 1,000 test images.

    It answers without test-time augmentation: `fastcifar eval RUN --tta none` says how accurate it is.
    """

    path: Run
    format: Literal["onnx", "torch-export"]
    """ONNX (needs pip install '.[export]') or torch.export (.pt2). Its input is uint8 images (B, 32, 32, 3), RGB."""
    out: Annotated[Path, arg(metavar="FILE")]
    """The file; written only if the check passes."""
    data: DataFolder = None
    trust_code: TrustCode = False

    def run(self, console: Console) -> None:
        """Export, check, say so."""
        read_json(self.path)
        from fastcifar.data.load import load_dataset
        from fastcifar.runs.export import export, require_packages
        from fastcifar.runs.saved import open_run

        require_place(self.out)
        require_packages(self.format)
        saved = open_run(self.path, trust_code=self.trust_code)
        dataset = load_dataset(saved.recipe, self.data)
        with console.status("exporting"):
            checked = export(saved.on_bytes(), self.format, self.out, dataset.test_images, saved.classes)
        console.say(
            f"agrees with the network on {checked.images:,} test images of {dataset.name} (logits differ by at most "
            f"{checked.difference:.1g})",
            f"written: {self.out}",
        )
