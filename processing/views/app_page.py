"""Page of an app: shared by the views for playground, previews and runs."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from accounts.models import User
from drive.files.services import Selection
from drive.models import File, FileState
from ipau.common.errors import DomainError
from market.covers import choose_sample
from market.listings import services as market
from market.listings.io_schema import schema_with_current_texts
from market.models import Listing, ListingKind, Version
from market.pipelines import model_steps
from market.weights.report import ReportText, describe_report
from market.weights.samples import AnySample, shown_samples
from processing.fleet import registry
from processing.forms.params_form import ParamsForm, read_params
from processing.forms.run_form import RunForm
from processing.playground import code_snippets, picture_choices, sample_pictures
from processing.playground.picture_choices import FolderChoice
from processing.previews.channel import Answer
from processing.reporting.used_parameters import as_text

TABS = ("playground", "api", "about")


@dataclass(frozen=True)
class App:
    """A listing with its newest version, and the schema of parameters that it does not fix."""

    listing: Listing
    version: Version
    schema: Mapping[str, Any]

    @property
    def address(self) -> str:
        return f"{self.listing.owner.handle}/{self.listing.name}"


@dataclass(frozen=True)
class PageInputs:
    """Input of the page: the images to run on, and the image that is shown."""

    picture: File | None = None
    selection: Selection | None = None
    selection_key: str = ""
    # Value of the field «Run on»: "" (the image shown), "selection", or "folder:<id>".
    over: str = ""


def person_of(request: HttpRequest) -> User | None:
    return request.user if isinstance(request.user, User) else None


def open_app(request: HttpRequest, owner: str, name: str) -> App:
    """Return the app at an address. Raises NotFound."""
    listing = market.get_listing(user=person_of(request), owner=owner, name=name)
    version = market.latest_version(listing, user=person_of(request))
    fixed = version.recipe["steps"][-1].get("params", {})
    schema = schema_with_current_texts(version)
    properties = schema["properties"]
    declared = sorted(properties.items(), key=lambda named: named[1].get("x-order", 0))
    free = {key: about for key, about in declared if key not in fixed}
    return App(listing, version, {**schema, "properties": free})


def show_app(
    request: HttpRequest,
    app: App,
    *,
    sent: Mapping[str, Any],
    target: PageInputs,
    answer: Answer | None = None,
    error: DomainError | None = None,
    options: RunForm | None = None,
) -> HttpResponse:
    """Return the page of an app.

    Args:
        sent: values of parameters by name.
        answer: a preview to show in the page, for browsers without JavaScript.
        error: an error in the sent values. It sets the HTTP status.
        options: the form of run options, if it was sent.
    """
    person = person_of(request)
    folders = picture_choices.folders_of(person) if person else []
    form = _form(app, sent, folders, error)
    pictures = _pictures(person, target) if person else []
    picture = target.picture or (pictures[0] if pictures else None)
    tried = [] if pictures else sample_pictures.of_version(app.version)
    defaults = {name: about.get("default") for name, about in app.schema["properties"].items()}
    params = {**defaults, **read_params(app.schema, sent)}
    context = {
        "app": app,
        "listing": app.listing,
        "form": form,
        "error": error,
        "answer": answer,
        "pictures": pictures,
        "picture": picture,
        "sample": sample_pictures.STATIC,
        "tried": tried,
        "tried_on": _tried_on(tried, sent),
        "target": target,
        "overs": _overs(folders, target),
        "options": options
        or (run_form(person, app, folders=folders, initial=request.GET) if person else None),
        "request_key": uuid.uuid4().hex,
        "tab": _tab(request),
        # Pages of models have URLs below /apps/, but belong to the menu entry of models.
        "nav_path": reverse("models:list") if app.listing.kind == ListingKind.MODEL else "",
        "snippets": code_snippets.write_all(request, app.address, params, picture),
        "files_url": code_snippets.files_url(request),
        "has_text": market.delivers(app.version, "text"),
        "has_data": market.delivers(app.version, "data"),
        "report": _weights_report(app),
        "unusable": model_steps.unavailable_models(user=person, version=app.version),
        "preview_served": registry.is_served("preview"),
        "login_next": urlencode({"next": request.get_full_path()}),
    }
    return render(request, "processing/app.html", context, status=error.status if error else 200)


def run_form(
    person: User,
    app: App,
    *sent: Any,
    initial: Mapping[str, str] | None = None,
    folders: Iterable[FolderChoice] | None = None,
) -> RunForm:
    """Return the form of run options.

    Args:
        sent: the POST data and files of the page, if the form was sent.
        initial: initial values by field name.
    """
    known = picture_choices.folders_of(person) if folders is None else folders
    choices = [(str(folder.id), folder.path) for folder in known]
    return RunForm(
        *sent, initial=initial, folders=choices, priced=bool(model_steps.price_each_of(app.version))
    )


def _form(
    app: App, sent: Mapping[str, Any], folders: list[FolderChoice], error: DomainError | None
) -> ParamsForm:
    choices = [(str(folder.id), folder.label) for folder in folders]
    if error is None:
        return ParamsForm(schema=app.schema, folders=choices, initial=read_params(app.schema, sent))
    names = app.schema["properties"]
    data = {name: as_text(about.get("default")) for name, about in names.items()}
    data.update({name: str(sent[name]) for name in names if name in sent})
    form = ParamsForm(schema=app.schema, folders=choices, data=data)
    form.show_domain_error(error)
    return form


def _pictures(person: User, target: PageInputs) -> list[File]:
    first = [target.picture] if target.picture else []
    if target.selection and target.selection.files:
        first += [f for f in target.selection.files if f.state != FileState.REFUSED]
        return list(dict.fromkeys(first))[: picture_choices.PICTURES_SHOWN]
    folder = None
    if target.selection and target.selection.folders:
        folder = target.selection.folders[0].pk
    images = picture_choices.pictures_of(person, folder=folder, first=first)
    # A folder may have images only in its subfolders.
    return images or picture_choices.pictures_of(person)


def _overs(folders: list[FolderChoice], target: PageInputs) -> list[dict[str, Any]]:
    """Return the choices of «Run on» besides the image shown: value, label, image count, button label."""
    choices: list[dict[str, Any]] = []
    if target.selection_key and target.selection:
        text = picture_choices.selection_text(
            files=len(target.selection.files), folders=len(target.selection.folders)
        )
        total = {folder.id: folder.total for folder in folders}
        number = len(target.selection.files) + sum(total.get(f.pk, 0) for f in target.selection.folders)
        choices.append(
            {"value": "selection", "label": text, "number": number, "run": picture_choices.run_text(number)}
        )
    for folder in folders:
        if folder.total:
            value = f"folder:{folder.id}"
            run = picture_choices.run_text(folder.total)
            choices.append({"value": value, "label": folder.label_total, "number": folder.total, "run": run})
    return choices


def _tried_on(tried: list[AnySample], sent: Mapping[str, Any]) -> AnySample | None:
    """Return the sample that the page shows: the one that was sent, or else the best one."""
    chosen = next((one for one in tried if str(one.pk) == sent.get("sample")), None)
    return chosen or choose_sample(tried)


def _weights_report(app: App) -> ReportText | None:
    """Return the report of the weights of a model, or None for apps."""
    weights = app.version.weights
    if weights is None:
        return None
    # Without samples that no worker has run yet.
    samples = [one for one in shown_samples(app.version) if one.weights_id]
    return describe_report({"facts": weights.facts, "digest": weights.digest}, weights, samples=samples)


def _tab(request: HttpRequest) -> str:
    tab = request.GET.get("tab", "")
    return tab if tab in TABS else TABS[0]
