"""The leaderboard: what may be ranked with what, who is in which division, and the commands as a person runs them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_records import record, record_of_own

from fastcifar.bench.flops import recounted
from fastcifar.commands import main
from fastcifar.recipe import Augmentation, Average, Evaluation, Muon, OwnModel, Recipe, Resnet, Schedule
from fastcifar.recipe.files import load_recipe
from fastcifar.records.check import CIFAR10_SHA256
from fastcifar.records.dawnbench import write_pairs
from fastcifar.records.leaderboard import division, groups, hardware, read_entry, read_published
from fastcifar.records.record import Environment, Record, Work, schema, to_json
from fastcifar.report.leaderboard_page import markdown


def keep(folder: Path, name: str, one: Record) -> Path:
    file = folder / f"{name}.record.json"
    file.write_bytes(to_json(one))
    return file


def test_only_seeds_recipe_is_closed() -> None:
    seed = Recipe()
    assert division(seed) == "closed"
    assert division(replace(seed, seed=9, target=0.92, stop_at_target=True)) == "closed"
    assert division(replace(seed, model=Resnet(layer2_residual=True))) == "closed"
    for changed in (
        replace(seed, model=Resnet(width=32)),
        replace(seed, augmentation=Augmentation(cutout=0)),
        replace(seed, batch_size=1024),
        replace(seed, label_smoothing=0.1),
        replace(seed, limit_train=1000),
        seed.with_epochs(10),
        replace(seed, model=OwnModel("net.py:Net", {}, "0" * 64)),
        replace(seed, augmentation=Augmentation(own="a.py:f", own_sha256="0" * 64)),
        replace(seed, average=Average(name="ema")),
        load_recipe("laptop"),
        None,
    ):
        assert division(changed) == "open"
    assert division(replace(seed, dataset_sha256="0" * 64)) == "closed"  # it is filled in when the images are read


def test_what_differs_in_hardware_protocol_or_target_is_never_ranked_together(tmp_path: Path) -> None:
    easy = replace(Recipe(), epochs=2, target=0.8, batch_size=256, schedule=replace(Recipe().schedule, peak_epoch=1))
    files = [
        keep(tmp_path, "slow", record(seconds=20)),
        keep(tmp_path, "fast", record(seconds=10)),
        keep(tmp_path, "gpu", record(gpu="A GPU", gpus=1)),
        keep(tmp_path, "two", record(gpu="A GPU", gpus=2)),
        keep(tmp_path, "cores", record(cores=4)),
        keep(tmp_path, "easy", record(recipe=easy)),
        keep(tmp_path, "budget", record(((0.9, 0.911), (0.9, 0.912), (0.9, 0.913)), protocol="fixed-budget")),
    ]
    entries = [read_entry(file) for file in files]
    found = groups(entries)
    assert sorted(len(group.entries) for group in found) == [1, 1, 1, 1, 1, 2]
    (pair,) = [group for group in found if len(group.entries) == 2]
    assert [entry.file for entry in pair.entries] == ["fast.record.json", "slow.record.json"]
    assert len(groups(entries, protocol="fixed-budget")) == 1
    assert [group.target for group in groups(entries, target=0.8)] == [0.8]
    assert {group.hardware for group in groups(entries, hardware="a gpu")} == {"A GPU", "2 x A GPU"}


def test_data_sets_of_one_name_are_ranked_together_only_if_they_are_one(tmp_path: Path) -> None:
    def data(dataset: str, sha256: str | None) -> str:
        recipe = Recipe(epochs=2, schedule=Schedule(peak_epoch=1), dataset=dataset, dataset_sha256=sha256)
        return read_entry(keep(tmp_path, "one", record(recipe=recipe))).data

    assert data("mine", "1" * 64) == "mine 11111111 (50,000 + 10,000 images)"
    assert data("mine", "2" * 64) == "mine 22222222 (50,000 + 10,000 images)"
    assert data("mine", None) == "mine unknown (50,000 + 10,000 images)"
    assert data("cifar10", CIFAR10_SHA256) == data("cifar10", None) == "CIFAR-10"
    assert data("cifar100", "1" * 64) == "CIFAR-100"
    assert data("synthetic", "1" * 64) == "synthetic"


def test_what_was_tested_on_held_out_training_images_stands_apart(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, schedule=Schedule(peak_epoch=1), dataset_sha256="1" * 64, validation=5_000)
    entry = read_entry(keep(tmp_path, "one", record(((0.5, 0.91), (0.6, 0.92)), recipe=recipe)))
    assert (entry.division, entry.data) == ("open", "CIFAR-10 (45,000 training images, 5,000 more to test on)")
    whole = read_entry(keep(tmp_path, "whole", record()))
    assert len(groups([entry, whole])) == 2


def test_what_is_tested_is_said(tmp_path: Path) -> None:
    def said(recipe: Recipe | None, evaluation: str | None = None) -> str:
        found = record(recipe=recipe)
        if evaluation:
            found = found.model_copy(
                update={"program": "rival 1", "recipe": None, "recipe_hash": None, "evaluation": evaluation}
            )
        return read_entry(keep(tmp_path, "one", found)).evaluation

    def recipe(average: Any, **testing: Any) -> Recipe:
        return Recipe(
            epochs=2,
            schedule=Schedule(peak_epoch=1),
            average=Average(name=average),
            evaluation=Evaluation(**testing),
        )

    assert said(recipe("none")) == "plain"
    assert said(recipe("ema", tta="flip")) == "flip of EMA"
    assert said(recipe("ema", tta="flip", weights="network")) == "flip"
    assert said(recipe("lookahead", tta="flip+shift")) == "flip+shift of lookahead"
    assert said(recipe("none", tta="flip+shift-quarter")) == "flip+shift of 25 %"
    assert said(recipe("ema", tta="flip+shift-quarter")) == "flip+shift of 25 %, of EMA"
    assert said(None, "flip+shift (last epoch)") == "flip+shift (last epoch)"


def test_what_is_somebodys_own_is_said(tmp_path: Path) -> None:
    assert read_entry(keep(tmp_path, "own", record_of_own())).recipe == f"{record_of_own().name} (own network)"


def test_a_recipe_that_only_borrows_a_name_is_said_to_be_changed(tmp_path: Path) -> None:
    changed = keep(tmp_path, "changed", record(name="laptop"))
    assert read_entry(changed).recipe == "laptop (changed)"
    laptop = replace(load_recipe("laptop"), seed=5, target=0.9)
    accuracies = ((*(0.1 for _ in range(11)), 0.91),)
    assert read_entry(keep(tmp_path, "same", record(accuracies, name="laptop", recipe=laptop))).recipe == "laptop"


def test_seeds_that_do_not_begin_with_0_are_said(tmp_path: Path) -> None:
    laptop = replace(load_recipe("laptop"), seed=777, target=0.9)
    accuracies = ((*(0.1 for _ in range(11)), 0.91),)
    entry = read_entry(keep(tmp_path, "chosen", record(accuracies, name="laptop", recipe=laptop)))
    assert entry.remarks() == ["seeds from 777 on"]


def test_hardware_is_the_cpu_and_its_cores_where_no_gpu_was_used() -> None:
    environment = record(cpu="Intel(R) Xeon(R) CPU  E5", cores=8).environment
    assert hardware(environment) == "Intel Xeon E5, 8 cores, AVX512"
    for units in ("AMX", "AVX512-BF16"):  # which the same name may have or not, and train twice as fast by
        environment = record(cpu="Intel Xeon", cpu_bfloat16=units).environment
        assert hardware(environment) == f"Intel Xeon, 2 cores, AVX512, {units}"
    assert hardware(Environment(cpu="Machine")) == "Machine, unknown cores"
    assert hardware(Environment(cpu="Machine", cores=2, processes=2)) == "Machine, 2 cores, 2 processes"
    several = {"processes": 16, "machines": 2}
    assert hardware(Environment(cpu="Machine", cores=8, **several)) == "Machine, 8 cores, 16 processes on 2 machines"
    assert hardware(Environment(gpu="A GPU", gpus=16, **several)) == "16 x A GPU on 2 machines"
    assert hardware(Environment(gpu="A GPU", processes=1, machines=1)) == "A GPU"
    assert hardware(Environment(gpu="A GPU")) == hardware(Environment(gpu="A GPU", gpus=1)) == "A GPU"


def test_one_gpu_of_eight_is_not_eight(tmp_path: Path) -> None:
    """The first version of records said how many the machine has."""
    for device, expected in (("cuda", "A GPU"), ("cpu", "Machine, 2 cores, AVX512")):
        values = json.loads(to_json(record(gpu="A GPU", gpus=8)))
        values["execution"]["device"] = device
        file = tmp_path / "one.record.json"
        file.write_text(json.dumps({**values, "schema_version": 1}))
        assert read_entry(file).hardware == expected


def test_curve_is_the_mean_over_runs(tmp_path: Path) -> None:
    entry = read_entry(keep(tmp_path, "one", record(((0.5, 0.91), (0.6, 0.93)))))
    assert entry.curve() == [(10.0, pytest.approx(0.55)), (20.0, pytest.approx(0.92))]


def test_what_others_published() -> None:
    published, (curve,) = read_published()
    assert len(published) == 11
    assert [one.target for one in published] == sorted(one.target for one in published)
    assert all(one.source.startswith("https://") for one in published)
    assert published[0].seconds == 1.99
    by_name = {one.name: one for one in published}
    assert (by_name["airbench94, Muon"].petaflops, by_name["airbench94, Muon"].evaluation) == (0.29, "flip+shift")
    assert (by_name["airbench96_faster"].target, by_name["airbench96_faster"].petaflops) == (0.96, 3.1)
    assert by_name["Hiverge"].petaflops is None
    assert len(curve.points) == 24
    assert curve.points[-1][1] == pytest.approx(0.9199)
    assert next(seconds for seconds, accuracy in curve.points if accuracy >= 0.9) == pytest.approx(420, abs=10)


def test_check_names_every_refused_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "good", record())
    assert main(["leaderboard", "check", str(tmp_path)]) == 0
    assert "good.record.json: holds: mine, 20.00 s, 3 runs" in capsys.readouterr().out
    keep(tmp_path, "good", record(dirty=True))
    assert main(["leaderboard", "check", str(tmp_path)]) == 0
    assert "good.record.json: holds: mine, 20.00 s, 3 runs, dirty checkout" in capsys.readouterr().out
    values = json.loads(to_json(record()))
    values["summary"]["seconds"]["mean"] = 1.0
    (tmp_path / "bad.record.json").write_text(json.dumps(values))
    keep(tmp_path, "below", record(((0.5, 0.6),)))
    assert main(["leaderboard", "check", str(tmp_path)]) == 2
    streams = capsys.readouterr()
    assert "good.record.json: holds" in streams.out
    assert "bad.record.json: summary.seconds.mean: 1.0, but from the log follows 20.0" in streams.err
    assert "below.record.json: runs.0: never reaches the target" in streams.err
    assert "2 of 3 records refused" in streams.err
    assert main(["leaderboard", "check", str(tmp_path / "none.json")]) == 2


def test_check_counts_the_operations_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a network that ships; `show` does not, for that takes torch."""
    recipe = Recipe(epochs=2, schedule=Schedule(peak_epoch=1), model=Resnet(width=4), image_sizes=(16, 32))
    recipe = recipe.with_optimizer(Muon())
    by_epoch, optimizer = recounted(recipe, classes=10)
    assert by_epoch is not None
    assert optimizer is not None

    def check(*by_epoch: float, optimizer: float = optimizer) -> str:
        work = Work(flops_per_image=list(by_epoch), optimizer_flops_per_step=optimizer)
        keep(tmp_path, "one", record(recipe=recipe, work=work))
        assert main(["leaderboard", "show", str(tmp_path)]) == 0
        capsys.readouterr()
        code, streams = main(["leaderboard", "check", str(tmp_path)]), capsys.readouterr()
        assert (code == 0) == ("holds" in streams.out)
        return streams.err

    first, second = by_epoch
    assert check(first, second) == ""
    assert "one.record.json: work.flops_per_image.0: " in check(first * 0.99, second)
    assert "one.record.json: work.flops_per_image.1: " in check(first, second * 1.00001)
    assert "one.record.json: work.optimizer_flops_per_step: 0, but what" in check(first, second, optimizer=0)


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    keep(tmp_path, "one", record(name="[bold]mine[/bold]", dirty=True))
    keep(tmp_path, "below", record(((0.5, 0.6),)))
    assert main(["leaderboard", "show", str(tmp_path)]) == 0
    streams = capsys.readouterr()
    assert "open, first-crossing, 90 % on CIFAR-10, Machine, 2 cores, AVX512" in streams.out
    assert "[bold]mine[/bold]" in streams.out  # as it stands, no markup
    assert "dirty checkout" in streams.out
    assert "left out" in streams.err
    assert "airbench94, Muon" in streams.out
    assert main(["leaderboard", "show", str(tmp_path), "--target", "0.95"]) == 0
    out = capsys.readouterr().out
    assert "no records to show" in out
    assert "airbench95" in out
    assert "airbench94" not in out


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_export_to_dawnbench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = keep(tmp_path, "one", record(name="../../mine"))
    who = ["--author", "A. N. Other/..", "--author-email", "a@example.org", "--code-url", "https://example.org/code"]
    assert main(["leaderboard", "export", str(file), "--dawnbench", str(tmp_path / "out"), *who]) == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    stem = "a-n-other_mine-seed0_machine-2-cores-avx512_pytorch"
    assert written[:2] == [f"{stem}.json", f"{stem}.tsv"]
    assert len(written) == 6  # a pair a run
    content = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
    assert set(content) == {
        *("version", "author", "authorEmail", "framework", "codeURL"),
        *("model", "hardware", "timestamp", "misc"),
    }
    assert content["timestamp"] == "2026-11-22"
    lines = (tmp_path / "out" / f"{stem}.tsv").read_text().splitlines()
    assert lines[0] == "epoch\thours\ttop1Accuracy"
    epoch, hours, accuracy = lines[2].split("\t")
    assert (epoch, float(hours) * 3600, float(accuracy)) == ("2", pytest.approx(20), 91)


