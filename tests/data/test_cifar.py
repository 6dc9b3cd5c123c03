"""Finding, verifying and downloading CIFAR-10, and what is said when that fails."""

import hashlib
import http.server
import io
import os
import pickle
import shutil
import socketserver
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from fastcifar.data import cifar as module
from fastcifar.data.cifar import find_cifar10, load_cifar10, locate_cifar10, verify
from fastcifar.data.dataset import MEAN, STD, Dataset
from fastcifar.errors import InputError


def test_arrays(cifar10: Dataset) -> None:
    assert cifar10.train_images.shape == (50_000, 32, 32, 3)
    assert cifar10.test_images.shape == (10_000, 32, 32, 3)
    for images, labels in (
        (cifar10.train_images, cifar10.train_labels),
        (cifar10.test_images, cifar10.test_labels),
    ):
        assert images.dtype == np.uint8
        assert images.flags.c_contiguous
        assert labels.dtype == np.int64
        assert np.bincount(labels).tolist() == [len(labels) // 10] * 10
    assert cifar10.classes[0] == "airplane"
    assert cifar10.classes[9] == "truck"


def test_mean_and_std_are_the_training_sets(cifar10: Dataset) -> None:
    channels = cifar10.train_images.reshape(-1, 3)
    np.testing.assert_allclose(channels.mean(0), MEAN, atol=1e-3)
    np.testing.assert_allclose(channels.std(0), STD, atol=1e-3)


def test_limits(cifar10: Dataset) -> None:
    limited = cifar10.limited(100, 10)
    assert len(limited.train_images) == len(limited.train_labels) == 100
    assert len(limited.test_images) == len(limited.test_labels) == 10
    with pytest.raises(InputError, match="limit_train: 60,000 images asked for, cifar10 has 50,000"):
        cifar10.limited(60_000)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CIFAR-10 in torchvision's layout, whose MD5s torchvision takes for the published ones."""
    folder = tmp_path / "made" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def write(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch() -> dict[str, object]:
        return {"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(10))}

    monkeypatch.setattr(CIFAR10, "train_list", [write(f"data_batch_{k}", batch()) for k in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch())])
    name, md5 = write("batches.meta", {"label_names": [f"class {k}" for k in range(10)]})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    monkeypatch.delenv("FASTCIFAR_DATA", raising=False)
    monkeypatch.setattr(module, "cache", lambda: tmp_path / "cache")
    return folder


def test_every_way_to_name_the_folder(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_cifar10() is None
    assert locate_cifar10(fake.parent) == locate_cifar10(fake) == fake.parent
    monkeypatch.setenv("FASTCIFAR_DATA", str(fake.parent))
    assert locate_cifar10() == fake.parent
    monkeypatch.delenv("FASTCIFAR_DATA")
    shutil.copytree(fake, tmp_path / "cache" / fake.name)
    assert find_cifar10() == tmp_path / "cache"
    assert len(load_cifar10().train_images) == 50


def test_a_damaged_file_is_named_with_both_md5s(fake: Path) -> None:
    expected = hashlib.md5((fake / "data_batch_3").read_bytes()).hexdigest()
    (fake / "data_batch_3").write_bytes(b"damaged")
    found = hashlib.md5(b"damaged").hexdigest()
    with pytest.raises(InputError, match=f"data_batch_3: damaged: its MD5 is {found}, CIFAR-10's is {expected}"):
        load_cifar10(fake.parent)


def test_nothing_is_unpickled_before_its_md5_holds(fake: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "went off",)

    (fake / "test_batch").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="test_batch: damaged"):
        load_cifar10(fake.parent)
    assert not (tmp_path / "went off").exists()


def test_a_missing_file_is_named(fake: Path) -> None:
    (fake / "batches.meta").unlink()
    with pytest.raises(InputError, match=r"batches\.meta: missing"):
        verify(fake.parent)


def test_a_folder_without_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^--data .*: no cifar-10-batches-py in it; unpack https://.* there, or"):
        load_cifar10(tmp_path)
    with pytest.raises(InputError, match=r"^--data .*/nowhere: No such file or directory"):
        load_cifar10(tmp_path / "nowhere")
    monkeypatch.setenv("FASTCIFAR_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"^\$FASTCIFAR_DATA=.*: no cifar-10-batches-py in it"):
        load_cifar10()


@pytest.fixture
def nobody() -> Iterator[None]:
    """Not root for the length of a test: root reads every folder."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user reaches."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_an_unreadable_folder_is_one_line(open_folder: Path, request: pytest.FixtureRequest) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0)
    unreadable = open_folder / "data" / CIFAR10.base_folder
    unreadable.mkdir(parents=True)
    (unreadable / "data_batch_1").touch(mode=0)
    request.getfixturevalue("nobody")
    with pytest.raises(InputError, match=r"--data .*closed: Permission denied"):
        load_cifar10(closed)
    with pytest.raises(InputError, match=r"data_batch_1: cannot be read: Permission denied"):
        load_cifar10(open_folder / "data")


@pytest.fixture
def server(fake: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The fake CIFAR-10 as an archive on a server on this machine; gives the list of requests it saw."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(fake, CIFAR10.base_folder)
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(buffer.getvalue())))
            self.end_headers()
            self.wfile.write(buffer.getvalue())

        do_HEAD = do_GET  # noqa: N815 (http.server's name)

        def log_message(self, *_: object) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as tcp:
        threading.Thread(target=tcp.serve_forever, daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{tcp.server_address[1]}/cifar-10-python.tar.gz")
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
        monkeypatch.setattr(CIFAR10, "filename", "cifar-10-python.tar.gz")
        yield requests
        tcp.shutdown()


def test_download_once_by_many(server: list[str], tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        roots = list(pool.map(lambda _: find_cifar10(), range(4)))
    assert set(roots) == {tmp_path / "cache"}
    downloads = len(server)
    assert 1 <= downloads <= 2  # torchvision asks for the redirects first
    assert len(load_cifar10().test_images) == 10
    find_cifar10()
    assert len(server) == downloads
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {CIFAR10.base_folder, "download.lock"}


def test_a_damaged_download_leaves_nothing(server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(InputError, match="the download is damaged"):
        find_cifar10()
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {"download.lock"}


def test_no_data_and_no_network(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        port = closed.server_address[1]
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{port}/cifar-10-python.tar.gz")
    with pytest.raises(InputError, match="no CIFAR-10: not in --data") as caught:
        load_cifar10()
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "cache") in message
    assert "$FASTCIFAR_DATA" in message
    assert "run again with a network" in message
    assert f"unpack http://127.0.0.1:{port}/cifar-10-python.tar.gz" in message


def test_a_cache_that_cannot_be_written(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "cache", lambda: tmp_path / "file" / "cache")
    with pytest.raises(InputError, match="cannot store CIFAR-10: Not a directory"):
        load_cifar10()
