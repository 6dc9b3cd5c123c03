"""The leaderboard's page, in a real browser where there is one."""

import base64
import hashlib
import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_records import record_of_own

from fastcifar.errors import InputError
from fastcifar.execution import Execution
from fastcifar.recipe import Recipe, Resnet, Schedule
from fastcifar.records.leaderboard import Curve, Group, Published, groups, read_entry
from fastcifar.records.record import Environment, Epoch, Images, Record, Run, Work, to_json
from fastcifar.records.summary import make_record
from fastcifar.report.charts import Timed
from fastcifar.report.leaderboard_page import markdown, write_page

CPU = "AMD EPYC 9R14 96-Core Processor"
GPU = "NVIDIA H100 80GB HBM3"
HOSTILE = ("<script>alert(1)</script>", "</script>", '"><img src=x onerror=alert(1)>')
PUBLISHED = [
    Published("airbench94", 3.29, 0.94, "NVIDIA A100", 2024, "https://github.com/KellerJordan/cifar10-airbench"),
    Published("DAWNBench, how to train your ResNet", 26.0, 0.94, "NVIDIA V100", 2018, "https://myrtle.ai/learn"),
    Published("a thesis", 420.0, 0.9, "unnamed cloud GPU", 2023, "javascript:alert(1)"),
]
CURVES = [
    Curve("the reference log", "https://example.org/log", [(24.5 * n, 0.93 - 0.5 / n) for n in range(1, 25)]),
    Curve("another log", "https://example.org/other", [(3.0 * n, 0.95 - 0.4 / n) for n in range(1, 9)]),
]
PLACEHOLDERS = "$data $policy {{ policy }} {% if %} $x^2$"
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
RIVAL = "rival, recipe not given"


def record(
    name: str,
    *,
    epoch_seconds: float,
    epochs: int = 8,
    final: float = 0.905,
    runs: int = 3,
    recipe: Recipe | None = None,
    protocol: Any = "first-crossing",
    loader: Any = "dali",
    **environment: Any,
) -> Record:
    """A made-up record that holds: its accuracy rises to `final`, each run a little slower and better than the last."""
    target = 0.9 if recipe is None else recipe.target
    made = []
    for number in range(runs):
        log = []
        for epoch in range(1, epochs + 1):
            spent = epoch_seconds * (1 + 0.01 * number + 0.03 * (epoch == 1))
            accuracy = final - 0.45 * (1 - epoch / epochs) ** 2 + 0.0002 * number
            log.append(
                Epoch(
                    epoch=epoch,
                    train_seconds=spent,
                    eval_seconds=spent / 10,
                    train_loss=2 / epoch,
                    train_accuracy=accuracy * 0.99,
                    test_loss=1.8 / epoch,
                    test_accuracy=round(accuracy * 10_000) / 10_000,
                    learning_rate=0.01 / epoch,
                    images_per_second=50_000 / spent,
                )
            )
        wall = sum(epoch.train_seconds + (epoch.eval_seconds or 0) for epoch in log) + 1
        started = f"2026-11-{10 + number % 10:02}T10:00:00+00:00"
        made.append(Run(seed=number, started=started, setup_seconds=12.5, wall_seconds=wall, epochs=log))
    machine: dict[str, Any] = dict.fromkeys(Environment.model_fields)
    machine |= {"fastcifar": "0.1.0", "torch": "2.15.0", "python": "3.11.2", "os": "Linux-6.1", "cpu": CPU, "cores": 2}
    machine |= {
        "commit": "0" * 40,
        "dirty": False,
        "threads": 2,
        "cpu_capability": "AVX512",
        "memory_gib": 15.4,
        "gpus": 0,
        **environment,
    }
    return make_record(
        program="fastcifar 0.1.0" if recipe else name,
        name=name,
        protocol=protocol,
        target=target,
        recipe=recipe,
        execution=Execution("cuda" if environment.get("gpu") else "cpu", loader, "bfloat16", "off") if recipe else None,
        images=Images(train=50_000, test=10_000),
        environment=machine,
        runs=made,
    )


