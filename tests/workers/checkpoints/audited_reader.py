"""Opens files of weights one after another in a process of its own, and says what became of each.

Whatever Python does beyond reading is written down by an audit hook, which nothing in the process can remove.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from workers.checkpoints.open import open_upload
from workers.checkpoints.upload import Refused

MOST_MEMORY = 1024**3
WATCHED = (
    "socket.",
    "subprocess.",
    "os.",
    "pickle.",
    "exec",
    "compile",
    "import",
    "ctypes.",
    "shutil.",
    "pty.",
)

events: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    is_writing = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event.startswith(WATCHED) or is_writing:
        events.append(f"{event} {arguments!r:.100}")


def _peak() -> int:
    """Return the most bytes that this program ever held. (`getrusage` begins with what its parent held.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def judge(path: Path) -> dict[str, object]:
    """Return how an upload was refused; an empty code where it was not."""
    events.clear()
    started = time.perf_counter()
    code = sentence = ""
    try:
        open_upload(path)
    except Refused as refused:
        code, sentence = refused.code, refused.message
    return {
        "code": code,
        "sentence": sentence,
        "seconds": time.perf_counter() - started,
        "events": list(events),
        "peak": _peak(),
    }


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    folder = Path(sys.argv[1])
    sys.addaudithook(_watch)
    found = {path.name: judge(path) for path in sorted(folder.iterdir())}
    print(json.dumps({"verdicts": found, "modules": sorted(sys.modules)}))


if __name__ == "__main__":
    main()
