"""Pages of the pipelines of an account: list, editor with previews, sharing, copying and deleting."""

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
LONGEST_SEARCH = 200


@login_required
@require_GET
def list_page(request: SignedInRequest) -> HttpResponse:
    """List the pipelines of the account. With `add` (an app), each has a button to add it as a step."""
    page = paginate(
        with_mosaics(market_pipelines.list_pipelines(owner=request.user)),
        order=("-id",),
        size=PIPELINES_A_PAGE,
        cursor=request.GET.get("cursor"),
    )
    adding = _step_to_add(request)
    query = request.GET.copy()
    query.pop("cursor", None)
    context = {
        "page": page,
        "rows": [{"listing": one, "steps": _step_titles(one)} for one in page.rows],
        "adding": adding.title if adding else "",
        "query": query.urlencode(),
    }
    return render(request, "processing/pipelines.html", context)


def _step_to_add(request: SignedInRequest) -> DraftStep | None:
    """Return the step in the query string, or None if it is missing or invalid."""
    name = request.GET.get("add", "")
    try:
        return pipeline_draft.new_step(request.user, name, request.GET) if name else None
    except Invalid:
        return None


def _step_titles(listing: Listing) -> list[str]:
    newest = next(iter(listing.versions.all()), None)
    return [_(step["title"]) for step in newest.params_schema[STEPS]] if newest else []


@login_required
@require_http_methods(["GET", "POST"])
def new_page(request: SignedInRequest) -> HttpResponse:
    """Create a pipeline. `add` in the query string names its first app."""
    if request.method == "POST":
        return _act(request, None)
    return _open(request, None, Draft())


@login_required
@require_http_methods(["GET", "POST"])
def edit_page(request: SignedInRequest, name: str) -> HttpResponse:
    """Edit a pipeline of the account. `add` in the query string names an app to append."""
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


# --- Actions of the editor's buttons. `do` names the action: "save", "preview", "add", "find", "up:s2", …


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
        draft, announcement = _change(request, draft, do, key)
    except NotFound:
        raise
    except DomainError as error:
        return _show(request, listing, draft, error=draft.explain(error))
    return _show(request, listing, draft, announcement=announcement)


def _change(request: SignedInRequest, draft: Draft, do: str, key: str) -> tuple[Draft, str]:
    """Return the changed draft, and an announcement for screen readers."""
    if do == "add":
        step = pipeline_draft.new_step(request.user, key or request.POST.get("app", ""))
        return draft.with_step(step), _("%(app)s added.") % {"app": step.title}
    if do == "order":
        return draft, _("Order of the steps changed.")
    title = draft.steps[draft.position_of(key)].title
    if do == "remove":
        return draft.without_step(key), _("%(app)s removed.") % {"app": title}
    moved = draft.with_step_moved(key, -1 if do == "up" else 1)
    number = moved.position_of(key) + 1
    return moved, _("%(app)s is now step %(n)d.") % {"app": title, "n": number}


def _save(request: SignedInRequest, listing: Listing | None, draft: Draft) -> HttpResponse:
    title, summary, steps = draft.title, draft.summary, draft.recipe_steps()
    if listing is None:
        saved = market_pipelines.create_pipeline(
            owner=request.user, name=draft.name, title=title, summary=summary, steps=steps
        )
    else:
        saved = market_pipelines.change_pipeline(
            owner=request.user,
            name=listing.name,
            new_name=draft.name or None,
            title=title,
            summary=summary,
            steps=steps,
        )
    messages.success(request, _("“%(title)s” saved.") % {"title": saved.title})
    return redirect("processing:pipeline", saved.name)


def _preview_all(request: SignedInRequest, draft: Draft) -> dict[str, Answer]:
    """Return a preview of each step by key, for pages without JavaScript."""
    picture = _posted_picture(request)
    answers = {}
    for step in draft.steps:
        rate_limit.count_preview(request)
        answers[step.key] = pipeline_draft.preview_step(
            owner=request.user, draft=draft, key=step.key, picture=picture
        )
    return answers


@login_required
@require_GET
def find_models(request: SignedInRequest) -> HttpResponse:
    """Return models that match `find`. `step` lists the current steps of the page."""
    search = _search_text(request.GET)
    chosen = pipeline_draft.addresses_in(request.GET.getlist("step")[:MOST_STEPS])
    offer = model_steps.offer_models(user=request.user, text=search, chosen=chosen)
    number = len(offer.models)
    announcement = ngettext("%(n)d model found.", "%(n)d models found.", number) % {"n": number}
    context = {"offer": offer, "find": search, "chosen": chosen, "action": "", "announcement": announcement}
    return render(request, "processing/pipeline_models.html#found", context)