def grouped(folder: Path, records: Sequence[Record]) -> list[Group]:
    """The records as the leaderboard reads them from files."""
    entries = []
    for number, one in enumerate(records):
        path = folder / f"{number}-{one.recipe_hash is not None}.record.json"
        path.write_bytes(to_json(one))
        entries.append(read_entry(path))
    return groups(entries)


def samples() -> list[Record]:
    """Six records in three groups: open on a CPU (3), closed on a GPU (2), closed by fixed-budget on the GPU (1)."""
    small, seed = Recipe(epochs=8, model=Resnet(width=16, conv_bias=False)), Recipe(epochs=24)
    on_gpu: dict[str, Any] = {
        "epochs": 24,
        "gpu": GPU,
        "gpus": 1,
        "cpu": "Intel Xeon",
        "cuda": "13.0",
        "driver": "580.1",
    }
    return [
        record("small", epoch_seconds=29.6, recipe=small),
        record("narrow", epoch_seconds=21.3, recipe=replace(small, label_smoothing=0.1), loader="fused", runs=5),
        record("rival", epoch_seconds=55.0, epochs=6, runs=1),
        record("seed", epoch_seconds=1.31, recipe=seed, final=0.914, **on_gpu),
        record("seed", epoch_seconds=1.12, recipe=seed, final=0.913, loader="fused", runs=1, **on_gpu),
        record("seed", epoch_seconds=1.12, recipe=seed, final=0.913, protocol="fixed-budget", runs=10, **on_gpu),
    ]


@pytest.fixture(scope="module")
def sample_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    return write_page(folder / "site", grouped(folder, samples()), PUBLISHED, CURVES)


def names(page: Any, table: int = 0) -> list[str]:
    """The visible entries of a group's table, in their order."""
    return page.locator(".group").nth(table).locator(".entry:visible > tr > th").all_inner_texts()  # type: ignore[no-any-return]


def point_of(page: Any, curve: str, point: int) -> tuple[float, float]:
    """Where in the window a curve's point is; 0 is its last one, from which it is drawn."""
    x, y = page.evaluate(
        """([id, point]) => {
            const line = document.querySelector(`g[data-curve="${id}"] .reach`);
            const numbers = line.getAttribute("d").match(/[-0-9.]+/g).map(Number);
            const [x, y] = numbers.slice(2 * point);
            const at = new DOMPoint(x, y).matrixTransform(line.getScreenCTM());
            return [at.x, at.y];
        }""",
        [curve, point],
    )
    return x, y


def test_one_file_that_loads_nothing_and_runs_only_its_script(sample_page: Path) -> None:
    text = sample_page.read_text()
    assert [path.name for path in sample_page.parent.iterdir()] == ["index.html"]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    for tag in ("script", "style"):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inline) == 1
        assert f"'sha256-{base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()}'" in policy[1]
    assert re.findall(r'<(?!a )[^>]* (?:src|href)="(?!data:|#)', text) == []
    assert " style=" not in text


def test_the_same_records_give_the_same_bytes(tmp_path: Path, sample_page: Path) -> None:
    assert (
        write_page(tmp_path, grouped(tmp_path, samples()), PUBLISHED, CURVES).read_bytes() == sample_page.read_bytes()
    )


def test_the_page_has_all_of_a_record_without_its_script(tmp_path: Path, visit: Callable[..., Any]) -> None:
    one = samples()[3]
    (group,) = grouped(tmp_path, [one])
    page = visit(write_page(tmp_path, [group], [], []), java_script_enabled=False)
    row = page.locator("tbody.entry")
    assert row.get_attribute("data-hardware") == GPU
    assert one.summary.seconds is not None
    assert float(row.locator("td.time").get_attribute("data-value")) == one.summary.seconds.mean
    row.locator("summary").first.click()
    for text in ("epochs = 24", str(one.recipe_hash), GPU, "580.1", "0-True.record.json", "Run 3, seed 2"):
        assert row.get_by_text(text).first.is_visible()
    assert page.locator("#filters").is_hidden()
    row.locator(".details summary").nth(1).click()
    cells = row.locator("table.log").nth(1).locator("tr").nth(2).locator("td").all_inner_texts()
    epoch = one.runs[1].epochs[1]
    assert cells[:2] == ["2", f"{epoch.train_seconds:.3f}"]
    assert cells[6] == f"{100 * epoch.test_accuracy:.2f} %"
    assert row.locator("table.log tbody tr").count() == 3 * 24


