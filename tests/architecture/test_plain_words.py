"""Words that must not come back into pages, messages, docstrings, comments and docs.

Each rule has the better word beside it. `Delete what is older` reads at the first go; `what has been here for
longer is deleted` does not. The rules are few and certain: each of them was found many times once.
"""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A pattern, whatever its case, and what to write instead.
RULES = {
    # American spelling, as code and protocols have it.
    r"colour(s|ed|ing|ful|s’)?": "color",
    r"grey(scale|ish)?": "gray",
    r"somebody|whoever|anybody": "account, user, client, worker: say who",
    r"turned box(es)?": "oriented box",
    r"bare pickle": "plain pickle",
    r"neighbour(s|ing|hood)?": "neighbor",
    r"behaviour(s)?": "behavior",
    r"favourite(s)?": "favorite",
    r"centre(s|d)?": "center",
    r"licence(s)?": "license",
    r"cancell(ed|ing)": "canceled, canceling",
    r"labell(ed|ing)": "labeled, labeling",
    r"recognis(e|es|ed|ing|able)": "recognize",
    r"normalis(e|es|ed|ing|ation)": "normalize",
    r"initialis(e|es|ed|ing|ation)": "initialize",
    r"optimis(e|es|ed|ing|ation)": "optimize",
    r"organis(e|es|ed|ing|ation)": "organize",
    r"synchronis(e|es|ed|ing|ation)": "synchronize",
    r"serialis(e|es|ed|ing|ation)": "serialize",
    r"summaris(e|es|ed|ing)": "summarize",
    r"quantis(e|es|ed|ing|ation)": "quantize",
    # Old or private words.
    r"anew|afresh": "again, new",
    r"save for|save those": "except",
    r"lest": "so that … not",
    r"bethink|betake|hitherto|whosoever|whatsoever|therein|thereof": "a word of today",
    r"look and (our )?leap": "a race between two requests",
    r"beside(s)? that,": "also",
    r"handed out": "sent, returned, shared",
    r"are told of|is told of|tells of": "reports, says",
    r"the surest|surer|surest": "most confident",
    r"less sure of": "below this confidence",
    r"is none of": "is not in",
    r"not taken\b": "not accepted, not supported",
    r"find the results back": "find the results",
    r"the map of the house|rules of the house": "project layout; rules",
    r"make a model of": "create a model from",
    r"the cluster works": "All systems running",
    r"pictures a minute": "images/min",
    r"of 100 below": "95th percentile",
}
_PATTERN = re.compile("|".join(rf"(?P<r{n}>\b(?:{rule})\b)" for n, rule in enumerate(RULES)), re.IGNORECASE)
_BETTER = list(RULES.values())
# Names of other people's things, and values that stand on the wire.
_NOT_OURS = re.compile(
    r"https?://\S+|colour-science|LICENCE|GREY(?=[\s\"',)])|`[^`\n]+`",
)
_SKIPPED = (
    "LICENCE",
    "LICENSE",
    "vendor/",
    "/migrations/",
    "tests/architecture/test_plain_words.py",
    # Former names of parameters.
    "renamed_parameters.py",
    "CHANGELOG.md",
)


def _files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = re.compile(r"\.(py|html|txt|md|js)$")
    return [
        name
        for name in listed.splitlines()
        if wanted.search(name) and not any(part in name for part in _SKIPPED)
    ]


def _texts(name: str) -> Iterator[tuple[int, str]]:
    """Yield what people read in a file, with its line: of Python the comments and strings alone."""
    source = (ROOT / name).read_text()
    if not name.endswith(".py"):
        yield from enumerate(source.splitlines(), start=1)
        return
    kinds = {tokenize.COMMENT, tokenize.STRING}
    kinds |= {getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line


def _found(name: str) -> list[str]:
    found = []
    for line, text in _texts(name):
        for match in _PATTERN.finditer(_NOT_OURS.sub(" ", text)):
            better = _BETTER[int(str(match.lastgroup)[1:])]
            found.append(f"{name}:{line}: “{match[0]}”: {better}")
    return found


@pytest.mark.parametrize(
    "area", ["accounts", "deploy", "docs", "drive", "ipau", "market", "processing", "tests", "workers", ""]
)
def test_no_word_comes_back(area: str) -> None:
    names = [name for name in _files() if (name.split("/")[0] if "/" in name else "") == area]
    assert names
    assert [line for name in names for line in _found(name)] == []
