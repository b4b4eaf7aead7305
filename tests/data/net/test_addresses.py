"""Endless answers are given up, Ctrl-C is heeded at once, and what was checked is what is connected to."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stamina

from mixcoder.data.fetch_progress import no_progress
from mixcoder.data.net import http
from mixcoder.data.net.download import download
from mixcoder.data.sources import photo_fetch
from mixcoder.data.sources.photo_fetch import fetch_photos
from mixcoder.data.sources.photo_list import Photo
from mixcoder.errors import DataError
from mixcoder.pixels.codec import Fit
from tests.conftest import slow_but
from tests.data.dripping import WAYS, dripping
from tests.data.servers import serving

FIT = Fit(3, 160, 96)
HANGS = 40
"""Seconds after which a process is taken to hang; what it waits for would last longer."""
DRIPPING = slow_but(3, sorted(WAYS, key=["nothing at all", "headers", "trailers"].__contains__, reverse=True))


@pytest.mark.parametrize("way", DRIPPING)
def test_whatever_drips_is_given_up(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.7)
    with (
        dripping(way) as server,
        stamina.set_testing(True, attempts=2),
        pytest.raises(DataError, match=r"could not fetch f: .*: sent \d+ bytes in \d seconds"),
    ):
        download([f"{server.address}/f"], tmp_path / "f", checksum=None, max_bytes=10**6)
    assert server.requests == 2
    assert not list(tmp_path.glob("*f"))


@pytest.mark.parametrize("way", DRIPPING)
def test_a_photo_that_drips_costs_itself_alone(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_fetch, "_LONGEST_ANSWER", 0.7)
    with dripping(way) as server:
        photo = Photo("a", f"{server.address}/a", (200, 200))
        failures = fetch_photos([photo], tmp_path, FIT, ["127.0.0.1"], no_progress("", ""))
    assert failures == {"a": "took longer than 1 seconds"}
    assert server.requests == 1


SCRIPTS = {
    "download": """
        from mixcoder.data.net.download import download
        download([address], Path("f"), checksum=None, max_bytes=10**6)
    """,
    "photos": """
        from mixcoder.pixels.codec import Fit
        from mixcoder.data.sources.photo_fetch import fetch_photos
        from mixcoder.data.sources.photo_list import Photo
        photos = [Photo(str(i), address, (200, 200)) for i in range(200)]
        fetch_photos(photos, Path("."), Fit(3, 160, 96), ["127.0.0.1", "somewhere.test"], lambda *at: None)
    """,
    "look-up": """
        import socket
        from mixcoder.data.net.download import download
        socket.getaddrinfo = lambda *arguments, **more: time.sleep(99)
        print("asked", flush=True)
        download(["https://somewhere.test/f"], Path("f"), checksum=None, max_bytes=10**6)
    """,
    "look-up of photos": """
        import socket
        from mixcoder.pixels.codec import Fit
        from mixcoder.data.sources.photo_fetch import fetch_photos
        from mixcoder.data.sources.photo_list import Photo
        socket.getaddrinfo = lambda *arguments, **more: time.sleep(99)
        print("asked", flush=True)
        photos = [Photo(str(i), "https://somewhere.test/f", (200, 200)) for i in range(200)]
        fetch_photos(photos, Path("."), Fit(3, 160, 96), [], lambda *at: None)
    """,
    "packing": """
        from mixcoder.data.store.image_store import pack
        print("asked", flush=True)
        pack(Path("s.safetensors"), ["a", "b", "c"], lambda name: time.sleep(99), "key")
    """,
}


def interrupted(script: str, address: str, folder: Path, is_waiting: Callable[[], bool]) -> int:
    """The status of a process that is interrupted once it waits."""
    lines = [
        "import signal, sys, time",
        "from pathlib import Path",
        "address = sys.argv[1]",
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        *(line.strip() for line in SCRIPTS[script].splitlines()),
    ]
    code = "\n".join(lines)
    process = subprocess.Popen(
        [sys.executable, "-c", code, address],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            assert process.stdout
            if script not in ("download", "photos"):
                assert process.stdout.readline() == b"asked\n"
            while not is_waiting():
                assert process.poll() is None
                time.sleep(0.02)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            return process.wait(HANGS)
        finally:
            process.kill()


@pytest.mark.parametrize("script", slow_but(1, ["download", "photos"]))
@pytest.mark.parametrize("way", slow_but(1, ["nothing at all", "a body"]))
def test_ctrl_c_while_an_answer_comes(tmp_path: Path, script: str, way: str) -> None:
    with dripping(way) as server:
        assert interrupted(script, f"{server.address}/f", tmp_path, lambda: server.requests > 0) in (1, -2)


@pytest.mark.parametrize("script", slow_but(0, ["photos", "download"]))
def test_ctrl_c_while_a_server_is_waited_for(tmp_path: Path, script: str) -> None:
    with serving({}) as server:
        server.faults["/f"] = server.faults["/f?w=160&h=160&fm=jpg&q=90"] = [503] * 99
        assert interrupted(script, f"{server.address}/f", tmp_path, lambda: bool(server.requests)) in (1, -2)


@pytest.mark.parametrize("script", slow_but(0, ["download", "photos"]))
def test_ctrl_c_while_connecting(tmp_path: Path, script: str) -> None:
    """A listener whose queue is full answers no more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(address)
        began = time.monotonic()
        status = interrupted(
            script, f"http://127.0.0.1:{address[1]}/f", tmp_path, lambda: time.monotonic() > began + 3
        )
        assert status in (1, -2)
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize("script", slow_but(0, ["look-up", "look-up of photos", "packing"]))
def test_ctrl_c_while_what_cannot_be_interrupted_goes_on(tmp_path: Path, script: str) -> None:
    assert interrupted(script, "", tmp_path, lambda: True) in (1, -2)


