"""Page of commands, generated from the help of management commands and of the Makefile."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from django.core.management import get_commands, load_command_class

APPS = ("ipau", "accounts", "drive", "market", "processing")
_TARGET = re.compile(r"^([a-z-]+):.*## (.+)$", re.MULTILINE)
# Arguments that Django adds to each command.
_COMMON = {"help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color"}
_COMMON |= {"skip_checks"}


def render(root: Path) -> str:
    """Return the page, in Markdown."""
    lines = ["# Commands", "", "## make", "", "| command | what it does |", "|---|---|"]
    lines += [
        f"| `make {name}` | {text} |" for name, text in _TARGET.findall((root / "Makefile").read_text())
    ]
    lines += [
        "",
        "## manage.py",
        "",
        "Run them with `.venv/bin/python manage.py`, with the settings of the site in the",
    ]
    lines += ["environment. Django's own commands, such as `migrate` and `createsuperuser`, work too."]
    for name, app in sorted(get_commands().items()):
        if app in APPS:
            lines += _describe(name, str(app))
    return "\n".join(lines) + "\n"


def _describe(name: str, app: str) -> list[str]:
    command = load_command_class(app, name)
    parser = command.create_parser("manage.py", name)
    actions = [action for action in parser._actions if action.dest not in _COMMON]
    lines = ["", f"### {name}", "", command.help, "", "```", _usage(name, actions), "```"]
    if actions:
        lines += ["", "| argument | meaning |", "|---|---|"]
        lines += [f"| `{_write(action)}` | {_help(action)} |" for action in actions]
    return lines


def _usage(name: str, actions: list[argparse.Action]) -> str:
    arguments = [_write(action) if action.required else f"[{_write(action)}]" for action in actions]
    return " ".join(["manage.py", name, *arguments])


def _write(action: argparse.Action) -> str:
    if not action.option_strings:
        return action.dest.upper()
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return "/".join(action.option_strings) + value


def _help(action: argparse.Action) -> str:
    return str(action.help or "") % vars(action)
