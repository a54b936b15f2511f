"""Pages of a person's own pipelines: the list, the editor with its previews, sharing, copying, deleting."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from accounts.requests import SignedInRequest
from drive.files import services as drive
from drive.models import File
from ipau.common.api.views import domain_problem
from ipau.common.errors import Conflict, DomainError, Invalid, NotFound
from ipau.common.paging import paginate
from market.covers import with_mosaics
from market.listings import services as market
from market.listings.io_schema import STEPS
from market.models import Listing, Visibility
from market.pipelines import model_steps
from market.pipelines import services as market_pipelines
from processing.fleet import registry as fleet
from processing.playground import picture_choices, pipeline_draft, sample_pictures
from processing.playground.pipeline_draft import Draft, DraftStep
from processing.previews import rate_limit
from processing.previews.channel import Answer
from processing.views.playground import as_picture
from workers import registry
from workers.recipe import MOST_STEPS

PIPELINES_A_PAGE = 24
MOST_SOUGHT = 200


@login_required
@require_GET
def list_page(request: SignedInRequest) -> HttpResponse:
    """List the person's pipelines. With `add` (an app) each offers to take that as a further step."""
    page = paginate(
        with_mosaics(market_pipelines.list_pipelines(owner=request.user)),
        order=("-id",),
        size=PIPELINES_A_PAGE,
        cursor=request.GET.get("cursor"),
    )
    adding = _asked_step(request)
    carried = request.GET.copy()
    carried.pop("cursor", None)
    context = {
        "page": page,
        "rows": [{"listing": one, "steps": _step_titles(one)} for one in page.rows],
        "adding": adding.title if adding else "",
        "query": carried.urlencode(),
    }
    return render(request, "processing/pipelines.html", context)


def _asked_step(request: SignedInRequest) -> DraftStep | None:
    """Return the step that the address offers, where it can be one."""
    asked = request.GET.get("add", "")
    try:
        return pipeline_draft.new_step(request.user, asked, request.GET) if asked else None
    except Invalid:
        return None


def _step_titles(listing: Listing) -> list[str]:
    newest = next(iter(listing.versions.all()), None)
    return [_(step["title"]) for step in newest.params_schema[STEPS]] if newest else []


@login_required
@require_http_methods(["GET", "POST"])
def new_page(request: SignedInRequest) -> HttpResponse:
    """Begin a pipeline; `add` in the address names its first app."""
    if request.method == "POST":
        return _act(request, None)
    return _open(request, None, Draft())


@login_required
@require_http_methods(["GET", "POST"])
def edit_page(request: SignedInRequest, name: str) -> HttpResponse:
    """Edit a pipeline of the person's; `add` in the address names an app to append."""
    listing = market_pipelines.get_pipeline(user=request.user, owner=request.user.handle, name=name)
    if request.method == "POST":
        return _act(request, listing)
    return _open(
        request, listing, pipeline_draft.draft_of(request.user, listing, market.latest_version(listing))
    )


def _open(request: SignedInRequest, listing: Listing | None, draft: Draft) -> HttpResponse:
    adding, error = request.GET.get("add", ""), None
    if adding:
        try:
            draft = draft.with_step(pipeline_draft.new_step(request.user, adding, request.GET))
        except Invalid as caught:
            error = caught
    return _show(request, listing, draft, error=error)


# --- What the buttons of the editor do. `do` says which: "save", "preview", "add", "find", "up:s2", …


def _act(request: SignedInRequest, listing: Listing | None) -> HttpResponse:
    draft = pipeline_draft.read_draft(request.user, request.POST)
    do, _colon, key = request.POST.get("do", "save").partition(":")
    try:
        if do == "save":
            return _save(request, listing, draft)
        if do == "find":
            return _show(request, listing, draft)
        if do == "preview":
            return _show(request, listing, draft, answers=_preview_all(request, draft))
        draft, said = _change(request, draft, do, key)
    except NotFound:
        raise
    except DomainError as error:
        return _show(request, listing, draft, error=draft.explain(error))
    return _show(request, listing, draft, said=said)


def _change(request: SignedInRequest, draft: Draft, do: str, key: str) -> tuple[Draft, str]:
    """Return the changed draft, and what a screen reader says of it."""
    if do == "add":
        step = pipeline_draft.new_step(request.user, key or request.POST.get("app", ""))
        return draft.with_step(step), _("%(app)s is added.") % {"app": step.title}
    if do == "order":
        return draft, _("The steps are in their new order.")
    title = draft.steps[draft.position_of(key)].title
    if do == "remove":
        return draft.without_step(key), _("%(app)s is removed.") % {"app": title}
    moved = draft.with_step_moved(key, -1 if do == "up" else 1)
    place = moved.position_of(key) + 1
    return moved, _("%(app)s is now step %(n)d.") % {"app": title, "n": place}


def _save(request: SignedInRequest, listing: Listing | None, draft: Draft) -> HttpResponse:
    title, summary, steps = draft.title, draft.summary, draft.asked_steps()
    if listing is None:
        kept = market_pipelines.create_pipeline(
            owner=request.user, name=draft.name, title=title, summary=summary, steps=steps
        )
    else:
        kept = market_pipelines.change_pipeline(
            owner=request.user,
            name=listing.name,
            new_name=draft.name or None,
            title=title,
            summary=summary,
            steps=steps,
        )
    messages.success(request, _("“%(title)s” is saved.") % {"title": kept.title})
    return redirect("processing:pipeline", kept.name)


def _preview_all(request: SignedInRequest, draft: Draft) -> dict[str, Answer]:
    """Return a preview of each step, for a page without scripts."""
    picture = _posted_picture(request)
    found = {}
    for step in draft.steps:
        rate_limit.count_preview(request)
        found[step.key] = pipeline_draft.preview_step(
            owner=request.user, draft=draft, key=step.key, picture=picture
        )
    return found


