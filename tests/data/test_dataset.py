"""Data sets of arrays, of a folder, CIFAR-100; the sha256 by which one is known; the test images in batches."""

import hashlib
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR100

from fastcifar.data import cifar, folder
from fastcifar.data.dataset import Dataset, statistics_of
from fastcifar.data.load import load_dataset
from fastcifar.data.loader import LOADERS, Epochs, loader
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError
from fastcifar.recipe import Recipe
from fastcifar.training.evaluate import normalise

IMAGES = synthetic(20, 10)
ARRAYS = IMAGES.train_images, IMAGES.train_labels, IMAGES.test_images, IMAGES.test_labels


def test_arrays_and_tensors_are_one() -> None:
    one = Dataset.from_arrays(*ARRAYS)
    other = Dataset.from_arrays(*(torch.from_numpy(array) for array in ARRAYS))
    assert one.sha256 == other.sha256 == IMAGES.sha256
    assert (one.name, one.classes) == ("arrays", tuple(f"class-{k}" for k in range(10)))
    mean, std = statistics_of(IMAGES.train_images)
    assert (one.mean, one.std) == (mean, std)
    assert mean == pytest.approx(IMAGES.train_images.reshape(-1, 3).mean(axis=0))
    assert std == pytest.approx(IMAGES.train_images.reshape(-1, 3).std(axis=0))


def test_a_data_set_stays_as_it_was_when_the_arrays_change() -> None:
    arrays = [array.copy() for array in ARRAYS]
    dataset = Dataset.from_arrays(*arrays)
    for array in arrays:
        array[:] = 0
    np.testing.assert_array_equal(dataset.train_images, IMAGES.train_images)
    np.testing.assert_array_equal(dataset.test_labels, IMAGES.test_labels)


def test_a_flat_channel_has_a_deviation_to_divide_by() -> None:
    assert statistics_of(np.full((2, 4, 4, 3), 7, np.uint8)) == ((7.0, 7.0, 7.0), (1.0, 1.0, 1.0))


def test_the_sha256_is_of_every_array_and_of_the_limits() -> None:
    assert IMAGES.limited(train=19).sha256 != IMAGES.sha256
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        changed = getattr(IMAGES, field).copy()
        changed.flat[0] += 1
        assert replace(IMAGES, **{field: changed}).sha256 != IMAGES.sha256


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        (
            0,
            IMAGES.train_images.astype(np.float32),
            r"train_images: float32 \(20, 32, 32, 3\); uint8 \(n, 32, 32, 3\) is",
        ),
        (2, IMAGES.test_images.transpose(0, 3, 1, 2), r"test_images: uint8 \(10, 3, 32, 32\); uint8"),
        (2, IMAGES.test_images[:0], r"test_images: uint8 \(0, 32, 32, 3\)"),
        (1, IMAGES.train_labels[:3], r"train_labels: int64 \(3,\); whole numbers \(20,\) are needed"),
        (1, IMAGES.train_labels / 2, r"train_labels: float64 \(20,\); whole numbers"),
        (1, np.full(20, np.nan), r"train_labels: float64 \(20,\); whole numbers"),
        (1, ["cat", "dog"] * 10, r"train_labels: <U3 \(20,\); whole numbers"),
        (1, [[1], [2, 3]], r"no array can be made of \[\[1\], \[2, 3\]\]: "),
        (3, IMAGES.test_labels - 10, r"test_labels: -\d+ to -\d+; labels count \d+ classes from 0"),
        (3, IMAGES.test_labels + 10**12, r"test_labels: 1\d+ to 1\d+; labels count 10000 classes from 0"),
    ],
)
def test_arrays_that_will_not_do(place: int, value: object, complaint: str) -> None:
    arrays: list[object] = list(ARRAYS)
    arrays[place] = value
    with pytest.raises(InputError, match=f"^{complaint}"):
        Dataset.from_arrays(*arrays)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"classes": ("a", "b")}, "train_labels: 0 to 9; labels count 2 classes from 0"),
        ({"classes": ("a",)}, "classes: 1; there can be 2 to 10,000"),
        ({"name": "cifar10"}, "name: cifar10 is the name of other images"),
        ({"mean": (1.0, 2.0)}, r"mean: \(1.0, 2.0\); three finite numbers are needed"),
        ({"std": (1.0, 2.0, 0.0)}, r"std: \(1.0, 2.0, 0.0\); three finite numbers above 0 are needed"),
    ],
)
def test_options_that_will_not_do(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=f"^{complaint}"):
        Dataset.from_arrays(*ARRAYS, **options)  # type: ignore[arg-type]


def test_the_mean_given_is_kept_and_the_deviation_computed() -> None:
    dataset = Dataset.from_arrays(*ARRAYS, mean=(1, 2, 3))  # type: ignore[arg-type]
    assert dataset.mean == (1.0, 2.0, 3.0)
    assert dataset.std == statistics_of(IMAGES.train_images)[1]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """train/ and test/ with cats and dogs: PNG files, of which one is larger."""
    monkeypatch.setattr(folder, "cache", lambda: tmp_path / "cache")
    root = tmp_path / "pets"
    for split, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(IMAGES.train_images[2 * number + label]).save(root / split / name / f"{number}.png")
    Image.new("L", (64, 40), 9).save(root / "test" / "dog" / "large.png")
    return root