def test_what_was_checked_is_what_is_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has a public address when it is checked, and a private one when it is asked for again."""
    look_up = socket.getaddrinfo
    answers: list[str] = []

    def changing(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
        if host != "rebound.test":
            return look_up(host, port, *arguments, **more)
        answers.append("192.0.0.9" if len(answers) % 2 == 0 else "127.0.0.1")
        return look_up(answers[-1], port, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    with (
        socket.create_server(("127.0.0.1", 0)) as inside,
        serving({}) as server,
        stamina.set_testing(True, attempts=1),
    ):
        inside.settimeout(0.5)
        server.faults["/f"] = [f"redirect:https://rebound.test:{inside.getsockname()[1]}/f"]
        with pytest.raises(DataError, match="leads to rebound.test, whose address 127.0.0.1 is not public"):
            download([f"{server.address}/f"], tmp_path / "f", checksum=None, max_bytes=10**6)
        with pytest.raises(TimeoutError):
            inside.accept()
    assert answers == ["192.0.0.9", "127.0.0.1"]


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/a",
        "http://localhost:9/a",
        "https://127.0.0.1/a",
        "https://[::1]/a",
        "https://10.0.0.1/a",
        "https://192.168.0.1/a",
        "https://172.16.0.1/a",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/a",
        "https://[fd00::1]/a",
        "https://[::ffff:127.0.0.1]/a",
        "https://0.0.0.0/a",
        "https://2130706433/a",
        "https://0x7f000001/a",
        "https://127.1/a",
        "https://224.0.0.1/a",
        "https://100.64.0.1/a",
    ],
)
def test_no_address_of_a_list_leads_into_the_users_own_network(tmp_path: Path, address: str) -> None:
    for trusted in ([], ["images.example"]):
        failures = fetch_photos([Photo("a", address, None)], tmp_path, FIT, trusted, no_progress("", ""))
        assert failures["a"].endswith("is not public")


def test_where_the_list_came_from_its_addresses_may_lead(tmp_path: Path) -> None:
    with serving({}) as server:
        photos = [Photo("a", f"{server.address}/a", None), Photo("b", "https://10.0.0.1/b", None)]
        failures = fetch_photos(photos, tmp_path, FIT, ["127.0.0.1"], no_progress("", ""))
        assert failures == {
            "a": "HTTP 404 Not Found",
            "b": "leads to 10.0.0.1, whose address 10.0.0.1 is not public",
        }


def test_a_proxy_may_have_any_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"http://localhost:9/f": b"content"}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        download(["http://localhost:9/f"], tmp_path / "f", checksum=None, max_bytes=10**6)
    assert (tmp_path / "f").read_bytes() == b"content"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 with its key, signed by nobody."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(path),
        "-out",
        str(path),
    ]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-days", "2", *subject], check=True, capture_output=True)
    return path


def test_secure_connections(tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(certificate)
    content = bytes(3_000_000)

    def fetch(address: str) -> None:
        download([address], tmp_path / "f", checksum=None, max_bytes=10**7)

    with serving({"/f": content}, secured) as server, stamina.set_testing(True, attempts=1):
        with pytest.raises(DataError, match="certificate verify failed"):
            fetch(f"{server.address}/f")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetch(f"{server.address}/f")
        assert (tmp_path / "f").read_bytes() == content
        monkeypatch.setattr(http, "PATIENCE", 0.7)
        with dripping("nothing at all") as silent, pytest.raises(DataError, match="sent 0 bytes"):
            fetch(silent.address.replace("http:", "https:"))
