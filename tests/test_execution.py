"""What `auto` becomes, and what is refused."""

import importlib.util
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest
import torch
import torch._dynamo

from fastcifar.bench.step import new_step
from fastcifar.errors import InputError
from fastcifar.execution import Execution, bfloat16_units, compiled, compiler, has_gpu, machines, may_have_cuda, resolve
from fastcifar.recipe import Resnet


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "precision"),
    [(False, False, "float32"), (True, False, "bfloat16"), (False, True, "bfloat16")],
)
def test_auto_on_a_cpu(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch, avx512_bf16: bool, amx: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr("fastcifar.execution.compiler", lambda: "g++")
    assert resolve(Execution()) == (Execution("cpu", "fused", precision, "off"), [])  # type: ignore[arg-type]


def test_without_a_compiler_dali_is_faster(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcifar.execution.compiler", lambda: None)
    assert resolve(Execution())[0].loader == "dali"


def test_a_compiler_without_pythons_headers_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # any program that is there
    assert compiler() == sys.executable
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert compiler() is None


def test_what_onednn_may_not_use_is_not_there(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for amx, units in ((True, "AMX"), (False, "AVX512-BF16")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert bfloat16_units() == units
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert bfloat16_units() is None
    assert resolve(Execution())[0].precision == "float32"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert resolve(Execution())[0].precision == "bfloat16"


@pytest.mark.parametrize(
    ("bf16", "own", "processes", "precision", "mode"),
    [
        (True, False, "1", "bfloat16", "cuda-graph"),
        (True, True, "1", "bfloat16", "reduce-overhead"),
        (False, False, "1", "float16", "reduce-overhead"),
        (True, False, "2", "bfloat16", "default"),
    ],
)
def test_auto_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, own: bool, processes: str, precision: str, mode: str
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr("fastcifar.execution.compiler", lambda: "g++")
    assert resolve(Execution(), own=own) == (Execution("cuda", "fused", precision, mode), [])  # type: ignore[arg-type]


def test_what_is_named_is_kept(no_gpu: None) -> None:
    named = Execution("cpu", "fused", "bfloat16", "off")
    assert resolve(named) == (named, [])


@pytest.mark.parametrize("missing", ["nvidia", "nvidia.dali"])
def test_with_neither_dali_nor_a_compiler_it_is_fused(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr("fastcifar.execution.compiler", lambda: None)
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find(name))
    assert resolve(Execution())[0].loader == "fused"
    assert resolve(Execution(loader="dali"))[0].loader == "dali"  # whose one-line error is the loader's


def test_cuda_without_cuda(no_gpu: None) -> None:
    with pytest.raises(InputError, match="--device cuda: torch finds no CUDA device here"):
        resolve(Execution(device="cuda"))


def test_float16_on_a_cpu(no_gpu: None) -> None:
    with pytest.raises(InputError, match="--precision float16: on the CPU"):
        resolve(Execution(precision="float16"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device": "cuda:1"}, r"device: 'cuda:1' is none of auto, cuda, cpu, of several GPUs the one that \$CUDA_VIS"),
        ({"precision": "bf16"}, "precision: 'bf16' is none of auto, float32, bfloat16, float16$"),
        ({"loader": "ffcv"}, "loader: 'ffcv' is none of auto, dali, fused$"),
        ({"compile": None}, "compile: None is none of auto, off"),
    ],
)
def test_a_value_that_a_field_does_not_have(given: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}"):
        resolve(Execution(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "processes", "said"),
    [
        (Execution("cpu", compile="cuda-graph"), "1", "needs a GPU"),
        (Execution("cuda", precision="float16", compile="cuda-graph"), "1", "not with float16"),
        (Execution("cuda", precision="bfloat16", compile="cuda-graph"), "2", "for one process"),
    ],
)
def test_where_a_step_cannot_be_one_graph(
    monkeypatch: pytest.MonkeyPatch, given: Execution, processes: str, said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("fastcifar.execution.compiler", lambda: "g++")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(InputError, match=f"^--compile cuda-graph: {said}"):
        resolve(given)
    if given.device == "cuda":
        monkeypatch.setenv("WORLD_SIZE", "1")
        assert resolve(replace(given, precision="bfloat16"))[0].compile == "cuda-graph"


def test_without_a_compiler_it_says_so_and_runs_eager(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    resolved, notes = resolve(Execution(compile="default"))
    assert resolved.compile == "off"
    assert len(notes) == 1
    assert "running eager" in notes[0]


def test_whether_there_is_a_gpu_is_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    assert has_gpu()
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not has_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert has_gpu()
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 0)
    assert not has_gpu()

    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert not has_gpu()


def test_cuda_may_be_where_the_driver_of_others_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("fastcifar.execution.has_gpu", lambda: False)
    monkeypatch.setattr(Path, "is_char_device", lambda path: False)
    assert not may_have_cuda()
    monkeypatch.setattr(Path, "is_char_device", lambda path: str(path) == "/dev/dxg")
    assert may_have_cuda()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not may_have_cuda()


def test_however_many_networks_a_process_trains_each_one_is_compiled() -> None:
    """torch's own limit is 8, after which a step would run uncompiled with no more than a warning."""
    torch._dynamo.reset()
    graphs: list[object] = []

    def kept(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    compile_, device = torch.compile, torch.device("cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch, "compile", lambda function, dynamic, **_: compile_(function, backend=kept, dynamic=dynamic)
        )
        for width in range(1, 11):
            step, batch = new_step(Resnet(width=width), 10, None, 2, device, "float32", "default")
            step(*batch)
            assert len(graphs) == width
        step, batch = new_step(Resnet(width=11), 10, None, 2, device, "float32", "default")
        limit = torch._dynamo.config.patch(recompile_limit=10)
        with limit, pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
            step(*batch)
    torch._dynamo.reset()


def test_what_is_compiled_prints_no_warning_of_cuda(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("torch.utils.cpp_extension")
    compiled(lambda: None)
    logger.warning("No CUDA runtime is found, using CUDA_HOME='/usr'")
    logger.warning("something else")
    assert caplog.messages == ["something else"]


@pytest.mark.parametrize(("local", "count"), [("8", 2), ("16", 1), (None, 1), ("0", 1), ("many", 1)])
def test_on_how_many_machines_the_processes_are(local: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert machines() == count