def test_a_folder_of_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_dataset(Recipe(dataset=str(tree)))
    assert (dataset.name, dataset.classes) == ("pets", ("cat", "dog"))
    assert dataset.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(dataset.train_images[4], IMAGES.train_images[3])
    assert (dataset.test_images[-1] == 9).all()
    assert dataset.mean == statistics_of(dataset.train_images)[0]

    def unread(*_: object) -> None:
        raise AssertionError("the images are in the cache")

    monkeypatch.setattr(folder, "read_folder", unread)
    assert load_dataset(Recipe(dataset=str(tree))).sha256 == dataset.sha256
    # A run's recipe has the name and the sha256, and --data says where the folder is.
    kept = Recipe(dataset="pets", dataset_sha256=dataset.sha256)
    moved = tree.rename(tree.with_name("moved"))
    monkeypatch.undo()
    monkeypatch.setattr(folder, "cache", lambda: tree)  # which is gone, and is made again
    found = load_dataset(kept, moved)
    assert (found.sha256, found.name) == (dataset.sha256, "pets")
    said = rf"^dataset: pets here .* other images than the recipe's \(their sha256 is {dataset.sha256}, not 000"
    with pytest.raises(InputError, match=said):
        load_dataset(replace(kept, dataset_sha256="0" * 64), moved)


def test_a_class_without_test_images_is_said(tree: Path) -> None:
    assert "no test images" not in load_dataset(Recipe(dataset=str(tree))).source
    shutil.rmtree(tree / "test" / "dog")
    assert "; no test images of 'dog'; of each file " in load_dataset(Recipe(dataset=str(tree))).source


def test_a_folder_is_no_cifar10_by_its_name(tree: Path) -> None:
    assert load_dataset(Recipe(dataset=str(tree.rename(tree.with_name("cifar10"))))).name == "cifar10-folder"


def test_a_changed_file_is_read_again_and_a_damaged_cache_too(tree: Path, tmp_path: Path) -> None:
    first = load_dataset(Recipe(dataset=str(tree))).sha256
    (kept,) = (tmp_path / "cache" / "folders").iterdir()
    whole = kept.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", whole[:100], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        kept.write_bytes(damaged)
        assert load_dataset(Recipe(dataset=str(tree))).sha256 == first
        assert kept.read_bytes() == whole
    Image.new("RGB", (32, 32), "red").save(tree / "train" / "cat" / "0.png")
    changed = load_dataset(Recipe(dataset=str(tree))).sha256
    assert changed != first
    # A class may be a link to a folder elsewhere, whose files count as much.
    (tree / "train" / "dog").rename(tmp_path / "dogs")
    (tree / "train" / "dog").symlink_to(tmp_path / "dogs")
    assert load_dataset(Recipe(dataset=str(tree))).sha256 == changed
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "dogs" / "0.png")
    assert load_dataset(Recipe(dataset=str(tree))).sha256 != changed
    assert list(kept.parent.iterdir()) == [kept]


def test_a_cache_that_cannot_be_written_does_not_matter(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    assert len(load_dataset(Recipe(dataset=str(tree))).train_images) == 6


def test_folders_that_are_no_data_set_are_one_line(tree: Path, tmp_path: Path) -> None:
    (tree / "test" / "cow").mkdir()
    with pytest.raises(InputError, match=r"pets/test/cow: no class of that name; there are cat, dog"):
        load_dataset(Recipe(dataset=str(tree)))
    (tree / "test" / "cow").rmdir()
    (tree / "train" / "cow").mkdir()
    with pytest.raises(InputError, match=r"pets/train/cow: no image in it"):
        load_dataset(Recipe(dataset=str(tree)))
    (tree / "train" / "cow").rmdir()
    (tree / "train" / "cat" / "gone.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        load_dataset(Recipe(dataset=str(tree)))
    (tree / "train" / "cat" / "gone.png").unlink()
    (tree / "train" / "cat" / "0.png").write_text("no image")
    with pytest.raises(InputError, match=r"pets/train/cat/0\.png: not an image"):
        load_dataset(Recipe(dataset=str(tree)))
    with pytest.raises(InputError, match=r"pets/train: no folder train in it"):
        load_dataset(Recipe(dataset=str(tree / "train")))
    (tmp_path / "one" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "one" / "test").mkdir()
    with pytest.raises(InputError, match=r"one/train: 1 classes \(folders in it\), not 2 to 10,000"):
        load_dataset(Recipe(dataset=str(tmp_path / "one")))


def test_neither_a_name_nor_a_folder(tmp_path: Path) -> None:
    said = r"neither cifar10, cifar100, synthetic nor a folder"
    with pytest.raises(InputError, match=rf"^dataset: 'cifar11': {said} \(perhaps you meant cifar10\)$"):
        load_dataset(Recipe(dataset="cifar11"))
    with pytest.raises(InputError, match=rf"^dataset: 'cifar11' \({tmp_path}\): {said} \(perhaps you meant cifar10"):
        load_dataset(Recipe(dataset="cifar11"), tmp_path)
    for name in ("pets", "a" * 400, "null\0"):
        with pytest.raises(InputError, match=rf"^dataset: '.*: {said}; --data DIR says where it is$"):
            load_dataset(Recipe(dataset=name))


@pytest.fixture
def hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-100's three files, small ones; the published MD5s are theirs."""
    base = tmp_path / CIFAR100.base_folder
    base.mkdir()
    names = [f"fine-{k}" for k in range(100)]
    md5s = {}
    for name, count in (("train", 12), ("test", 6)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 3072), np.uint8)
        batch = {"data": pixels, "fine_labels": list(range(count)), "coarse_labels": [0] * count}
        (base / name).write_bytes(pickle.dumps(batch))
    (base / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": ["all"]}))
    md5s = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in base.iterdir()}
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5s["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5s["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5s["meta"]})
    return tmp_path


