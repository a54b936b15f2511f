"""Table of parameters for each image: edited on a page, or downloaded as CSV."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.requests import SignedInRequest
from drive.files import services as drive
from drive.files.tree import paths_of
from drive.models import File
from ipau.common.errors import DomainError, Invalid
from processing.forms.params_form import SettingField, read_params
from processing.forms.run_form import PREFIX
from processing.jobs import manifests
from processing.jobs.manifests import ManifestRow
from processing.reporting.used_parameters import as_text
from processing.views.app_page import App, open_app
from processing.views.picture_selection import chosen_pictures

# More controls make a page slow and exceed the number of fields that a form may have.
MOST_CELLS = 800
# Form fields that select the images.
TARGET_NAMES = ("over", "selection", "file", "folder")
_CELL = re.compile(r"own\.([0-9a-f-]{36})\.([\w.]+)")


@dataclass(frozen=True)
class Cell:
    """One parameter of one image. `shown` is the shared value, which applies to an empty cell."""

    name: str
    field: SettingField
    value: str
    shown: str
    error: str


@dataclass(frozen=True)
class ParameterRow:
    """One image with its cells."""

    number: int
    file: File
    path: str
    cells: list[Cell]
    error: str


@login_required
@require_POST
def open_table(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Redirect from the page of an app to its table, with the same settings and images."""
    app = open_app(request, owner, name)
    values = {key: as_text(value) for key, value in read_params(app.schema, request.POST).items()}
    query = [*values.items(), *_target_of(request.POST)]
    page = reverse("processing:table", args=[app.listing.owner.handle, app.listing.name])
    return redirect(f"{page}?{urlencode(query)}")


@login_required
@require_GET
def table_page(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Show the selected images, each with a control for every setting."""
    return show_table(request, open_app(request, owner, name), request.GET)


@login_required
@require_GET
def table_file(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Return the table as CSV, to fill in with a spreadsheet and upload again."""
    app = open_app(request, owner, name)
    files = _pictures(request, request.GET)
    text = manifests.write_csv(owner=request.user, files=files, names=list(_own_fields(app)))
    answer = HttpResponse("\ufeff" + text, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{app.listing.name}-settings.csv"'
    return answer


def show_table(
    request: SignedInRequest, app: App, sent: Any, *, error: DomainError | None = None
) -> HttpResponse:
    """Return the page of the table. `sent` has shared settings, selection and cells by field name."""
    fields = _own_fields(app)
    files = _pictures(request, sent)
    shown = files[: max(1, MOST_CELLS // max(1, len(fields)))]
    values = read_params(app.schema, sent)
    hidden = [(key, as_text(value)) for key, value in values.items()]
    context = {
        "app": app,
        "listing": app.listing,
        "fields": fields,
        "lines": _lines(request, app, shown, sent, error),
        "total": len(files),
        "more": len(files) - len(shown),
        "hidden": [("from_table", "1"), *hidden, *_target_of(sent)],
        "query": urlencode([*hidden, *_target_of(sent)]),
        "request_key": uuid4().hex,
        "error": error,
    }
    status = error.status if error else 200
    return render(request, "processing/table.html", context, status=status)


def read_cells(sent: Mapping[str, Any]) -> list[ManifestRow]:
    """Return the rows of a table that was sent by its page. Empty cells use the shared settings."""
    rows: dict[str, dict[str, Any]] = {}
    order: dict[str, int] = {}
    for key, value in sent.items():
        if cell := _CELL.fullmatch(key):
            order.setdefault(cell[1], len(order) + 1)
            if value != "":
                rows.setdefault(cell[1], {})[cell[2]] = value
    return [ManifestRow(order[file], file, params) for file, params in rows.items()]


def is_table(request: HttpRequest) -> bool:
    """Return whether a form was sent by this page."""
    return "from_table" in request.POST


def _own_fields(app: App) -> dict[str, SettingField]:
    """Return the settings that may differ between images. A folder is always shared."""
    properties = app.schema["properties"]
    # Toggles become choices, because they need a third value for the shared setting.
    return {
        name: SettingField(about, _choices(about))
        for name, about in properties.items()
        if about.get("widget") != "folder"
    }


def _choices(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    if about.get("type") == "boolean":
        return [("true", _("Yes")), ("false", _("No"))]
    labels = about.get("enum_labels") or {}
    return [(value, _(str(labels.get(value, value)))) for value in about.get("enum", ())]


def _pictures(request: SignedInRequest, sent: Any) -> list[File]:
    chosen = chosen_pictures(request, sent)
    files = drive.pictures_in(owner=request.user, chosen=chosen, limit=settings.JOB_MAX_FILES)
    if not files:
        raise Invalid(_("There are no images to run on. Select at least one."), code="no_files")
    return files


def _lines(
    request: SignedInRequest, app: App, files: list[File], sent: Any, error: DomainError | None
) -> list[ParameterRow]:
    fields = _own_fields(app)
    defaults = {name: about.get("default") for name, about in app.schema["properties"].items()}
    common = {**defaults, **read_params(app.schema, sent)}
    paths = paths_of(owner=request.user, files=files)
    problems = error.fields if error else {}
    return [
        ParameterRow(
            number,
            file,
            paths[file.pk],
            [
                Cell(
                    name=f"own.{file.pk}.{name}",
                    field=field,
                    value=str(sent.get(f"own.{file.pk}.{name}", "")),
                    shown=_shown(field, common[name]),
                    error=problems.get(f"row {number}.{name}", ""),
                )
                for name, field in fields.items()
            ],
            problems.get(f"row {number}", ""),
        )
        for number, file in enumerate(files, start=1)
    ]


def _shown(field: SettingField, value: object) -> str:
    text = as_text(value)
    return dict(field.choices).get(text, text)


def _target_of(sent: Any) -> list[tuple[str, str]]:
    """Return the fields that select the images, and the options of the run."""
    options = [name for name in sent if name.startswith(f"{PREFIX}-")]
    return [(name, value) for name in (*TARGET_NAMES, *options) for value in sent.getlist(name) if value]
