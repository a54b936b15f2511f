"""Download the browser libraries into ipau/static/vendor, or verify their digests with --check.

The files are committed, so an installation needs no Node. To upgrade a library, change PACKAGES, run this
script (it needs npm), check the pages and commit.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATIC = Path(__file__).resolve().parent.parent / "ipau" / "static"
SVG = "http://www.w3.org/2000/svg"
# Source maps are not shipped, and Django's manifest storage fails at references to missing files.
SOURCE_MAP = re.compile(r"\n?(?://[#@]\s*sourceMappingURL=\S+|/\*[#@]\s*sourceMappingURL=[^*]+\*/)\s*")


@dataclass(frozen=True)
class Package:
    """An npm package: exact version, copyright holder, and the files to copy."""

    name: str
    version: str
    copyright: str
    files: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}"


PACKAGES = (
    Package(
        "@tabler/core",
        "1.6.1",
        "The Tabler Authors",
        ("dist/css/tabler.min.css", "dist/js/tabler.min.js"),
    ),
    Package("@alpinejs/csp", "3.17.4", "Caleb Porzio and contributors", ("dist/cdn.min.js",)),
    Package("tus-js-client", "4.3.1", "tus - Resumable File Uploads", ("dist/tus.min.js",)),
    Package("img-comparison-slider", "8.0.7", "Artem Shytsko", ("dist/index.js", "dist/styles.css")),
)
ICON_PACKAGE = Package("@tabler/icons", "3.51.0", "Paweł Kuna")
ICONS = """
    adjustments adjustments-horizontal alert-triangle api apps arrow-back-up arrow-down arrow-left
    arrow-right arrow-up ban bell bolt box camera chart-bar check chevron-down chevron-left
    chevron-right chevron-up circle-check circle-x clock code coins contrast copy cpu cpu-2
    device-desktop device-floppy dots dots-vertical download droplet external-link eye eye-off file
    file-text file-zip filter flag folder folder-open folder-plus folder-symlink folder-up grid-dots
    help-circle history home info-circle key language layout-grid layout-list link list loader-2
    lock login logout mail maximize menu-2 moon movie palette password-fingerprint pencil photo
    photo-plus photo-scan player-pause player-play player-stop plus refresh restore rotate-clockwise scan-eye
    search select-all server settings share shield-check shopping-cart sort-ascending
    sort-descending sparkles stack-2 star sun tag terminal-2 trash trash-x typography upload user
    user-circle users wand webhook world x zoom-in zoom-out
""".split()  # noqa: SIM905  # a hundred quoted names would be hard to read


def main() -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare the files with their SHA-256, offline")
    if parser.parse_args().check:
        problems = faults()
        for line in problems:
            print(line, file=sys.stderr)
        return 1 if problems else 0
    vendor()
    return 0


def faults(static: Path = STATIC) -> list[str]:
    """Return a line for each vendored file that is changed, missing or not listed in vendored.json."""
    listed: dict[str, str] = {}
    for package in json.loads((static / "vendor" / "vendored.json").read_text())["packages"]:
        listed.update(package["files"])
    found = [f"{path}: missing" for path in listed if not (static / path).is_file()]
    found += [
        f"{path}: changed"
        for path, digest in listed.items()
        if (static / path).is_file() and _digest(static / path) != digest
    ]
    own = {"vendor/vendored.json", "vendor/VENDORED.md"}
    there = {str(p.relative_to(static)) for p in (static / "vendor").rglob("*") if p.is_file()}
    return sorted(found + [f"{path}: not on the list" for path in there - set(listed) - own])


def vendor() -> None:
    """Download every package, and write the files, the icon sprite and both lists."""
    entries = []
    with tempfile.TemporaryDirectory() as scratch:
        for package in PACKAGES:
            source = _unpack(package, Path(scratch))
            target = f"vendor/{package.folder}"
            paths = [_take(source / name, f"{target}/{Path(name).name}") for name in package.files]
            entries.append(_entry(package, source, paths))
        source = _unpack(ICON_PACKAGE, Path(scratch))
        (STATIC / "icons.svg").write_text(sprite(source / "icons" / "outline"))
        entries.append(_entry(ICON_PACKAGE, source, ["icons.svg"]))
    _drop_old_folders()
    text = json.dumps({"packages": entries}, indent=2, ensure_ascii=False)
    (STATIC / "vendor" / "vendored.json").write_text(text + "\n")
    (STATIC / "vendor" / "VENDORED.md").write_text(_listing(entries))


def sprite(folder: Path) -> str:
    """Return an SVG sprite with the icons of ICONS as symbols. Color and stroke come from the page."""
    symbols = []
    for name in ICONS:
        root = ET.fromstring((folder / f"{name}.svg").read_text())  # noqa: S314  # nosec B314  (a pinned package)
        shapes = [_shape(child) for child in root]
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{"".join(shapes)}</symbol>')
    note = f"<!-- From {ICON_PACKAGE.name} {ICON_PACKAGE.version}, MIT license, {ICON_PACKAGE.copyright} -->"
    return f'{note}\n<svg xmlns="{SVG}">\n' + "\n".join(symbols) + "\n</svg>\n"


def sprite_names() -> frozenset[str]:
    """Return the names of the icons in the committed sprite."""
    return frozenset(re.findall(r'<symbol id="([^"]+)"', (STATIC / "icons.svg").read_text()))


def _shape(element: ET.Element) -> str:
    attributes = "".join(f' {key}="{value}"' for key, value in element.attrib.items())
    return f"<{element.tag.removeprefix('{' + SVG + '}')}{attributes}/>"


def _unpack(package: Package, scratch: Path) -> Path:
    """Download a package with npm; return the folder with its contents."""
    command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    done = subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True)  # noqa: S603
    target = scratch / package.folder
    with tarfile.open(scratch / done.stdout.split()[-1]) as archive:
        archive.extractall(target, filter="data")
    return target / "package"


def _take(source: Path, name: str) -> str:
    """Copy a text file without its source map comment; return its path below the static folder."""
    target = STATIC / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(SOURCE_MAP.sub("\n", source.read_text()))
    return name


def _entry(package: Package, source: Path, paths: list[str]) -> dict[str, Any]:
    described = json.loads((source / "package.json").read_text())
    return {
        "name": package.name,
        "version": described["version"],
        "license": described["license"],
        "copyright": package.copyright,
        "files": {path: _digest(STATIC / path) for path in paths},
    }


def _drop_old_folders() -> None:
    """Remove the files of versions that are no longer listed."""
    wanted = {package.folder for package in PACKAGES}
    for folder in (STATIC / "vendor").iterdir():
        if folder.is_dir() and folder.name not in wanted:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _listing(entries: list[dict[str, Any]]) -> str:
    lines = [
        "# Vendored browser libraries",
        "",
        "Written by `python deploy/vendor.py`; `--check` compares the files with these digests. Source map",
        "comments are removed, otherwise the files are as published.",
    ]
    for entry in entries:
        lines += ["", f"## {entry['name']} {entry['version']}", ""]
        lines += [f"{entry['license']} license, © {entry['copyright']}", ""]
        lines += [f"- `{path}` SHA-256 `{digest}`" for path, digest in entry["files"].items()]
    return "\n".join([*lines, "", MIT])


MIT = """## The MIT license

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

if __name__ == "__main__":
    sys.exit(main())
