"""Parameters for each picture: a table that a person uploads, read and matched with the chosen pictures.

A table is CSV with a column `file` and a column for each parameter, or JSON: `[{"file": …, "input": {…}}]`.
`file` is a picture's id, its name, or the end of its way through the folders, as far as that is unambiguous.
Nothing runs before every row has been understood; what is wrong is named by row.
"""

import csv
import io
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.tree import paths_of
from drive.models import File
from ipau.common.errors import DomainError, Invalid, NotFound, TooLarge

FILE = "file"
MAX_BYTES = 32 * 2**20
# A refusal names so many rows, not all of a hundred thousand.
MOST_PROBLEMS = 50
LOOKED_UP = 2000
# Then no other row is looked at: a table of 32 MB may have millions that are wrong.
MOST_COLLECTED = LOOKED_UP
# Rows of a spreadsheet that are empty, beside those of the pictures.
MOST_EMPTY_ROWS = 100_000
# Characters. Above that a row has more cells than any operation has settings.
MOST_ROW = 256 * 1024
# Lists and objects of a JSON table: two for each row, and some of the settings.
_MOST_GROUPS_PER_ROW = 3
_MOST_COMMAS_PER_ROW = 30
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class ManifestRow:
    """A line of the table. `number` is as a spreadsheet counts: the heading is row 1."""

    number: int
    picture: str
    params: Mapping[str, Any]


