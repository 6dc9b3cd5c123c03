"""Exported networks: they give the network's answers, for any number of images, or are not written."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, RunError
from fastcifar.models.resnet import ResNet
from fastcifar.recipe import Resnet
from fastcifar.runs import export as export_module
from fastcifar.runs.export import export, require_packages
from fastcifar.training.evaluate import OnBytes, normalise

CLASSES = [f"class {number}" for number in range(10)]


@pytest.fixture(scope="module")
def network() -> ResNet:
    """With batch statistics of its own, channels_last as `load` gives it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = ResNet(Resnet(width=4)).to(memory_format=torch.channels_last)
        model(torch.randn(64, 3, 32, 32))
    return model.eval()


def logits(network: ResNet, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(normalise(torch.from_numpy(images))).numpy()


def test_torch_export(tmp_path: Path, small: Dataset, network: ResNet) -> None:
    checked = export(OnBytes(network), "torch-export", tmp_path / "a.pt2", small.test_images, CLASSES)
    assert checked.images == 200
    assert checked.difference < 1e-4
    files = {"classes.json": ""}
    module = torch.export.load(tmp_path / "a.pt2", extra_files=files).module()
    assert json.loads(files["classes.json"]) == CLASSES
    for count in (1, 3, 64):
        found = module(torch.from_numpy(small.train_images[:count])).detach()
        np.testing.assert_allclose(found, logits(network, small.train_images[:count]), atol=1e-4)


def test_onnx(tmp_path: Path, small: Dataset, network: ResNet, capfd: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    checked = export(OnBytes(network), "onnx", tmp_path / "a.onnx", small.test_images, CLASSES)
    assert capfd.readouterr().out == ""  # what is printed belongs to the command line
    assert checked.images == 200
    assert checked.difference < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]  # the weights are inside
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("images", "tensor(uint8)", [32, 32, 3])
    assert (taken.shape[0], session.get_outputs()[0].shape[0]) == ("batch", "batch")  # any number
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == CLASSES
    for count in (1, 3, 64):
        (found,) = session.run(None, {"images": small.train_images[:count]})
        np.testing.assert_allclose(found, logits(network, small.train_images[:count]), atol=1e-4)


@pytest.mark.parametrize("name", ["onnx", "torch-export"])
def test_a_file_that_disagrees_is_not_written(
    tmp_path: Path, small: Dataset, network: ResNet, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    program = export_module._program
    monkeypatch.setattr(export_module, "_program", lambda model: program(OnBytes(model.network, (0.0, 0.0, 0.0))))
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(RunError, match=r"off by .*: nothing was written"):
        export(OnBytes(network), name, tmp_path / "a", small.test_images, CLASSES)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_logit_that_is_not_a_number_disagrees(small: Dataset, network: ResNet) -> None:
    def nonsense(images: np.ndarray) -> np.ndarray:
        return np.full((len(images), 10), np.nan, np.float32)

    with pytest.raises(RunError, match="off by nan"):
        export_module._check(nonsense, OnBytes(network), small.test_images)


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    require_packages("torch-export")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, "onnx", sys)
    monkeypatch.setitem(sys.modules, "onnxscript", sys)
    with pytest.raises(InputError, match=r"onnxruntime is not here; pip install '\.\[export\]'"):
        require_packages("onnx")
