"""A finished run, and a browser where there is one."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastcifar.data.dataset import Dataset
from fastcifar.execution import Execution
from fastcifar.recipe import Recipe, Resnet, Schedule
from fastcifar.runs.directory import RunDirectory
from fastcifar.training.checkpoint import Spent
from fastcifar.training.trainer import Trainer


def trained(path: Path, dataset: Dataset) -> Path:
    """A run of two epochs, as `fastcifar train` makes it."""
    recipe = Recipe(
        epochs=2,
        batch_size=128,
        dataset=dataset.name,  # type: ignore[arg-type]
        model=Resnet(width=4),
        schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1),
    )
    execution = Execution("cpu", "fused", "float32", "off")
    with RunDirectory(path) as directory:
        trainer = Trainer(recipe, dataset, execution)
        directory.start(
            recipe_name="tiny",
            recipe=trainer.recipe,
            own=trainer.own,
            execution=execution,
            dataset=dataset,
            environment={"cpu": "a processor", "gpu": None, "cores": 2, "memory_gib": 15.4, "dirty": False},
        )
        directory.finish(trainer.run([directory]), trainer.model, Spent("", wall_seconds=9.0))
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, small: Dataset) -> Path:
    """The folder of a finished run of two epochs, not to be written into but for its report."""
    return trained(tmp_path_factory.mktemp("runs") / "run", small)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not here")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser on this machine (chromium or google-chrome)")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file, with options for the browser's context; holds it to be quiet: no error, no dialog, no request."""
    said: list[str] = []
    contexts = []

    def opened(path: Path, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url[:80]}"))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                request.url == path.as_uri()
                or request.url.startswith("data:")
                or said.append(f"request: {request.url[:80]}")
            ),
        )
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def accessible() -> Callable[[Any], None]:
    """Holds a page to what axe looks at, in light and in dark, which are to differ."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not here").Axe()

    def check(page: Any) -> None:
        grounds = set()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            found = axe.run(page).response["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
        assert len(grounds) == 2

    return check