def _search_text(sent: QueryDict) -> str:
    return sent.get("find", "")[:LONGEST_SEARCH]


@login_required
@require_POST
def preview(request: SignedInRequest) -> HttpResponse:
    """Return the bytes of a preview of the steps up to `upto`, or a problem."""
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


# --- Sharing, copying and deleting.


@login_required
@require_POST
def share(request: SignedInRequest, name: str) -> HttpResponse:
    """Set the visibility of a pipeline: `public`, or `private` to its owner."""
    wanted = request.POST.get("visibility", "")
    if wanted not in Visibility.values:
        raise Invalid(_("Choose who can see the pipeline."), fields={"visibility": wanted})
    try:
        saved = market_pipelines.change_pipeline(owner=request.user, name=name, visibility=wanted)
    except (Invalid, Conflict) as error:
        listing = market_pipelines.get_pipeline(user=request.user, owner=request.user.handle, name=name)
        draft = pipeline_draft.draft_of(request.user, listing, market.latest_version(listing))
        return _show(request, listing, draft, error=draft.explain(error))
    shared = saved.visibility == Visibility.PUBLIC
    text = _("“%(title)s” is now public.") if shared else _("“%(title)s” is now private.")
    messages.success(request, text % {"title": saved.title})
    return redirect("processing:pipeline", name)


@login_required
@require_POST
def copy(request: SignedInRequest, owner: str, name: str) -> HttpResponse:
    """Copy a visible pipeline into the account and open the copy."""
    saved = market_pipelines.duplicate_pipeline(user=request.user, owner=owner, name=name)
    messages.success(request, _("Pipeline copied. Only you can see this copy."))
    return redirect("processing:pipeline", saved.name)


@login_required
@require_POST
def delete(request: SignedInRequest, name: str) -> HttpResponse:
    """Delete a pipeline. Its jobs and their results are kept."""
    market_pipelines.delete_pipeline(owner=request.user, name=name)
    messages.success(request, _("Pipeline deleted. Its jobs and their results are kept."))
    url = reverse("processing:pipelines")
    return HttpResponseClientRedirect(url) if request.htmx else redirect(url)


# --- The page of the editor.


def _show(
    request: SignedInRequest,
    listing: Listing | None,
    draft: Draft,
    *,
    error: DomainError | None = None,
    answers: dict[str, Answer] | None = None,
    announcement: str = "",
) -> HttpResponse:
    """Return the page of the editor, or only its steps for htmx.

    Args:
        error: an error with the field names of the page. It sets the HTTP status.
        answers: previews by step key, for pages without JavaScript.
        announcement: the change to the steps, for screen readers.
    """
    folders = picture_choices.folders_of(request.user)
    folder_choices = [(str(folder.id), folder.label) for folder in folders]
    file_id = request.POST.get("file", "") if request.method == "POST" else request.GET.get("file", "")
    chosen = [drive.get_file(owner=request.user, file_id=file_id)] if file_id else []
    pictures = picture_choices.pictures_of(request.user, first=chosen)
    steps = [
        {
            "step": step,
            "number": number,
            "form": step.form(folder_choices, error),
            "problem": error.fields.get(step.key, "") if error else "",
            "answer": (answers or {}).get(step.key),
            "is_first": number == 1,
            "is_last": number == len(draft.steps),
        }
        for number, step in enumerate(draft.steps, start=1)
    ]
    search = _search_text(request.POST)
    context = {
        "listing": listing,
        "draft": draft,
        "steps": steps,
        "full": len(draft.steps) >= MOST_STEPS,
        "most": MOST_STEPS,
        "apps": registry.all_operations(),
        "offer": model_steps.offer_models(user=request.user, text=search, chosen=draft.addresses),
        "chosen": draft.addresses,
        "find": search,
        "error": error,
        "announcement": announcement,
        "action": _address(listing),
        "pictures": pictures,
        "picture": pictures[0] if pictures else None,
        "sample": sample_pictures.STATIC,
        "answers": answers,
        "preview_served": fleet.is_served("preview"),
    }
    status = error.status if error else 200
    if request.htmx and request.method == "POST":
        # htmx ignores the body of error responses, so the status is 200 here.
        return render(request, "processing/pipeline_editor.html#changed", context)
    return render(request, "processing/pipeline_editor.html", context, status=status)


def _address(listing: Listing | None) -> str:
    return (
        reverse("processing:pipeline", args=[listing.name]) if listing else reverse("processing:new-pipeline")
    )
