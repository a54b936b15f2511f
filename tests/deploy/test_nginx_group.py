"""Tests of nginx as its own user: it serves stored files only if `IPAU_FILES_GROUP` is its group."""

import grp
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.base import ContentFile

from drive.storage.filesystem import ContentStorage
from ipau.supervisor import prepare

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
NAME = "ab/cd/" + "abcd" * 16
CONFIGURATION = """
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
user nobody {group};
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ alias {folder}/data/blobs/; }}
    }}
}}
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run nginx as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ipau-n-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def group() -> str:
    """A group that the site has no part in, as nginx's is."""
    return next(entry.gr_name for entry in grp.getgrall() if entry.gr_gid not in (0, 65534))


def get_through_nginx(folder: Path, group: str) -> tuple[int, bytes]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    conf = folder / "nginx.conf"
    conf.write_text(CONFIGURATION.format(folder=folder, group=group, port=port))
    nginx = subprocess.Popen([NGINX, "-c", str(conf), "-p", str(folder)])
    try:
        ends = time.monotonic() + 20
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", f"/{NAME}")
                answer = connection.getresponse()
                return answer.status, answer.read()
            except ConnectionRefusedError:
                assert time.monotonic() < ends
                time.sleep(0.05)
            finally:
                connection.close()
    finally:
        nginx.terminate()
        nginx.wait(20)


@pytest.mark.parametrize("is_named", [True, False])
def test_nginx_reads_only_what_its_group_may(folder: Path, group: str, is_named: bool) -> None:
    data = folder / "data"
    data.mkdir()
    # As `up` makes it for an ordinary user.
    data.chmod(0o700)
    storage = ContentStorage(location=str(data / "blobs"), group=group if is_named else "")
    storage.close()
    prepare.let_group_pass(data, storage.modes)
    storage.save(NAME, ContentFile(b"picture"))
    status, body = get_through_nginx(folder, group)
    assert (status, body == b"picture") == ((200, True) if is_named else (403, False))
