"""A family in a new folder is discovered without other changes."""

import subprocess
import sys
from pathlib import Path

from tests.live import ROOT

FAMILY = """
from workers.plugin import Family, Params, Result


class MirrorParams(Params):
    pass


class Mirror(Family[MirrorParams]):
    key = "mirror"
    title = "Mirror"
    summary = "Turns pictures around."
    description = "For this test."
    tier = "advanced"
    Params = MirrorParams

    def recognize(self, upload):
        return "a mirror" if "mirror" in upload.metadata else None

    def convert(self, upload):
        raise NotImplementedError

    def run(self, picture, params, context):
        return Result(image=picture.rgb())
"""
FIND = """
import sys
import workers.families
workers.families.__path__.append(sys.argv[1])
from workers import registry
family = registry.get("mirror")
print(type(family).__module__, family in registry.all_families(), family not in registry.all_operations())
"""


def test_a_folder_is_all_that_a_family_needs(tmp_path: Path) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "family.py").write_text(FAMILY)
    assert _find(tmp_path) == "workers.families.mirror.family True True"


def test_a_folder_with_another_name_than_its_key_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "mirrors"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "family.py").write_text(FAMILY)
    assert "must be named as its operation’s key, 'mirror'" in _find(tmp_path)


def _find(path: Path) -> str:
    command = [sys.executable, "-c", FIND, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()
