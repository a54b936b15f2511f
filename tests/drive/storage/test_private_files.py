"""No other account of the machine reads what the storage keeps, whatever the umask of the site."""

import grp
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.test import override_settings

from drive.storage.filesystem import ContentStorage
from ipau.common.private_files import GroupError, Modes, process_umask
from ipau.supervisor import prepare

NAME = "ab/cd/" + "abcd" * 16
# Belongs to nobody on this machine.
STRANGER = 64_987
READER = """
import os, sys
os.setgroups([int(group) for group in sys.argv[3:]])
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
readable = 0
try:
    readable += len(open(sys.argv[1] + "/ab/cd/" + "abcd" * 16, "rb").read())
except PermissionError:
    pass
for place, folders, files in os.walk(sys.argv[1]):
    readable += len(folders) + len(files)
print(readable)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def read_as_stranger(folder: Path, *groups: int) -> int:
    """Return how many names and bytes another account finds below a folder."""
    words = [sys.executable, "-I", "-S", "-c", READER, str(folder), str(STRANGER), *map(str, groups)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/")
    return int(done.stdout)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that everybody can reach, so that only the storage's own modes stand in the way."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(mode_of(folder) | 0o011)
    return tmp_path / "blobs"


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o277])
def test_new_files_are_private_under_any_umask(place: Path, umask: int) -> None:
    with process_umask(umask):
        ContentStorage(location=str(place)).save(NAME, ContentFile(b"picture"))
    assert [mode_of(folder) for folder in (place, place / "ab", place / "ab/cd")] == [0o700] * 3
    assert mode_of(place / NAME) == 0o600
    if os.geteuid() == 0:
        assert read_as_stranger(place) == 0


@as_root
def test_what_an_earlier_release_left_open_is_shut_at_the_first_write(place: Path) -> None:
    (place / "ab/cd").mkdir(parents=True)
    (place / NAME).write_bytes(b"picture")
    for folder in (place, place / "ab", place / "ab/cd"):
        folder.chmod(0o755)
    (place / NAME).chmod(0o644)
    assert read_as_stranger(place) == len(b"picture") + 3
    storage = ContentStorage(location=str(place))
    storage.save("ee/ff/" + "eeff" * 16, ContentFile(b"another"))
    assert read_as_stranger(place) == 0
    # The rest is for the command: what lies deeper cannot be reached any more.
    assert mode_of(place / NAME) == 0o644
    assert storage.fix_modes() == 3
    assert (mode_of(place / "ab/cd"), mode_of(place / NAME)) == (0o700, 0o600)
    assert storage.fix_modes() == 0


@as_root
def test_a_group_that_is_named_can_read_and_nobody_else(place: Path) -> None:
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, os.getegid()))
    storage = ContentStorage(location=str(place), group=group.gr_name)
    storage.save(NAME, ContentFile(b"picture"))
    assert [mode_of(folder) for folder in (place, place / "ab", place / "ab/cd")] == [0o2750] * 3
    assert mode_of(place / NAME) == 0o640
    assert read_as_stranger(place) == 0
    assert read_as_stranger(place, group.gr_gid) == len(b"picture") + 3
    # Taken away again.
    assert ContentStorage(location=str(place)).fix_modes() == 4
    assert read_as_stranger(place, group.gr_gid) == 0


def test_symbolic_links_are_left_alone(place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("not ours")
    outside.chmod(0o644)
    ContentStorage(location=str(place)).save(NAME, ContentFile(b"picture"))
    (place / "link").symlink_to(outside)
    ContentStorage(location=str(place)).fix_modes()
    assert mode_of(outside) == 0o644


def test_a_group_that_does_not_exist_is_refused_in_words(place: Path) -> None:
    with pytest.raises(GroupError, match="names the group nosuchgroup, which does not exist"):
        ContentStorage(location=str(place), group="nosuchgroup").close()
    with pytest.raises(CommandError, match="nosuchgroup"):
        _fix_permissions(place, "nosuchgroup")


def test_the_command_says_how_many_it_changed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ContentStorage(location=str(place)).save(NAME, ContentFile(b"picture"))
    (place / NAME).chmod(0o644)
    _fix_permissions(place, "")
    assert capsys.readouterr().out == f"Changed the mode of 1 folders and files in {place}.\n"


def _fix_permissions(place: Path, group: str) -> None:
    options = {"location": str(place), "group": group}
    storages = {"default": {"BACKEND": "drive.storage.filesystem.ContentStorage", "OPTIONS": options}}
    with override_settings(STORAGES=storages):
        call_command("fix_permissions")


def test_a_start_shuts_the_other_folders_and_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("uploads", "conversions", "logs", "static"):
        (data / name).mkdir(parents=True)
        (data / name).chmod(0o755)
    for name in ("secret_key", "services.json", "beat-schedule", "lock", "static.stamp"):
        (data / name).write_text("x")
        (data / name).chmod(0o644)
    prepare.close_data_folder(data)
    assert {p.name: oct(mode_of(p)) for p in data.iterdir()} == {
        **dict.fromkeys(("uploads", "conversions", "logs"), "0o700"),
        **dict.fromkeys(("secret_key", "services.json", "beat-schedule", "lock", "static.stamp"), "0o600"),
        "static": "0o755",
    }


def test_a_private_data_folder_lets_the_group_pass_but_not_list(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o700)
    prepare.let_group_pass(data, Modes())
    assert mode_of(data) == 0o700
    prepare.let_group_pass(data, Modes(os.getegid()))
    assert mode_of(data) == 0o710
