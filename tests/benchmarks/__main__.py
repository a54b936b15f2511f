"""Run benchmarks: `python -m tests.benchmarks [NAME]` runs those whose name starts with NAME.

A benchmark is a module `bench_*.py` in this folder. It runs with `python -m`, prints its rows, and exits with
a nonzero status if it misses a target. Its names are the strings in `NAMES` or the keys of `ROWS`. With
several names, it accepts `--only name`. Each benchmark runs in its own process, so that none affects the next
one.
"""

import ast
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(wanted: list[str]) -> int:
    """Run the chosen benchmarks; return 1 if one failed, 2 if no benchmark has such a name."""
    known = {path.stem: declared_names(path) for path in sorted(HERE.glob("bench_*.py"))}
    chosen = {module: matching(names, wanted) for module, names in known.items()}
    if not any(chosen.values()):
        every = ", ".join(name for names in known.values() for name in names)
        print(f"No benchmark starts with {' or '.join(wanted)}. Benchmarks: {every}", file=sys.stderr)
        return 2
    failed = 0
    for module, names in chosen.items():
        if names:
            part = [] if names == known[module] else [word for name in names for word in ("--only", name)]
            failed |= subprocess.call([sys.executable, "-m", f"tests.benchmarks.{module}", *part])
    return 1 if failed else 0


def matching(names: list[str], wanted: list[str]) -> list[str]:
    """Return the names that start with one of `wanted`; all names if `wanted` is empty."""
    return [name for name in names if not wanted or name.startswith(tuple(wanted))]


def declared_names(path: Path) -> list[str]:
    """Return the names that a benchmark declares, without running it."""
    names: list[str] = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id in ("NAMES", "ROWS") for target in targets):
            keys = value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", [])
            names += [
                key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
    return names or [path.stem.removeprefix("bench_")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