def test_cifar100(hundred: Path) -> None:
    dataset = load_dataset(Recipe(dataset="cifar100"), hundred)
    assert (dataset.name, len(dataset.classes), dataset.classes[7]) == ("cifar100", 100, "fine-7")
    assert dataset.train_labels.tolist() == list(range(12))
    pixels = np.random.default_rng(12).integers(0, 256, (12, 3072), np.uint8)
    np.testing.assert_array_equal(dataset.train_images, pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert dataset.mean == statistics_of(dataset.train_images)[0]


def test_a_damaged_file_of_cifar100_is_not_unpickled(hundred: Path) -> None:
    (hundred / CIFAR100.base_folder / "train").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match=r"train: damaged: its MD5 is .*, CIFAR-100's is"):
        load_dataset(Recipe(dataset="cifar100"), hundred)


def test_no_cifar100_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no cifar-100-python in it; unpack https://.*cifar-100-python\.tar\.gz there"
    ):
        cifar.load_cifar100(tmp_path)


@pytest.mark.parametrize("name", LOADERS)
def test_the_test_images_in_batches(name: str) -> None:
    options = {"batch_size": 4, "device": "cpu", "pad": 3, "brightness": 0.5, "cutout": 5}
    batches: Epochs = loader(name, IMAGES, split="test", **options)  # type: ignore[arg-type]
    assert len(batches) == 3
    for _ in range(2):
        seen = list(batches)
        assert [len(labels) for _, labels in seen] == [4, 4, 2]
        images, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
        torch.testing.assert_close(images, normalise(torch.from_numpy(IMAGES.test_images)), rtol=1e-5, atol=1e-5)
        assert labels.tolist() == IMAGES.test_labels.tolist()


def test_a_split_that_there_is_not() -> None:
    with pytest.raises(InputError, match="split val: train or test"):
        loader("fused", IMAGES, batch_size=4, device="cpu", split="val")  # type: ignore[arg-type]


def test_held_out_images_are_the_last_of_training() -> None:
    held_out = IMAGES.validating(5)
    np.testing.assert_array_equal(held_out.train_images, IMAGES.train_images[:15])
    np.testing.assert_array_equal(held_out.test_images, IMAGES.train_images[15:])
    np.testing.assert_array_equal(held_out.train_labels, IMAGES.train_labels[:15])
    np.testing.assert_array_equal(held_out.test_labels, IMAGES.train_labels[15:])
    assert "5 held-out training images to test on" in held_out.describe()
    recipe = Recipe(validation=5, limit_train=12, limit_test=3)
    limited = IMAGES.selected(recipe)
    np.testing.assert_array_equal(limited.train_images, IMAGES.train_images[:12])
    np.testing.assert_array_equal(limited.test_images, IMAGES.train_images[15:18])
    with pytest.raises(InputError, match="validation: 20 of the 20 training images of synthetic"):
        IMAGES.validating(20)
    with pytest.raises(InputError, match="limit_train: 16 images asked for, synthetic has 15"):
        IMAGES.selected(Recipe(validation=5, limit_train=16))


def test_mean_and_deviation_are_of_all_images() -> None:
    images = np.repeat(np.array([10, 250], np.uint8), (1000, 500))[:, None, None, None].repeat(3, axis=3)
    mean, std = statistics_of(images)
    assert mean == pytest.approx([images.mean()] * 3)
    assert std == pytest.approx([images.std()] * 3)


def test_two_classes_of_one_name() -> None:
    images, labels = np.zeros((2, 32, 32, 3), np.uint8), np.arange(2)
    with pytest.raises(InputError, match=r"^classes: 'cat' is the name of more than one"):
        Dataset.from_arrays(images, labels, images, labels, classes=["cat", "cat"])
