"""Bytecode of the site's own code, kept beside the sources."""

import compileall
from pathlib import Path

CODE = Path(__file__).parents[2]
PACKAGES = ("accounts", "drive", "ipau", "market", "processing", "workers")


def compile_code() -> None:
    """Compile the modules of the site that have changed since they were last compiled.

    Processes that convert uploads never write bytecode, nor do those with PYTHONDONTWRITEBYTECODE: each would
    compile all that it loads. A module is compiled again when its time has changed; Python itself compares
    the size too. Where the code cannot be written to, nothing happens.
    """
    for name in PACKAGES:
        compileall.compile_dir(CODE / name, quiet=2)