def test_export_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs without seeds, names that are one in a file's name, and names as long as may be: a pair a run, or none."""
    out, who = tmp_path / "out", ["--author", "A", "--author-email", "a@example.org", "--code-url", "https://a.org"]

    def export(*files: Path) -> int:
        return main(["leaderboard", "export", *map(str, files), "--dawnbench", str(out), *who])

    def written() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in out.iterdir()}

    one, other = keep(tmp_path, "one", record(name="mine")), keep(tmp_path, "other", record(name="Mine", seconds=20.0))
    assert export(one, other) == 2
    name = "a_mine-seed0_machine-2-cores-avx512_pytorch.json"
    said = f"other.record.json: its {name} would be that of one.record.json too; export them into two folders"
    assert said in capsys.readouterr().err
    assert not out.exists()
    assert export(one) == export(one) == 0  # what is the same may be written again
    before = written()
    assert len(before) == 6
    assert export(other) == 2
    assert f"{name}: is there, and not of other.record.json; name another folder" in capsys.readouterr().err
    assert written() == before

    whole = record(name="x" * 60)
    unseeded = [run.model_copy(update={"seed": None}) for run in whole.runs]
    rival = {"program": "rival 1", "recipe": None, "recipe_hash": None, "execution": None, "runs": unseeded}
    assert export(keep(tmp_path, "long", whole), keep(tmp_path, "rival", whole.model_copy(update=rival))) == 0
    assert len(written()) == 18
    assert sum("-run" in name for name in written()) == 6


def test_a_pair_leaves_out_what_the_environment_does_not_say(tmp_path: Path) -> None:
    entry = read_entry(keep(tmp_path, "one", record(torch=None, memory_gib=None, cores=None)))
    who = {"author": "A", "author_email": "a@example.org", "code_url": "https://example.org"}
    files = write_pairs(tmp_path / "out", [entry], **who)
    content = json.loads(files[0].read_text())
    assert (content["framework"], content["hardware"]) == ("PyTorch", "Machine, unknown cores, AVX512")


def test_markdown_leaves_nothing_of_a_record_to_be_markup(tmp_path: Path) -> None:
    entry = read_entry(keep(tmp_path, "one", record(name="<img src=x> | [a](b)", cpu="`code` *b*")))
    text = markdown(groups([entry]), [])
    assert "<img" not in text
    assert "&lt;img src=x&gt; \\| \\[a\\]\\(b\\)" in text
    assert "\\`code\\` \\*b\\*" in text


def test_the_committed_leaderboard_is_that_of_the_committed_records() -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    entries = [read_entry(file) for file in sorted((folder / "results").rglob("*.record.json"))]
    assert (folder / "LEADERBOARD.md").read_text() == markdown(groups(entries), read_published()[0])
