"""Downloads from a real server: retried, bounded, checked, whole or not there."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
import stamina

from mixcoder.data.download import download
from mixcoder.errors import DataError
from tests.data.servers import serving

BODY = bytes(range(256)) * 400
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _no_waiting() -> object:
    """Retries happen as often as ever, without the pauses between them."""
    with stamina.set_testing(True, attempts=4):
        yield


def fetch(urls: list[str], target: Path, max_bytes: int = 10**6) -> None:
    download(urls, target, checksum=f"md5:{MD5}", max_bytes=max_bytes)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_fetches_and_tells_of_the_progress(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with serving({"/f": BODY}) as server:
        target = tmp_path / "new" / "folder" / "f"
        download(
            [f"{server.address}/f"],
            target,
            checksum=f"md5:{MD5}",
            max_bytes=10**6,
            progress=lambda *at: told.append(at),
        )
    assert target.read_bytes() == BODY
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert told[-1] == (len(BODY), len(BODY))
    assert leftovers(tmp_path) == ["f"]


@pytest.mark.parametrize("faults", [[503, 503], ["cut"], [500, "cut", 429]])
def test_passing_faults_are_retried(tmp_path: Path, faults: list[int | str]) -> None:
    with serving({"/f": BODY}) as server:
        server.faults["/f"] = list(faults)
        fetch([f"{server.address}/f"], tmp_path / "f")
        assert len(server.requests) == len(faults) + 1
    assert (tmp_path / "f").read_bytes() == BODY


def test_the_next_mirror_is_tried(tmp_path: Path) -> None:
    with serving({"/b/f": BODY}) as server:
        fetch([f"{server.address}/a/f", f"{server.address}/b/f"], tmp_path / "f")
        assert server.requests == ["/a/f", "/b/f"]  # a 404 is final, and not asked for again
    assert (tmp_path / "f").read_bytes() == BODY


def test_wrong_content_leaves_nothing(tmp_path: Path) -> None:
    with (
        serving({"/f": BODY[:-1] + b"!"}) as server,
        pytest.raises(DataError, match=f"its MD5 is .*, the published one {MD5}"),
    ):
        fetch([f"{server.address}/f"], tmp_path / "f")
    assert leftovers(tmp_path) == []


def test_a_wrong_file_does_not_replace_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"good")
    with serving({"/f": b"bad"}) as server, pytest.raises(DataError):
        fetch([f"{server.address}/f"], tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"good"


def test_an_endless_answer_is_cut(tmp_path: Path) -> None:
    with serving({"/f": BODY}) as server, pytest.raises(DataError, match="longer than the 1,000 bytes"):
        fetch([f"{server.address}/f"], tmp_path / "f", max_bytes=1000)
    assert leftovers(tmp_path) == []


def test_a_server_that_stays_broken(tmp_path: Path) -> None:
    with serving({}) as server, pytest.raises(DataError, match="HTTP 503 Service Unavailable"):
        server.faults["/f"] = [503] * 9
        fetch([f"{server.address}/f"], tmp_path / "f")
    assert len(server.requests) == 4
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("address", ["http://example.org/f", "ftp://127.0.0.1/f", "file:///etc/hostname"])
def test_only_https_or_the_loopback(tmp_path: Path, address: str) -> None:
    with pytest.raises(DataError):
        fetch([address], tmp_path / "f")
    assert leftovers(tmp_path) == []


def test_a_redirect_to_plain_http_is_refused(tmp_path: Path) -> None:
    with serving({"/f": BODY}) as server:
        server.faults["/f"] = ["redirect:http://example.org/f"]
        with pytest.raises(DataError, match=r"http://example.org/f is not https"):
            fetch([f"{server.address}/f"], tmp_path / "f")
        server.faults["/f"] = [f"redirect:{server.address}/f"]
        fetch([f"{server.address}/f"], tmp_path / "f")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with serving({"/f": BODY}) as server, pytest.raises(DataError, match="cannot write .*file/f"):
        fetch([f"{server.address}/f"], tmp_path / "file" / "f")
