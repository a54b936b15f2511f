"""Tests of `./manage.py up`: start, messages and stop of the whole site."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipau.embedded.valkey import _free_port
from ipau.embedded.watchdog import wait_gone
from tests.pictures import picture_bytes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ipau-t-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def environment(data_dir: Path) -> dict[str, str]:
    """Return the environment of a person who has set nothing but the data folder."""
    ours = ("IPAU_", "DATABASE_URL", "REDIS_URL", "DJANGO_", "SECRET_KEY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "IPAU_DATA": str(data_dir)}


def manage(data_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=environment(data_dir),
        capture_output=True,
        text=True,
        check=False,
    )


def processes_of(data_dir: Path) -> list[int]:
    """Return the processes whose environment or command line names the data folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(data_dir) in text and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


@pytest.mark.long
@pytest.mark.worker
def test_site_comes_up_serves_and_leaves_nothing(data_dir: Path) -> None:
    port = _free_port()
    with (data_dir / "output").open("w+") as output:
        site = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(port), "--workers", "1"],
            cwd=ROOT,
            env=environment(data_dir),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            said = wait_for(data_dir / "output", "ready: ", site)
            assert re.findall(r"^ready: .*$", said, re.MULTILINE) == [f"ready: http://127.0.0.1:{port}"]
            wait_for(data_dir / "output", "No mail server is set (EMAIL_URL). E-mails", site)
            sign_up(f"http://127.0.0.1:{port}", "b@example.org")
            code = r"^web +\| +([A-Z0-9]{3,}-[A-Z0-9]{3,})$"
            wait_for(data_dir / "output", "This e-mail was sent by IPAU", site)
            assert re.search(code, (data_dir / "output").read_text(), re.MULTILINE)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
                assert json.load(answer)["ready"] is True
            key = manage(data_dir, "create_api_key", "a@example.org")
            assert key.stdout.startswith("ipau_"), key.stderr
            send_picture(f"http://127.0.0.1:{port}", key.stdout.strip())
            assert readable_by_strangers(data_dir) == {"output", "static"}
            second = manage(data_dir, "up", "--port", str(_free_port()))
            assert second.returncode == 1
            assert f"in use by process {site.pid}" in second.stderr
            site.send_signal(signal.SIGTERM)
            assert site.wait(60) == 0
        finally:
            site.kill()
            site.wait()
    assert wait_gone(processes_of(data_dir), 30)
    assert not (data_dir / "services.json").exists()


def test_commands_know_the_address_of_the_site_that_runs(data_dir: Path) -> None:
    (data_dir / "services.json").write_text(json.dumps({"web_url": "http://127.0.0.1:8731"}))
    command = [sys.executable, "-c", "from ipau import settings; print(settings.BASE_URL)"]
    for given, expected in (
        ({}, "http://127.0.0.1:8731"),
        ({"IPAU_BASE_URL": "https://pictures.example.org/"}, "https://pictures.example.org"),
    ):
        env = {**environment(data_dir), **given}
        said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == expected


def test_without_a_site_commands_say_how_to_start_one(data_dir: Path) -> None:
    done = manage(data_dir, "create_api_key", "a@example.org")
    assert done.returncode == 1
    assert "Start the site with ./manage.py up, or set DATABASE_URL." in done.stderr
    assert "Traceback" not in done.stderr


def sign_up(site: str, email: str) -> None:
    """Send the sign-up form, as a browser does."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(f"{site}/accounts/signup/") as page:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.read().decode())
    assert token
    fields = {"csrfmiddlewaretoken": token[1], "email": email}
    fields |= dict.fromkeys(("password1", "password2"), "a long and random pass phrase")
    with opener.open(f"{site}/accounts/signup/", urllib.parse.urlencode(fields).encode()) as page:
        assert page.url.endswith("/accounts/confirm-email/")


def send_picture(site: str, key: str) -> None:
    """Upload a picture, so that there is a file of a person in the data folder."""
    body = picture_bytes()
    headers = {
        "Authorization": f"Bearer {key}",
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(body)),
        "Content-Type": "application/offset+octet-stream",
    }
    with urllib.request.urlopen(urllib.request.Request(f"{site}/v1/uploads", body, headers)) as answer:
        assert answer.status == 201


def readable_by_strangers(data_dir: Path) -> set[str]:
    """Return which entries of the data folder an account of the machine can read that has no part in it."""
    script = """
import os, sys
names, folder = os.listdir(sys.argv[1]), sys.argv[1]
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(64987); os.setuid(64987)
    print(*(name for name in names if os.access(os.path.join(folder, name), os.R_OK)))
else:
    print(*(name for name in names if os.stat(os.path.join(folder, name)).st_mode & 0o077))
"""
    words = [sys.executable, "-I", "-S", "-c", script, str(data_dir)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/")
    return set(done.stdout.split())


def wait_for(path: Path, words: str, site: "subprocess.Popen[bytes]", seconds: float = 120) -> str:
    until = time.monotonic() + seconds
    while words not in (said := path.read_text()):
        assert site.poll() is None, said
        assert time.monotonic() < until, said
        time.sleep(0.1)
    return said
