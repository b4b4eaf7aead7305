"""Downloads from a real server: retried, bounded, checked, whole or not there."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
import stamina

from mixcoder.data.net import http
from mixcoder.data.net.download import download
from mixcoder.errors import DataError
from tests.conftest import slow
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
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


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


def test_an_answer_that_says_it_is_too_long_is_not_read(tmp_path: Path) -> None:
    told: list[int] = []
    with serving({"/f": BODY}) as server, pytest.raises(DataError, match="longer than the 102,399 bytes"):
        download(
            [f"{server.address}/f"],
            tmp_path / "f",
            checksum=None,
            max_bytes=len(BODY) - 1,
            progress=lambda so_far, in_all: told.append(so_far),
        )
    assert told == []


@slow
def test_a_server_that_only_drips_is_left_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PATIENCE", 1.0)
    with serving({"/slow": BODY, "/f": BODY}) as server:
        server.faults["/slow"] = ["drip"] * 4
        with pytest.raises(DataError, match=r"sent \d+ bytes in \d seconds"):
            fetch([f"{server.address}/slow"], tmp_path / "f")
        assert server.requests == ["/slow"] * 4
        server.faults["/slow"] = ["drip"] * 4
        fetch([f"{server.address}/slow", f"{server.address}/f"], tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY


def test_nothing_is_waited_for_without_end() -> None:
    with http.create_client() as client:
        assert None not in client.timeout.as_dict().values()


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


@pytest.mark.parametrize(
    ("address", "refusal"),
    [
        ("file:///etc/hostname", "/etc/hostname is not https"),
        ("ftp://127.0.0.1/f", "ftp://127.0.0.1/f is not https"),
        ("https://10.0.0.1/f", "leads to 10.0.0.1, whose address 10.0.0.1 is not public"),
        ("//192.168.1.1/f", "http://192.168.1.1/f is not https"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254 is not public"),
        ("https://[fe80::1]/f", "fe80::1 is not public"),
        ("https://[::ffff:10.0.0.1]/f", "is not public"),
        ("https://0.0.0.0/f", "0.0.0.0 is not public"),
        ("https://2130706433/f", "whose address 127.0.0.1 is not public"),  # a name that is looked up
    ],
)
def test_no_server_leads_to_a_file_or_into_the_users_own_network(
    tmp_path: Path, address: str, refusal: str
) -> None:
    with serving({"/f": BODY}) as server:
        server.faults["/f"] = [f"redirect:{address}"]
        with pytest.raises(DataError) as caught:
            fetch([f"{server.address}/f"], tmp_path / "f")
        assert refusal in str(caught.value)
        assert server.requests == ["/f"], "asked for again"
    assert leftovers(tmp_path) == []


def test_redirects_come_to_an_end(tmp_path: Path) -> None:
    with serving({"/f": BODY}) as server:
        server.faults["/f"] = [f"redirect:{server.address}/f"] * 9
        with pytest.raises(DataError, match="redirects"):
            fetch([f"{server.address}/f"], tmp_path / "f")
        assert len(server.requests) == 6


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with serving({"/f": BODY}) as server, pytest.raises(DataError, match="cannot write .*file/f"):
        fetch([f"{server.address}/f"], tmp_path / "file" / "f")
