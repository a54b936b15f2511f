"""Tables with parameters for each image (CSV or JSON): parse, validate and match them with images.

A table is CSV with a column `file` and a column for each parameter, or JSON: `[{"file": …, "input": {…}}]`.
`file` is an image's id, its name, or the end of its path, as long as that is unambiguous.
A job runs only if all rows are valid. Errors name the row.
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
# Rows that an error lists at most.
MAX_PROBLEMS = 50
LOOKED_UP = 2000
# Checking stops after this many problems: a table of 32 MB may have millions of wrong rows.
MAX_COLLECTED = LOOKED_UP
# Empty rows of a spreadsheet, in addition to those of the images.
MAX_EMPTY_ROWS = 100_000
# Characters of a row. A longer one has more cells than any operation has parameters.
MAX_ROW_CHARS = 256 * 1024
# Lists and objects of a JSON table: two for each row, and a few for parameters.
_MAX_GROUPS_PER_ROW = 3
_MAX_COMMAS_PER_ROW = 30
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class ManifestRow:
    """A row of the table. `number` counts as in a spreadsheet: the header is row 1."""

    number: int
    picture: str
    params: Mapping[str, Any]


class ManifestProblems:
    """Collected problems by row, raised together in the order of the rows."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], str] = {}

    def add(self, number: int, text: str, *, field: str = "") -> None:
        """Add a problem of a row. Raises Invalid when there are too many."""
        self._found.setdefault((number, field), _("Row %(n)d: %(text)s") % {"n": number, "text": text})
        if len(self._found) > MAX_COLLECTED:
            self.check(is_all=False)

    def check(self, error: type[DomainError] = Invalid, *, is_all: bool = True) -> None:
        """Raise `error` if there are problems. Its message has the first few and the number of the rest.

        Args:
            is_all: whether all rows have been checked.
        """
        if self._found:
            found = dict(sorted(self._found.items()))
            texts = list(found.values())
            rest = _(" And %(n)d more.") if is_all else _(" And at least %(n)d more.")
            more = rest % {"n": len(texts) - 3} if len(texts) > 3 else ""
            named = islice(found.items(), MAX_PROBLEMS)
            fields = {f"row {n}.{field}" if field else f"row {n}": text for (n, field), text in named}
            raise error(" ".join(texts[:3]) + more, code="invalid_table", fields=fields)


def read_table(data: bytes, schema: Mapping[str, Any]) -> list[ManifestRow]:
    """Return the rows of a table, CSV or JSON by its first character. Empty cells keep the job's value.

    Args:
        data: UTF-8, with or without a byte order mark. The CSV delimiter is a comma, semicolon or tab.
        schema: the version's parameters. Other columns are refused.

    Raises:
        TooLarge: the table is larger than `MAX_BYTES`.
        Invalid: the table cannot be read, or has more rows than a job may have images.
    """
    if len(data) > MAX_BYTES:
        text = _("A table of parameters can have at most %(n)d MB.")
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
    """Return the row of each image that a row names, by file id.

    Raises:
        Invalid: a row names no selected image, several, or one that an earlier row names. `fields` has a
            message by row.
    """
    by_id = {str(file.pk): file.pk for file in files}
    by_path = _by_path(paths_of(owner=owner, files=files))
    problems = ManifestProblems()
    matched: dict[UUID, ManifestRow] = {}
    for row in rows:
        key = by_id.get(row.picture.lower())
        candidates = [key] if key else by_path.get(_normal(row.picture), [])
        if len(candidates) != 1:
            text = _("several selected images are called “%(name)s”: add the folder name.")
            if not candidates:
                text = _("“%(name)s” is not one of the selected images.")
            problems.add(row.number, text % {"name": row.picture[:200]})
        elif candidates[0] in matched:
            text = _("“%(name)s” already has parameters in row %(n)d.")
            problems.add(row.number, text % {"name": row.picture[:200], "n": matched[candidates[0]].number})
        else:
            matched[candidates[0]] = row
    problems.check()
    return matched


def rows_of(items: Sequence[Mapping[str, Any]]) -> list[ManifestRow]:
    """Return the rows of items that a program sent, `{"file": …, "input": {…}}`, numbered from 1."""
    return [ManifestRow(n, str(item[FILE]), item.get("input") or {}) for n, item in enumerate(items, start=1)]