def test_a_curve_is_the_records_means(sample_page: Path, tmp_path: Path) -> None:
    svg = re.search(r'<svg viewBox="[^"]+" role="img".*?</svg>', sample_page.read_text(), re.DOTALL)
    assert svg is not None
    found = {}
    for one in ElementTree.fromstring(svg[0]).iter("g"):
        if one.get("class") == "curve":
            places = [float(number) for number in re.findall(r"[-\d.]+", one.findall("path")[1].attrib["d"])]
            title = one.findtext("title")
            found[one.get("data-curve")] = title, list(zip(places[::2], places[1::2], strict=True))[::-1]
    assert list(found) == [*(f"record-{number}" for number in range(6)), "log-0", "log-1"]
    assert found["log-0"][0] == "the reference log (published, not measured here): 90.92 % after 588.0 s"
    entries = [entry for group in grouped(tmp_path, samples()) for entry in group.entries]
    known, wanted = [], []
    for number, entry in enumerate(entries):
        points = entry.curve()
        title, places = found[f"record-{number}"]
        assert title is not None
        assert title.startswith(f"{entry.recipe}, {entry.loader}")
        assert title.endswith(f": {100 * points[-1][1]:.2f} % after {points[-1][0]:.4g} s")
        known += places
        wanted += [(math.log(seconds), accuracy) for seconds, accuracy in points]
    for axis in range(2):  # one scale for all: the seconds' logarithm, and the accuracy
        pixels, values = np.array(known)[:, axis], np.array(wanted)[:, axis]
        slope, offset = np.polyfit(values, pixels, 1)
        assert np.abs(slope * values + offset - pixels).max() < 0.01
        assert (slope > 0) == (axis == 0)


def test_curves_are_told_apart_by_colour_and_mark() -> None:
    curves = [Timed(f"record-{k}", "", k, False, [(1, 0.5)]) for k in range(24)]
    assert len({(curve.colour, curve.mark) for curve in curves}) == 24
    assert len({curve.dashes for curve in (Timed("", "", k, True, [(1, 0.5)]) for k in range(3))}) == 3


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.html: cannot be written: No such file or directory$"):
        write_page(tmp_path / "not" / "there", [], [], [])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written: File exists$"):
        write_page(tmp_path / "file", [], [], [])


def hostile_page(folder: Path) -> Path:
    """Markup wherever a record has text, a template's placeholder too."""
    small = Recipe(epochs=8, model=Resnet(width=16))
    records = [record(text, epoch_seconds=9, recipe=small, cpu=text, os=text, compiler=text) for text in HOSTILE]
    records.append(record(PLACEHOLDERS, epoch_seconds=8))
    published = [Published(text, 1.0, 0.9, text, 2020, text) for text in HOSTILE]
    return write_page(folder, grouped(folder, records), published, [Curve(text, text, [(1, 0.5)]) for text in HOSTILE])


def test_text_from_a_record_is_no_markup(tmp_path: Path) -> None:
    text = hostile_page(tmp_path).read_text()
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("</script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert PLACEHOLDERS in text


def test_code_of_somebodys_own_is_shown_as_text(tmp_path: Path) -> None:
    """With its name and sha256, and none of it markup."""
    text = "def Net():\n\treturn '</pre><script>alert(1)</script>' # é\n# " + PLACEHOLDERS
    found = record_of_own(text, work=Work(flops_per_image=[1e9, 2e9], optimizer_flops_per_step=1e12))
    page = write_page(tmp_path, grouped(tmp_path, [found]), [], []).read_text()
    assert f'net.py <span class="note">· sha256 {found.sources[0].sha256}</span>' in page
    assert page.count("<script") == 1
    (shown,) = [one for one in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL) if "def Net" in one]
    assert html.unescape(shown) == text
    assert '<td class="number" data-value="0.15">0.15</td>' in page
    assert "0.196 beside them" in page
    assert "Code of their own" not in write_page(tmp_path, grouped(tmp_path, [samples()[0]]), [], []).read_text()


