"""The picture of the benchmarks."""

from pathlib import Path

from PIL import Image

from fastcifar.bench.throughput import Measurement
from fastcifar.report.charts import draw_bench


def measured(bench: str, name: str, rate: float, *, limit: float | None = None, unit: str = "images/s") -> Measurement:
    return Measurement(bench, name, unit, rate, 0.9 * rate, 1.1 * rate, [rate], limit, rate / 1000, {})


def test_bars_of_each_benchmark_with_the_ratio_to_plain(tmp_path: Path) -> None:
    measurements = [
        measured("loaders", "fused", 1_000_000, limit=2_000_000),
        measured("loaders", "plain_$x^2$", 1000, limit=2_000_000),
        measured("loaders", "a copy", 6e9, unit="bytes/s"),
        measured("step", "eager", 1500),
    ]
    draw_bench(measurements, tmp_path / "bench.svg")
    text = (tmp_path / "bench.svg").read_text()
    for said in ("loaders: images/s", "one training step", ">fused<", ">plain_$x^2$<", ">1e+03 x<", ">1 x<", ">1.5 x<"):
        assert said in text
    assert "a copy<" not in text  # of bytes, not of images
    draw_bench(measurements[:1], tmp_path / "bench.png")
    assert Image.open(tmp_path / "bench.png").width == 2100