def check_there(*, owner: User, rows: Sequence[ManifestRow]) -> None:
    """Check that each row has the id of one of the owner's files.

    Raises:
        NotFound: some rows do not. `fields` has a message by row.
    """
    files = File.objects.visible_to(owner).live()
    for begin in range(0, len(rows), LOOKED_UP):
        part = rows[begin : begin + LOOKED_UP]
        keys = files.filter(pk__in=[row.picture for row in part]).values_list("pk", flat=True)
        existing = {str(key) for key in keys}
        problems = ManifestProblems()
        for row in part:
            if row.picture not in existing:
                problems.add(row.number, _("the file “%(id)s” does not exist.") % {"id": row.picture})
        # After the first part with problems, the rest need not be looked up.
        problems.check(NotFound, is_all=begin + LOOKED_UP >= len(rows))


def write_csv(*, owner: User, files: Sequence[File], names: Sequence[str]) -> str:
    """Return a CSV table to fill in, with a row for each image and a column for each parameter.

    Paths that a spreadsheet would read as a formula are replaced by the image's id.
    """
    paths = paths_of(owner=owner, files=files)
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    writer.writerow([FILE, *names])
    for file in files:
        path = paths[file.pk]
        writer.writerow([str(file.pk) if path[:1] in "=+-@\t\r" else path, *[""] * len(names)])
    return target.getvalue()


def _read_csv(text: str) -> list[ManifestRow]:
    heading_line = text.lstrip().split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=heading_line.count)
    lines = _Lines(text.lstrip())
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows: list[ManifestRow] = []
    problems = ManifestProblems()
    most = settings.JOB_MAX_FILES + MAX_EMPTY_ROWS
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
                problems.add(number, _("it has more cells than the header row has columns."))
                continue
            values = dict(zip(heading, (cell.strip() for cell in cells), strict=False))
            picture = values.pop(FILE, "")
            if not picture:
                problems.add(number, _("it names no image."))
            rows.append(ManifestRow(number, picture, {name: cell for name, cell in values.items() if cell}))
            _check_number(len(rows))
    except csv.Error as error:
        raise _broken(_("line %(n)d cannot be read as CSV.") % {"n": reader.line_num}) from error
    problems.check()
    return rows


class _Lines:
    """Iterator over the lines of a table for `csv.reader`. Raises Invalid at an overlong row."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._in_row = 0

    def begin_row(self) -> None:
        self._in_row = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # One character more than allowed is enough to detect an overlong line.
        line = self._lines.readline(MAX_ROW_CHARS + 1)
        self._in_row += len(line)
        if self._in_row > MAX_ROW_CHARS:
            raise _broken(_("one of its rows has more than %(n)d KB.") % {"n": MAX_ROW_CHARS // 1024})
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
            problems.add(number, _("“%(name)s” is not a known key of a row.") % {"name": min(more)[:60]})
        else:
            rows.append(ManifestRow(number, item[FILE], item.get("input", {})))
    problems.check()
    return rows


def _check_json_size(text: str) -> None:
    """Refuse a table that would become millions of Python objects, before it is parsed."""
    groups, commas = text.count("[") + text.count("{"), text.count(",")
    rows = settings.JOB_MAX_FILES + 1
    if groups > _MAX_GROUPS_PER_ROW * rows or commas > _MAX_COMMAS_PER_ROW * rows:
        raise _broken(_("as JSON it has more values than a job may have."))


def _check_number(number: int) -> None:
    if number > settings.JOB_MAX_FILES:
        raise _too_many_rows()


def _too_many_rows() -> Invalid:
    text = _("A job can have at most %(n)s images, but this table has more rows.")
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


def _by_path(paths: Mapping[UUID, str]) -> dict[str, list[UUID]]:
    """Return file ids by every end of a path: «sea.jpg», «Beach/sea.jpg», «Summer/Beach/sea.jpg».

    A full path names one image, even if it is also the end of a longer path.
    """
    ids: dict[str, list[UUID]] = defaultdict(list)
    for key, path in paths.items():
        parts = path.split("/")
        for start in range(len(parts)):
            ids["/".join(parts[start:])].append(key)
    for key, path in paths.items():
        ids[path] = [key]
    return ids


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./").lstrip("/")
