"""HTTP POST of a delivery to real servers, correct and faulty ones."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processing.notifications import http_post
from tests.processing.notifications.receivers import HOST, Receiver, receive

__all__ = ["receive"]
Receive = Callable[..., Receiver]


def test_a_host_name_is_resolved_once(
    receive: Receive, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """DNS rebinding has no effect: a second lookup would return another address."""
    outside, inside = receive(), receive(host="127.0.0.3")
    lookups: list[str] = []
    real = socket.getaddrinfo

    def ask(host: str, *args: Any, **options: Any) -> Any:
        if host != "hooks.example.net":
            return real(host, *args, **{**options, "flags": socket.AI_NUMERICHOST})
        lookups.append(host)
        address = outside.host if len(lookups) == 1 else inside.host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    url = f"http://hooks.example.net:{outside.port}/hook"
    outcome = http_post.post(url, "{}", {})
    assert (outcome.status, outcome.problem) == (200, "")
    assert lookups == ["hooks.example.net"]
    assert outside.got[0].headers["Host"] == f"hooks.example.net:{outside.port}"
    assert inside.connections == 0


def _certificate(folder: Path, name: str) -> tuple[str, str]:
    key, chain = str(folder / "key.pem"), str(folder / "chain.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    extension = f"subjectAltName=DNS:{name}"
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", chain, "-subj", f"/CN={name}", *("-addext", extension)],
        check=True,
        capture_output=True,
    )
    return chain, key


def test_the_certificate_is_checked_against_the_name(
    receive: Receive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chain, key = _certificate(tmp_path, "hooks.example.net")
    receiver = receive(certificate=(chain, key))

    def ask(host: str, port: int, *args: Any, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port))]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    url = f"https://hooks.example.net:{receiver.port}/"
    # Signed by an unknown CA.
    http_post._trust.cache_clear()
    assert "certificate" in http_post.post(url, "{}", {}).problem
    monkeypatch.setenv("SSL_CERT_FILE", chain)
    http_post._trust.cache_clear()
    try:
        assert http_post.post(url, "{}", {}).problem == ""
        assert (
            "certificate" in http_post.post(f"https://other.example.net:{receiver.port}/", "{}", {}).problem
        )
        assert "certificate" in http_post.post(receiver.url, "{}", {}).problem
    finally:
        http_post._trust.cache_clear()
    assert len(receiver.got) == 1


def test_no_proxy_of_the_environment_is_used(receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, receiver = receive(), receive()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{proxy.host}:{proxy.port}")
    assert http_post.post(receiver.url, "{}", {}).status == 200
    assert (proxy.connections, receiver.connections) == (0, 1)


def test_receivers_that_misbehave(receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_post, "TOTAL_SECONDS", 1.0)
    monkeypatch.setattr(http_post, "CONNECT_SECONDS", 0.7)
    # No server listens on this port.
    with socket.socket() as free:
        free.bind((HOST, 0))
        closed = f"http://{HOST}:{free.getsockname()[1]}/"
        assert "could not be reached" in http_post.post(closed, "{}", {}).problem
    # An endless response is read in part, and a slow one is cut off.
    endless = http_post.post(receive(answer_body=b"\0x" * 500_000).url, "{}", {})
    assert (endless.status, len(endless.answer)) == (200, http_post.ANSWER_BYTES // 2)
    begun = time.monotonic()
    dripping = http_post.post(receive(drip=0.05).url, "{}", {})
    assert dripping.status is None
    assert dripping.problem
    assert time.monotonic() - begun < 3
    silent = http_post.post(receive(delay=2.0).url, "{}", {})
    assert "in time" in silent.problem
    assert silent.took < 2000
    # The peer is no web server, or closes the connection.
    for words in (b"220 mail.example.net ESMTP\r\n", b"", b"HTTP/1.1 999999\r\n\r\n"):
        with socket.create_server((HOST, 0)) as raw:

            def answer(raw: socket.socket = raw, words: bytes = words) -> None:
                with raw.accept()[0] as taken:
                    taken.recv(65536)
                    taken.sendall(words)

            thread = threading.Thread(target=answer)
            thread.start()
            outcome = http_post.post(f"http://{HOST}:{raw.getsockname()[1]}/", "{}", {})
            thread.join()
            assert (outcome.status, bool(outcome.problem)) == (None, True), words