def test_text_from_a_record_is_shown_as_text(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(hostile_page(tmp_path))
    for summary in page.locator(".entry summary").all():
        summary.click()
    for number in range(len(HOSTILE)):
        page.mouse.move(*point_of(page, f"record-{number}", 0))
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert sorted(page.locator(".entry > tr > th").all_inner_texts()) == sorted(
        [*HOSTILE, f"{PLACEHOLDERS}, recipe not given"]
    )
    for text in HOSTILE:
        assert page.get_by_text(text, exact=True).count() >= 5


def test_a_column_sorts_its_own_table(sample_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(sample_page)
    cpu = page.locator(".group").filter(has_text="EPYC")
    assert page.locator(".group").count() == 3
    before = page.locator(".group").nth(1).inner_text()
    shown = cpu.locator(".entry > tr > th")
    assert shown.all_inner_texts() == ["narrow", "small", RIVAL]
    heading = cpu.get_by_role("columnheader", name="seconds 95")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert shown.all_inner_texts() == [RIVAL, "small", "narrow"]
    assert cpu.locator(".entry .rank").all_inner_texts() == ["3", "2", "1"]
    cpu.get_by_role("columnheader", name="recipe").get_by_role("button").click()
    assert shown.all_inner_texts() == ["narrow", RIVAL, "small"]
    assert cpu.locator("[aria-sort]").all_inner_texts() == ["recipe"]
    chance = cpu.get_by_role("columnheader", name="p", exact=True).get_by_role("button")
    chance.click()
    assert shown.all_inner_texts()[-1] == RIVAL  # one run has no p
    chance.click()
    assert shown.all_inner_texts()[-1] == RIVAL
    assert page.locator(".group").nth(1).inner_text() == before


def test_published_results_sort_and_link_to_web_pages_only(sample_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(sample_page)
    published = page.locator("#published")
    published.get_by_role("columnheader", name="year").get_by_role("button").click()
    assert [re.split("[,\n]", text)[0] for text in published.locator("tbody th").all_inner_texts()] == [
        "DAWNBench",
        "a thesis",
        "airbench94",
    ]
    links = published.locator("a")
    assert sorted(link.get_attribute("href") for link in links.all()) == [PUBLISHED[0].source, PUBLISHED[1].source]
    assert {link.get_attribute("rel") for link in links.all()} == {"noopener noreferrer"}
    assert published.get_by_text("javascript:alert(1)").count() == 1


def test_filters_hide_rows_tables_and_curves(sample_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(sample_page)
    assert page.locator("#found").inner_text() == "6 records"
    page.get_by_label("Protocol").select_option("fixed-budget")
    assert [names(page, table) for table in range(3)] == [[], ["seed"], []]
    assert page.locator(".group:visible").count() == 1
    assert page.locator("#found").inner_text() == "1 of 6 records"
    assert page.locator("svg .curve:visible").count() == 1 + len(CURVES)  # what others published stays
    assert page.locator(".legend li:visible").count() == 1 + len(CURVES)
    page.get_by_role("button", name="Show all").click()
    page.locator("#text").fill("fused EPYC")
    assert page.locator(".entry:visible > tr > th").all_inner_texts() == ["narrow"]
    page.get_by_label("Division").select_option("closed")
    assert page.locator(".group:visible").count() == 0
    assert page.get_by_text("No record matches").is_visible()
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Target").select_option("0.94")
    assert page.locator("#published tbody:visible").count() == 2
    assert page.locator(".entry:visible").count() == 0
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Hardware").select_option(GPU)
    assert page.locator(".entry:visible").count() == 3


def lit(page: Any) -> list[str]:
    """The tags of what is lit, each of one curve."""
    shown = page.locator("[data-curve].on")
    assert len({one.get_attribute("data-curve") for one in shown.all()}) <= 1
    return shown.evaluate_all("(all) => all.map((one) => one.tagName.toLowerCase())")  # type: ignore[no-any-return]


def test_pointing_at_a_curve_or_a_row_lights_both(sample_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(sample_page, reduced_motion="reduce")
    row = page.locator("tbody.entry").filter(has_text="narrow")
    curve = str(row.get_attribute("data-curve"))
    page.locator("#chart").scroll_into_view_if_needed()
    page.mouse.move(*point_of(page, curve, 2))
    assert page.locator("tbody.entry.on").all_inner_texts() == [row.inner_text()]
    assert page.locator(".curve.on").get_attribute("data-curve") == curve
    assert page.locator(".curve.on title").text_content().startswith("narrow, fused: 90.54 % after 174.4 s")
    opacity = "(all) => all.map((one) => getComputedStyle(one).opacity)"
    assert sorted(page.locator(".curve").evaluate_all(opacity)) == ["0.25"] * 7 + ["1"]
    page.mouse.move(*point_of(page, "log-0", 0))
    assert lit(page) == ["g", "li"]
    page.mouse.move(1, 1)
    assert lit(page) == []
    row.locator("th").first.hover()
    assert page.locator(".curve.on").get_attribute("data-curve") == curve
    assert lit(page) == ["tbody", "g", "li"]


def test_focus_lights_a_curve(sample_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(sample_page)
    rival = page.locator("tbody.entry").filter(has_text="rival")
    rival.locator("summary").first.focus()
    assert page.locator(".curve.on").get_attribute("data-curve") == rival.get_attribute("id")
    link = page.locator(".legend").get_by_role("link", name="small, dali")
    link.focus()
    assert page.locator("tbody.entry.on > tr > th").all_inner_texts() == ["small"]
    page.keyboard.press("Enter")
    assert page.locator("tbody:target > tr > th").all_inner_texts() == ["small"]
    page.get_by_label("Search").focus()
    assert lit(page) == []


def test_a_row_opens_by_keyboard(sample_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(sample_page)
    row = page.locator("tbody.entry").filter(has_text="narrow")
    summary, details = row.locator("summary").first, row.locator(".details")
    assert not details.is_visible()
    summary.focus()
    page.keyboard.press("Enter")
    text = details.inner_text()
    for part in ("label_smoothing = 0.1", "sha256:", "1-True.record.json", "AVX512", "bfloat16", CPU):
        assert part in text
    assert details.locator("details").count() == 5
    details.locator("summary").nth(1).focus()
    page.keyboard.press("Enter")
    assert details.locator("tbody tr:visible").count() == 8
    summary.focus()
    page.keyboard.press("Space")
    assert not details.is_visible()


def test_a_phone_does_not_scroll_sideways(sample_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(sample_page, viewport=PHONE)
    for summary in page.locator(".entry > .unfolded > td > details > summary, .details summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator(".details").first.bounding_box()["width"] <= 360
    assert page.locator(".scroll:not([tabindex='0'][role='group'][aria-labelledby])").count() == 0


def test_nothing_to_show(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(write_page(tmp_path / "new", [], [], []))
    assert page.get_by_text("No record is here yet").is_visible()
    assert page.locator("#filters").is_hidden()
    assert page.locator("#chart, #published").count() == 0


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_in_light_and_dark(
    sample_page: Path, visit: Callable[..., Any], accessible: Callable[[Any], None], viewport: dict[str, int]
) -> None:
    page = visit(sample_page, viewport=viewport, color_scheme="light", reduced_motion="reduce")
    page.locator("summary").first.click()
    page.locator("tbody.entry").filter(has_text="narrow").locator("summary").first.click()
    page.locator(".details summary:visible").last.click()
    accessible(page)


def test_on_paper_are_the_tables_and_what_was_unfolded(sample_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(sample_page)
    page.locator("tbody.entry").filter(has_text="narrow").locator("summary").first.click()
    page.emulate_media(media="print")
    assert page.locator("#filters").is_hidden()
    unfolded = page.locator("tbody.entry > .unfolded")
    assert page.locator("tbody.entry > tr:first-child").evaluate_all("rows => rows.every(row => row.checkVisibility())")
    shown = unfolded.evaluate_all("rows => rows.filter(row => row.checkVisibility()).length")
    assert shown == 1 < unfolded.count()
    page.emulate_media(media="screen")
    assert unfolded.evaluate_all("rows => rows.every(row => row.checkVisibility())")


def test_what_there_is_against_a_row_stands_in_it(tmp_path: Path) -> None:
    small = Recipe(epochs=8, model=Resnet(width=16))
    records = [
        record("clean", epoch_seconds=9, recipe=small),
        record("changed", epoch_seconds=10, recipe=small, dirty=True),
        record("unknown", epoch_seconds=11, recipe=small, commit=None, dirty=None),
        record("shared", epoch_seconds=11.5, recipe=small, sharing=2),
        record("rival", epoch_seconds=12, dirty=True),
    ]
    found = grouped(tmp_path, records)
    rows = ["clean", "changed, dirty checkout", "unknown, no commit", "shared, 2 runs at once"]
    rows += ["rival, recipe not given, dirty checkout"]
    text = write_page(tmp_path / "page", found, [], []).read_text()
    assert re.findall(r'<th scope="row">(.*?)</th>', text) == rows
    table = markdown(found, [])
    assert [line.split(" | ")[4] for line in table.splitlines() if re.match(r"\| \d", line)] == rows


def test_images_a_second_are_said_a_gpu_too(tmp_path: Path) -> None:
    """Of 50,000 images in 10 s, or a little more."""
    small = Recipe(epochs=8, model=Resnet(width=16))
    one, several = (record("made", epoch_seconds=10, recipe=small, runs=1, gpu="A", gpus=gpus) for gpus in (1, 8))
    pages = [write_page(tmp_path / "page", grouped(tmp_path, [made]), [], []).read_text() for made in (one, several)]
    assert "a GPU</dd>" not in pages[0]
    assert re.search(r"<dd>4,98\d \(one run\), 62[23](\.\d+)? a GPU</dd>", pages[1])


def test_few_runs_are_shown_by_their_ends_and_more_by_an_interval(tmp_path: Path) -> None:
    """Seconds of run i are those of the first and i % more."""
    small = Recipe(epochs=8, model=Resnet(width=16))
    shown = {}
    for runs in (1, 2, 4, 5):
        (group,) = grouped(tmp_path, [record("small", epoch_seconds=9, recipe=small, runs=runs)])
        text = write_page(tmp_path / "page", [group], [], []).read_text()
        (row,) = [line for line in markdown([group], []).splitlines() if line.startswith("| 1 |")]
        below = re.search(r'<strong>[\d.]+</strong><span class="below">(.*?)</span>', text)
        assert below is not None
        shown[runs] = below[1], row.split(" | ")[1]
    assert shown[1] == ("one run", "72.27")
    assert shown[2] == ("min 72.27, max 72.99", "72.63 (72.27 to 72.99)")
    assert shown[4] == ("min 72.27, max 74.43", "73.35 (72.27 to 74.43)")
    assert shown[5] == ("72.30 – 75.12", "73.71 ± 1.41")
    assert "<strong>p</strong> is the probability" in text


@pytest.mark.parametrize("seconds", [3.2e-5, 1e8])
def test_the_fastest_and_the_slowest_epochs_that_are_let_in_can_be_drawn(tmp_path: Path, seconds: float) -> None:
    small = Recipe(epochs=2, schedule=Schedule(peak_epoch=1), model=Resnet(width=16))
    found = grouped(tmp_path, [record("small", epoch_seconds=seconds, epochs=2, recipe=small, runs=1)])
    page = write_page(tmp_path / "page", found, [], []).read_text()
    (path,) = re.findall(r'<path class="reach" d="([^"]+)"', page)
    assert re.fullmatch(r"M [\d.]+ [\d.]+ L [\d.]+ [\d.]+", path)  # no Infinity, no NaN
