"""Converting an upload in a process that can do nothing else. Nothing of torch is loaded here.

With bubblewrap that process sees an empty system with the interpreter, this code and one file. Without it, it
has limits, no network where that is allowed, and its own second wall (`workers.weights.confinement`).
"""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workers.weights.bundle import BundleError, ModelFacts, read_plain, verify
from workers.weights.confinement import STOPPED, SYSTEM
from workers.weights.convert import ISOLATION, REPORT

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from workers.weights.convert import main; sys.exit(main(sys.argv[2:]))"
)
_LOG = "stderr.log"
_MOST_LOG = 20_000
_MOST_REPORT_BYTES = 256 * 1024
# The interpreter, its libraries, and this code.
_INTERPRETER = (
    sys.base_prefix,
    sys.prefix,
    str(Path(sys.executable).resolve().parent),
    str(_ROOT / "workers"),
)


@dataclass(frozen=True)
class Limits:
    """What a conversion may use: bytes of address space, seconds of processor and clock, bytes of a file."""

    memory: int = 8 * 1024**3
    cpu: int = 600
    wall: float = 900
    file: int = 2 * 1024**3
    open: int = 256


@dataclass(frozen=True)
class Report:
    """What became of an upload. Where it was refused, `code` and `sentence` say why, and nothing was kept.

    `facts` are those of model.json. `isolation` says which walls stood: "bubblewrap", "network" (none was
    within reach), "landlock" (it could read nothing but what it needs), "limits", "hook". `checks` are what
    was found right, each with `name`, `ok` and `detail`.
    """

    ok: bool
    code: str = ""
    sentence: str = ""
    family: str = ""
    title: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    checks: tuple[dict[str, Any], ...] = ()
    isolation: dict[str, bool] = field(default_factory=dict)
    seconds: float = 0.0
    scans: tuple[dict[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "checks": list(self.checks), "scans": list(self.scans)}


def convert(
    path: Path,
    out: Path,
    *,
    family: str | None = None,
    config: Path | None = None,
    limits: Limits | None = None,
    use_bubblewrap: bool = True,
) -> Report:
    """Convert an upload into three files in the folder `out`, which must be empty or missing.

    Never raises for what the upload is or does. After a refusal `out` is empty.

    Args:
        family: the key of the one family that is asked; by default the first that knows the weights.
        config: the `config.json` that was sent along.
    """
    limits = limits or Limits()
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ValueError(f"{out} is not empty.")
    started = time.monotonic()
    is_wrapped = use_bubblewrap and has_bubblewrap()
    with tempfile.TemporaryDirectory(prefix="ipau-convert-") as folder:
        scratch = Path(folder)
        order = {
            "family": family,
            "limits": asdict(limits),
            "wrapped": is_wrapped,
            "interpreter": _INTERPRETER,
        }
        status = _run(path, out, scratch, config, order, limits, is_wrapped)
        isolation = {**_read_json(scratch / ISOLATION), "bubblewrap": is_wrapped}
        _log_end(status, scratch / _LOG)
    known = {name: value for name, value in isolation.items() if isinstance(value, bool)}
    report = _conclude(out, status)
    if not report["ok"]:
        _empty(out)
    return Report(**report, isolation=known, seconds=round(time.monotonic() - started, 3))


@functools.cache
def has_bubblewrap() -> bool:
    """Say whether this machine has a bubblewrap that works here."""
    program = shutil.which("bwrap")
    if program is None:
        return False
    command = [program, *_walls(()), sys.executable, "-I", "-c", "pass"]
    try:
        done = subprocess.run(command, env={}, capture_output=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


# --- Starting and ending the process.


def _run(
    path: Path,
    out: Path,
    scratch: Path,
    config: Path | None,
    order: dict[str, Any],
    limits: Limits,
    is_wrapped: bool,
) -> int | None:
    """Run the conversion to its end. Return its exit status, or None where its time was up."""
    places = {"path": path.resolve(), "out": out.resolve(), "scratch": scratch.resolve()}
    if config is not None:
        places["config"] = config.resolve()
    prefix: list[str] = []
    if is_wrapped:
        binds = [(place, Path("/job") / name, name in ("out", "scratch")) for name, place in places.items()]
        prefix = [str(shutil.which("bwrap")), *_walls(binds), "--chdir", "/job/scratch"]
        places = {name: Path("/job") / name for name in places}
    full = {**order, **{name: str(place) for name, place in places.items()}}
    command = [*prefix, sys.executable, "-I", "-B", "-c", _START, str(_ROOT), json.dumps(full)]
    with (scratch / _LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - every word of it comes from this code
            command,
            env={},
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        return process.wait(limits.wall)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process with all that it may have started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("The conversion had ended.")
    process.wait()


def _walls(binds: Iterable[tuple[Path, Path, bool]]) -> list[str]:
    """Return bubblewrap's options: an empty system with the interpreter and this code, all of it read-only.

    Args:
        binds: places outside, where they are inside, and whether they may be written to.
    """
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    for place in (*SYSTEM, *_INTERPRETER):
        options += ["--ro-bind-try", place, place]
    options += ["--proc", "/proc", "--dev", "/dev"]
    for outside, inside, is_writable in binds:
        options += ["--bind" if is_writable else "--ro-bind", str(outside), str(inside)]
    return options


# --- Believing nothing of what it left.


def _conclude(out: Path, status: int | None) -> dict[str, Any]:
    if status is None or status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return _refuse("time", "It takes longer to convert than a conversion may.")
    if status == STOPPED:
        return _refuse("stopped", "Its conversion tried to do what no conversion does, and was stopped.")
    if status in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
        return _refuse("too_large", "What it converts into is larger than a model may be.")
    said = _read_json(out / REPORT)
    if status != 0 or not said:
        return _refuse("crashed", "Its conversion broke down: it may need more memory than it may take.")
    (out / REPORT).unlink(missing_ok=True)
    if said.get("ok") is not True:
        _log(said)
        return _refuse(_text(said, "code", 40) or "refused", _text(said, "sentence", 1000))
    try:
        digest, facts = verify(out)
    except (BundleError, OSError) as error:
        logger.warning("A conversion left what is no model: %s", error)
        return _refuse("crashed", "Its conversion did not end with a model that can be used.")
    return {
        "ok": True,
        "family": facts.family,
        "title": _text(said, "title", 200) or facts.title,
        "facts": facts.model_dump(mode="json", exclude={"architecture"}, exclude_none=True),
        "digest": digest,
        "checks": _checks(facts),
    }


def _checks(facts: ModelFacts) -> tuple[dict[str, Any], ...]:
    apart = f"{facts.difference:.2g} apart, {facts.tolerance:.2g} allowed"
    found = {
        "reading": "Read as data: nothing in the file was run.",
        "rebuilding": "Rebuilt by this site’s own code; every tensor has its place.",
        "results": f"Both forms of the model give the same: {apart}.",
        "files": "The files written are those that their digests name.",
    }
    if not facts.architecture:
        # A graph that came as one is kept as it is.
        del found["rebuilding"]
    return tuple({"name": name, "ok": True, "detail": detail} for name, detail in found.items())


def _refuse(code: str, sentence: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "sentence": sentence or "These weights are not taken."}


def _log_end(status: int | None, log: Path) -> None:
    """Keep what the process said when it broke down: an operator may need it."""
    if status != 0:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _MOST_LOG))
            said = stream.read(_MOST_LOG).decode(errors="replace")
        logger.warning("A conversion ended with %s: %s", status, said)


def _log(said: Mapping[str, Any]) -> None:
    if log := _text(said, "log", _MOST_LOG):
        logger.warning("A conversion failed:\n%s", log)


def _text(said: Mapping[str, Any], name: str, most: int) -> str:
    value = said.get(name)
    shown = value[:most] if isinstance(value, str) else ""
    return "".join(character for character in shown if character.isprintable() or character == "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_plain(path, _MOST_REPORT_BYTES))
    except (OSError, ValueError, RecursionError, BundleError):
        return {}
    return found if isinstance(found, dict) else {}


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
