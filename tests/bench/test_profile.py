"""`fastcifar bench profile`: what a trace comes to, and the command on the CPU."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from fastcifar.bench.profile import Profile, device_work, kind_of, summarise, warm_and_profiled
from fastcifar.commands import main

TOY = ["--dataset", "synthetic", "--limit-train", "640", "--limit-test", "100", "--width", "4", "--batch-size", "64"]
TOY += ["--epochs", "1", "--device", "cpu"]


def test_the_devices_work_counts_and_no_mark() -> None:
    def event(name: str, device: DeviceType, mark: bool = False) -> SimpleNamespace:
        return SimpleNamespace(name=name, device_type=device, is_user_annotation=mark)

    events = [
        event("sm90_xmma_gemm", DeviceType.CUDA),
        event("cudaGraphLaunch", DeviceType.CPU),
        event("step", DeviceType.CUDA, mark=True),
        event("Memset (Device)", DeviceType.CUDA),
        event("Optimizer.step#Adam.step", DeviceType.CPU, mark=True),
    ]
    assert [one.name for one in device_work(events, torch.device("cuda"))] == ["sm90_xmma_gemm", "Memset (Device)"]
    assert [one.name for one in device_work(events, torch.device("cpu"))] == ["cudaGraphLaunch"]


Ran = tuple[str, float, float]  # a name, when it began, and for how many seconds it ran


def profiled(ran: Sequence[Ran], steps: int = 1) -> Profile:
    names = dict.fromkeys(name for name, *_ in ran)
    seconds = {name: [one[2] for one in ran if one[0] == name] for name in names}
    return summarise(
        [(name, len(of), sum(of)) for name, of in seconds.items()],
        [(start, start + length) for _, start, length in ran],
        steps=steps,
        batch_size=100,
        step_seconds=20.0,
        images_per_second=5.0,
        profiled_seconds=25.0 * steps,
        flops=3.0,
        optimizer_flops=30.0,
        matmul_rate=60.0,
    )


def test_what_a_profile_comes_to() -> None:
    """A gap of 4 s, one of 1 s, and two streams that overlap; in no order."""
    found = profiled(
        [
            ("Memset (Device)", 21, 1),
            ("sm90_xmma_gemm", 0, 10),
            ("triton_poi_fused_relu_0", 14, 2),
            ("sm90_xmma_gemm", 15, 5),  # overlaps by 1
        ]
    )
    assert found.busy_seconds == 17
    assert found.gap_share == pytest.approx(5 / 22)
    assert (found.gaps, found.gap_median_seconds, found.gap_longest_seconds) == (2, 2.5, 4)
    assert [(one.name, one.calls, one.seconds) for one in found.kernels] == [
        ("sm90_xmma_gemm", 2, 15),
        ("triton_poi_fused_relu_0", 1, 2),
        ("Memset (Device)", 1, 1),
    ]
    assert [(one.name, one.share) for one in found.kinds] == [
        ("matmul", pytest.approx(15 / 18)),
        ("generated", pytest.approx(2 / 18)),
        ("copy", pytest.approx(1 / 18)),
    ]
    assert found.matmul_share == pytest.approx(15 / 18)
    assert found.matmul_efficiency == pytest.approx((100 * 3.0 + 30) / 15 / 60)  # in the products' 15 s, over the rate
    assert found.efficiency == pytest.approx(5 * 3.0 / 60)
    inside = profiled([("aten::linear", 0, 10), ("aten::mm", 1, 4), ("relu", 12, 1)])
    assert (inside.busy_seconds, inside.gaps) == (11, 1)
    assert inside.kinds[0].calls == 2  # two operators of a kind
    twice = profiled([("gemm", 0, 10), ("gemm", 10, 10)], steps=2)
    assert (twice.kernels[0].calls, twice.kernels[0].seconds, twice.profiled_step_seconds) == (1, 10, 25)
    assert (twice.gap_share, twice.gaps) == (0, 0)
    assert profiled([("relu", 0, 1)]).matmul_efficiency is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "matmul"),
        ("sm80_xmma_wgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc", "matmul"),
        ("cutlass_tensorop_bf16_s16816dgrad_optimized_bf16_256x64_32x4_nhwc_unity_stride_align8", "matmul"),
        ("nvjet_tst_128x64_64x8_1x2_h_bz_TNT", "matmul"),
        ("triton_tem_fused_convolution_3", "matmul"),
        ("triton_poi_fused_convolution_relu_3", "generated"),
        ("triton_red_fused__native_batch_norm_legit_functional_2", "generated"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1, true>(...)", "batch norm"),
        ("void at::native::batch_norm_backward_reduce_channels_last_kernel<4, float>(...)", "batch norm"),
        ("void at::native::(anonymous namespace)::max_pool_backward_nhwc<c10::BFloat16, float>(...)", "pooling"),
        (
            "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor<float, 4>>",
            "optimizer",
        ),
        ("void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float, true, false>(...)", "copy"),
        ("void cudnn::cnn::convertTensor_kernel<float>(...)", "other"),
        ("Memcpy DtoD (Device -> Device)", "copy"),
        ("void dali::kernels::SliceFlipNormalizeGPU(...)", "loader"),
        ("void at::native::vectorized_gather_kernel<16, long>(...)", "loader"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 4, 128, 1>(...)", "loader"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<int>>(...)", "copy"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<long>>(...)", "element-wise"),
        ("aten::convolution_backward", "matmul"),
        ("aten::mm", "matmul"),
        ("aten::native_batch_norm", "batch norm"),
        ("aten::add_", "element-wise"),
        ("aten::empty", "other"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_epochs_of_which_images_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The epochs that are timed and profiled have fewer steps than the first."""
    file = tmp_path / "profile.json"
    leaving_out = ["--selection.leave-out", "0.4", "--selection.after-epoch", "1"]
    arguments = ["bench", "profile", "--recipe", "laptop", *TOY, *leaving_out, "--json", str(file)]
    assert main([*arguments, "--steps", "50"]) == 0
    assert "50 steps were to be profiled; the third epoch, warmed up, has 5" in capsys.readouterr().out
    found = json.loads(file.read_text())["profile"]
    assert found["steps"] == 5  # of 6, one to warm up
    assert found["images_per_second"] * found["step_seconds"] == pytest.approx(64)
    assert main([*arguments[:-2], "--selection.leave-out", "0.85", "--json", str(file)]) == 2


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    file, trace = tmp_path / "profile.json", tmp_path / "trace.json.gz"
    arguments = ["bench", "profile", "--recipe", "laptop", *TOY, "--steps", "4"]
    assert main([*arguments, "--json", str(file), "--trace", str(trace)]) == 0
    printed = capsys.readouterr()
    assert "end to end: " in printed.out
    assert printed.err == ""
    kept = json.loads(file.read_text())
    assert (kept["recipe_name"], kept["recipe"]["model"]["width"], kept["execution"]["device"]) == ("laptop", 4, "cpu")
    found = kept["profile"]
    assert (found["steps"], found["batch_size"]) == (4, 64)
    calls = {one["name"]: one["calls"] for one in found["kernels"]}
    assert calls["aten::convolution_backward"] == 8  # one for each convolution, a step
    assert calls["aten::_fused_adam_"] == 1
    assert 0 < found["busy_seconds"] <= found["profiled_step_seconds"]
    assert sum(one["share"] for one in found["kinds"]) == pytest.approx(1)
    assert 0 < found["efficiency"] < 1
    seen = json.loads(gzip.decompress(trace.read_bytes()))
    assert any(one["name"] == "aten::_fused_adam_" for one in seen["traceEvents"])
    assert "host_name" not in seen
    assert str(tmp_path) not in json.dumps(seen)


def test_a_short_epoch_is_profiled_as_far_as_it_goes() -> None:
    assert warm_and_profiled(98, 50) == (10, 50)
    assert warm_and_profiled(55, 50) == (5, 50)
    assert warm_and_profiled(10, 50) == (1, 9)
    assert warm_and_profiled(2, 50) == (1, 1)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--steps", "0"], "--steps 0: at least one is needed"),
        (["--batch-size", "600"], "batch_size: two batches of 600 are more than the training images"),
        (["--trace", "x.json"], "--trace x.json: is written gzipped"),
        (["--json", "."], ".: is a folder; name a file"),
        (["--json", "nowhere/x.json"], "nowhere/x.json: there is no folder nowhere"),
    ],
)
def test_bad_input(flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "profile", "--recipe", "laptop", *TOY, *flags]) == 2
    assert complaint in capsys.readouterr().err