class ManifestProblems:
    """What is wrong, by row; raised together, in the order of the rows."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], str] = {}

    def add(self, number: int, text: str, *, field: str = "") -> None:
        """Note what is wrong with a row. Raises Invalid with all so far once there is too much."""
        self._found.setdefault((number, field), _("Row %(n)d: %(text)s") % {"n": number, "text": text})
        if len(self._found) > MOST_COLLECTED:
            self.check(is_all=False)

    def check(self, error: type[DomainError] = Invalid, *, is_all: bool = True) -> None:
        """Raise `error` where there is any; its message tells the first few and counts the rest.

        Args:
            is_all: whether all rows have been looked at.
        """
        if self._found:
            found = dict(sorted(self._found.items()))
            texts = list(found.values())
            rest = _(" And %(n)d more.") if is_all else _(" And at least %(n)d more.")
            more = rest % {"n": len(texts) - 3} if len(texts) > 3 else ""
            named = islice(found.items(), MOST_PROBLEMS)
            fields = {f"row {n}.{field}" if field else f"row {n}": text for (n, field), text in named}
            raise error(" ".join(texts[:3]) + more, code="invalid_table", fields=fields)


def read_table(data: bytes, schema: Mapping[str, Any]) -> list[ManifestRow]:
    """Read a table, CSV or JSON by its first character. Empty cells leave the job's value.

    Args:
        data: UTF-8, with or without a byte order mark; a CSV's delimiter is a comma, semicolon or tab.
        schema: the version's parameters; other columns are refused.

    Raises:
        TooLarge: more bytes than a table may have.
        Invalid: it is no such table, or has more rows than a job may have pictures.
    """
    if len(data) > MAX_BYTES:
        text = _("A table of parameters may have %(n)d MB at most.")
        raise TooLarge(text % {"n": MAX_BYTES // 2**20})
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(_("it is not UTF-8 text.")) from error
    if "\0" in text:
        raise _broken(_("it is not text."))
    rows = _read_json(text) if text.lstrip()[:1] in ("[", "{") else _read_csv(text)
    if not rows:
        raise _broken(_("it has no rows."))
    _check_names(rows, schema)
    return rows


def match(*, owner: User, rows: Sequence[ManifestRow], files: Sequence[File]) -> dict[UUID, ManifestRow]:
    """Return the row of each picture that one names.

    Raises:
        Invalid: a row names no chosen picture, or several, or one that an earlier row names. `fields` has a
            sentence by row.
    """
    by_id = {str(file.pk): file.pk for file in files}
    by_way = _by_way(paths_of(owner=owner, files=files))
    problems = ManifestProblems()
    found: dict[UUID, ManifestRow] = {}
    for row in rows:
        key = by_id.get(row.picture.lower())
        named = [key] if key else by_way.get(_normal(row.picture), [])
        if len(named) != 1:
            text = _("several of the chosen pictures are called “%(name)s”: write the folder too.")
            if not named:
                text = _("“%(name)s” is none of the chosen pictures.")
            problems.add(row.number, text % {"name": row.picture[:200]})
        elif named[0] in found:
            text = _("“%(name)s” has its parameters in row %(n)d already.")
            problems.add(row.number, text % {"name": row.picture[:200], "n": found[named[0]].number})
        else:
            found[named[0]] = row
    problems.check()
    return found


def rows_of(items: Sequence[Mapping[str, Any]]) -> list[ManifestRow]:
    """Take rows that a program sent: `{"file": …, "input": {…}}`, counted from 1."""
    return [ManifestRow(n, str(item[FILE]), item.get("input") or {}) for n, item in enumerate(items, start=1)]


def check_there(*, owner: User, rows: Sequence[ManifestRow]) -> None:
    """Check that each row names a file of the owner's by its id.

    Raises:
        NotFound: some do not. `fields` has a sentence by row.
    """
    files = File.objects.visible_to(owner).live()
    for begin in range(0, len(rows), LOOKED_UP):
        part = rows[begin : begin + LOOKED_UP]
        keys = files.filter(pk__in=[row.picture for row in part]).values_list("pk", flat=True)
        there = {str(key) for key in keys}
        problems = ManifestProblems()
        for row in part:
            if row.picture not in there:
                problems.add(row.number, _("there is no file “%(id)s”.") % {"id": row.picture})
        # Where some are wrong, the rest need not be looked up.
        problems.check(NotFound, is_all=begin + LOOKED_UP >= len(rows))


def write_csv(*, owner: User, files: Sequence[File], names: Sequence[str]) -> str:
    """Return a table to fill in: a row for each picture, a column for each parameter.

    A way that a spreadsheet would take for a formula is given by the picture's id instead.
    """
    paths = paths_of(owner=owner, files=files)
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    writer.writerow([FILE, *names])
    for file in files:
        way = paths[file.pk]
        writer.writerow([str(file.pk) if way[:1] in "=+-@\t\r" else way, *[""] * len(names)])
    return target.getvalue()


def _read_csv(text: str) -> list[ManifestRow]:
    heading_line = text.lstrip().split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=heading_line.count)
    lines = _Lines(text.lstrip())
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows: list[ManifestRow] = []
    problems = ManifestProblems()
    most = settings.JOB_MAX_FILES + MOST_EMPTY_ROWS
    try:
        heading = [name.strip() for name in next(reader, [])]
        _check_heading(heading)
        for number, cells in enumerate(reader, start=2):
            lines.begin_row()
            if number > most:
                raise _too_many_rows()
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(heading):
                problems.add(number, _("it has more cells than the heading has columns."))
                continue
            given = dict(zip(heading, (cell.strip() for cell in cells), strict=False))
            picture = given.pop(FILE, "")
            if not picture:
                problems.add(number, _("it names no picture."))
            rows.append(ManifestRow(number, picture, {name: cell for name, cell in given.items() if cell}))
            _check_number(len(rows))
    except csv.Error as error:
        raise _broken(_("line %(n)d cannot be read as CSV.") % {"n": reader.line_num}) from error
    problems.check()
    return rows


class _Lines:
    """The lines of a table, for a reader of CSV. A row of too many characters ends it."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._in_row = 0

    def begin_row(self) -> None:
        self._in_row = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # No more of a long line is read than it takes to know that it is one.
        line = self._lines.readline(MOST_ROW + 1)
        self._in_row += len(line)
        if self._in_row > MOST_ROW:
            raise _broken(_("a row of it has more than %(n)d KB.") % {"n": MOST_ROW // 1024})
        if not line:
            raise StopIteration
        return line


def _check_heading(heading: list[str]) -> None:
    if FILE not in heading:
        raise _broken(_("its first row must name the columns, one of them “file”."))
    if twice := [name for name, times in Counter(heading).items() if times > 1]:
        raise _broken(_("it has the column “%(name)s” twice.") % {"name": min(twice)[:60]})


def _read_json(text: str) -> list[ManifestRow]:
    _check_json_size(text)
    try:
        sent = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(_("it cannot be read as JSON.")) from error
    items = sent.get("items") if isinstance(sent, dict) else sent
    if not isinstance(items, list):
        raise _broken(_("as JSON it must be a list."))
    _check_number(len(items))
    problems = ManifestProblems()
    rows = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict) or not isinstance(item.get(FILE), str):
            problems.add(number, _("it must be an object that names a “file”."))
        elif not isinstance(item.get("input", {}), dict):
            problems.add(number, _("its “input” must be an object."))
        elif more := item.keys() - {FILE, "input"}:
            problems.add(number, _("there is nothing called “%(name)s” in a row.") % {"name": min(more)[:60]})
        else:
            rows.append(ManifestRow(number, item[FILE], item.get("input", {})))
    problems.check()
    return rows


def _check_json_size(text: str) -> None:
    """Refuse what would become millions of Python objects, before it does."""
    groups, commas = text.count("[") + text.count("{"), text.count(",")
    rows = settings.JOB_MAX_FILES + 1
    if groups > _MOST_GROUPS_PER_ROW * rows or commas > _MOST_COMMAS_PER_ROW * rows:
        raise _broken(_("as JSON it has more values than a job may have."))


def _check_number(number: int) -> None:
    if number > settings.JOB_MAX_FILES:
        raise _too_many_rows()


def _too_many_rows() -> Invalid:
    text = _("A job takes %(n)s pictures at most, and this table has more rows.")
    return Invalid(text % {"n": f"{settings.JOB_MAX_FILES:,}"}, code="too_many_files")


def _check_names(rows: Sequence[ManifestRow], schema: Mapping[str, Any]) -> None:
    known = schema.get("properties", {})
    problems = ManifestProblems()
    for row in rows:
        if unknown := row.params.keys() - known.keys():
            text = _("there is no parameter “%(name)s”.") % {"name": str(min(unknown))[:60]}
            problems.add(row.number, text)
    problems.check()


def _broken(what: str) -> Invalid:
    return Invalid(_("This table cannot be used: %(what)s") % {"what": what}, code="invalid_table")


def _by_way(paths: Mapping[UUID, str]) -> dict[str, list[UUID]]:
    """Return the pictures by every end of their way: «sea.jpg», «Beach/sea.jpg», «Summer/Beach/sea.jpg».

    A whole way names one picture, even where it is also the end of a longer one.
    """
    found: dict[str, list[UUID]] = defaultdict(list)
    for key, path in paths.items():
        parts = path.split("/")
        for start in range(len(parts)):
            found["/".join(parts[start:])].append(key)
    for key, path in paths.items():
        found[path] = [key]
    return found


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./").lstrip("/")