@login_required
@require_GET
def find_models(request: SignedInRequest) -> HttpResponse:
    """Answer with the models that `find` finds; each `step` is one of the page's."""
    sought = _sought(request.GET)
    chosen = pipeline_draft.addresses_in(request.GET.getlist("step")[:MOST_STEPS])
    offer = model_steps.offer_models(user=request.user, text=sought, chosen=chosen)
    number = len(offer.models)
    said = ngettext("%(n)d model is shown.", "%(n)d models are shown.", number) % {"n": number}
    context = {"offer": offer, "find": sought, "chosen": chosen, "action": "", "said": said}
    return render(request, "processing/pipeline_models.html#found", context)


def _sought(sent: QueryDict) -> str:
    return sent.get("find", "")[:MOST_SOUGHT]


@login_required
@require_POST
def preview(request: SignedInRequest) -> HttpResponse:
    """Answer with the bytes of a preview of the steps up to `upto`, or with a problem."""
    try:
        rate_limit.count_preview(request)
        draft = pipeline_draft.read_draft(request.user, request.POST)
        picture = _posted_picture(request)
        answer = pipeline_draft.preview_step(
            owner=request.user, draft=draft, key=request.POST.get("upto", ""), picture=picture
        )
    except DomainError as error:
        return domain_problem(error, request.path).response()
    return as_picture(answer)


def _posted_picture(request: SignedInRequest) -> File | None:
    file_id = request.POST.get("file", "")
    return drive.get_file(owner=request.user, file_id=file_id) if file_id else None


# --- The rest of a pipeline's life.


@login_required
@require_POST
def share(request: SignedInRequest, name: str) -> HttpResponse:
    """Show a pipeline to everybody (`visibility=public`), or to its owner only."""
    wanted = request.POST.get("visibility", "")
    if wanted not in Visibility.values:
        raise Invalid(_("Choose who may see the pipeline."), fields={"visibility": wanted})
    try:
        kept = market_pipelines.change_pipeline(owner=request.user, name=name, visibility=wanted)
    except (Invalid, Conflict) as error:
        listing = market_pipelines.get_pipeline(user=request.user, owner=request.user.handle, name=name)
        draft = pipeline_draft.draft_of(request.user, listing, market.latest_version(listing))
        return _show(request, listing, draft, error=draft.explain(error))
    shared = kept.visibility == Visibility.PUBLIC
    text = _("“%(title)s” is shared.") if shared else _("“%(title)s” is private.")
    messages.success(request, text % {"title": kept.title})
    return redirect("processing:pipeline", name)


@login_required
@require_POST
def copy(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Make a pipeline of the person's own from one that they see, and open it."""
    kept = market_pipelines.duplicate_pipeline(user=request.user, owner=owner, name=name)
    messages.success(request, _("This copy is yours alone. Change it as you like."))
    return redirect("processing:pipeline", kept.name)


@login_required
@require_POST
def delete(request: SignedInRequest, name: str) -> HttpResponse:
    """Delete a pipeline; its jobs and their results stay."""
    market_pipelines.delete_pipeline(owner=request.user, name=name)
    messages.success(request, _("The pipeline is deleted. Its jobs and their results stay."))
    here = reverse("processing:pipelines")
    return HttpResponseClientRedirect(here) if request.htmx else redirect(here)


# --- The editor's page.


def _show(
    request: SignedInRequest,
    listing: Listing | None,
    draft: Draft,
    *,
    error: DomainError | None = None,
    answers: dict[str, Answer] | None = None,
    said: str = "",
) -> HttpResponse:
    """Answer with the editor, or to htmx with its steps only.

    Args:
        error: what was wrong, its fields named as in the page; decides the status.
        answers: previews by step, for a page without scripts.
        said: what has been done to the steps.
    """
    folders = picture_choices.folders_of(request.user)
    offered = [(str(folder.id), folder.label) for folder in folders]
    posted = request.POST.get("file", "") if request.method == "POST" else request.GET.get("file", "")
    chosen = [drive.get_file(owner=request.user, file_id=posted)] if posted else []
    pictures = picture_choices.pictures_of(request.user, first=chosen)
    steps = [
        {
            "step": step,
            "number": number,
            "form": step.form(offered, error),
            "problem": error.fields.get(step.key, "") if error else "",
            "answer": (answers or {}).get(step.key),
            "is_first": number == 1,
            "is_last": number == len(draft.steps),
        }
        for number, step in enumerate(draft.steps, start=1)
    ]
    sought = _sought(request.POST)
    context = {
        "listing": listing,
        "draft": draft,
        "steps": steps,
        "full": len(draft.steps) >= MOST_STEPS,
        "most": MOST_STEPS,
        "apps": registry.all_operations(),
        "offer": model_steps.offer_models(user=request.user, text=sought, chosen=draft.addresses),
        "chosen": draft.addresses,
        "find": sought,
        "error": error,
        "said": said,
        "action": _address(listing),
        "pictures": pictures,
        "picture": pictures[0] if pictures else None,
        "sample": sample_pictures.STATIC,
        "answers": answers,
        "preview_served": fleet.is_served("preview"),
    }
    status = error.status if error else 200
    if request.htmx and request.method == "POST":
        # htmx shows nothing of an answer that is an error; the page says what is wrong.
        return render(request, "processing/pipeline_editor.html#changed", context)
    return render(request, "processing/pipeline_editor.html", context, status=status)


def _address(listing: Listing | None) -> str:
    return (
        reverse("processing:pipeline", args=[listing.name]) if listing else reverse("processing:new-pipeline")
    )
