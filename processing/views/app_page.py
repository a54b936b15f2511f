"""What the views of one app share: which app it is, and the page that shows it."""

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
    """A listing with its newest version, and the settings that are left to people."""

    listing: Listing
    version: Version
    schema: Mapping[str, Any]

    @property
    def address(self) -> str:
        return f"{self.listing.owner.handle}/{self.listing.name}"


@dataclass(frozen=True)
class PageInputs:
    """What the page is about: the pictures to run over, and the one that is shown."""

    picture: File | None = None
    selection: Selection | None = None
    selection_key: str = ""
    # What the field «Run over» holds: "" (the picture shown), "selection", or "folder:<id>".
    over: str = ""


def person_of(request: HttpRequest) -> User | None:
    return request.user if isinstance(request.user, User) else None


def open_app(request: HttpRequest, owner: str, name: str) -> App:
    """Return the app at an address. Raises NotFound."""
    listing = market.get_listing(user=person_of(request), owner=owner, name=name)
    version = market.latest_version(listing, user=person_of(request))
    fixed = version.recipe["steps"][-1].get("params", {})
    properties = version.params_schema.get("properties", {})
    declared = sorted(properties.items(), key=lambda named: named[1].get("x-order", 0))
    left = {key: about for key, about in declared if key not in fixed}
    return App(listing, version, {**version.params_schema, "properties": left})


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
    """Answer with the app's page.

    Args:
        sent: values of settings, by name.
        answer: a preview to show in the page, for those without scripts.
        error: what was wrong with what was sent; decides the status.
        options: the form of the run's options, where it was sent.
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
        "options": options or (run_form(person, app, folders=folders, given=request.GET) if person else None),
        "request_key": uuid.uuid4().hex,
        "tab": _tab(request),
        # Models stand below /apps/ like all that is run.
        "nav_path": reverse("models:list") if app.listing.kind == ListingKind.MODEL else "",
        "snippets": code_snippets.write_all(request, app.address, params, picture),
        "files_url": code_snippets.files_url(request),
        "has_text": market.delivers(app.version, "text"),
        "has_data": market.delivers(app.version, "data"),
        "report": _report(app),
        "unusable": model_steps.unavailable_models(user=person, version=app.version),
        "preview_served": registry.is_served("preview"),
        "login_next": urlencode({"next": request.get_full_path()}),
    }
    return render(request, "processing/app.html", context, status=error.status if error else 200)


def run_form(
    person: User,
    app: App,
    *sent: Any,
    given: Mapping[str, str] | None = None,
    folders: Iterable[FolderChoice] | None = None,
) -> RunForm:
    """Return the form of a run's options; `sent` is what a page sent of it, and its files, `given` what it
    begins with."""
    known = picture_choices.folders_of(person) if folders is None else folders
    offered = [(str(folder.id), folder.path) for folder in known]
    return RunForm(*sent, given=given, folders=offered, priced=bool(model_steps.price_each_of(app.version)))


def _form(
    app: App, sent: Mapping[str, Any], folders: list[FolderChoice], error: DomainError | None
) -> ParamsForm:
    offered = [(str(folder.id), folder.label) for folder in folders]
    if error is None:
        return ParamsForm(schema=app.schema, folders=offered, given=read_params(app.schema, sent))
    names = app.schema["properties"]
    data = {name: as_text(about.get("default")) for name, about in names.items()}
    data.update({name: str(sent[name]) for name in names if name in sent})
    form = ParamsForm(schema=app.schema, folders=offered, data=data)
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
    found = picture_choices.pictures_of(person, folder=folder, first=first)
    # A folder may hold its pictures in sub-folders only.
    return found or picture_choices.pictures_of(person)


def _overs(folders: list[FolderChoice], target: PageInputs) -> list[dict[str, Any]]:
    """Return what the app can be run over besides the picture shown: value, label, how many pictures, and the
    button's words."""
    found: list[dict[str, Any]] = []
    if target.selection_key and target.selection:
        text = picture_choices.selection_text(
            files=len(target.selection.files), folders=len(target.selection.folders)
        )
        within = {folder.id: folder.within for folder in folders}
        number = len(target.selection.files) + sum(within.get(f.pk, 0) for f in target.selection.folders)
        found.append(
            {"value": "selection", "label": text, "number": number, "run": picture_choices.run_text(number)}
        )
    for folder in folders:
        if folder.within:
            value = f"folder:{folder.id}"
            run = picture_choices.run_text(folder.within)
            found.append({"value": value, "label": folder.label_within, "number": folder.within, "run": run})
    return found


def _tried_on(tried: list[AnySample], sent: Mapping[str, Any]) -> AnySample | None:
    """Return the sample that the page shows: the one that was sent, or else the one that tells most."""
    chosen = next((one for one in tried if str(one.pk) == sent.get("sample")), None)
    return chosen or choose_sample(tried)


def _report(app: App) -> ReportText | None:
    """Return the report of a model's weights; None for an app."""
    weights = app.version.weights
    if weights is None:
        return None
    # A sample without weights has not been run yet.
    made = [one for one in shown_samples(app.version) if one.weights_id]
    return describe_report({"facts": weights.facts, "digest": weights.digest}, weights, samples=made)


def _tab(request: HttpRequest) -> str:
    tab = request.GET.get("tab", "")
    return tab if tab in TABS else TABS[0]
