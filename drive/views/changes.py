"""Changing: new folders, names, places, the trash."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import User
from accounts.requests import SignedInRequest
from drive import listing, organising, services
from drive.forms import NameForm
from drive.models import Folder
from drive.services import Selection
from drive.views import answers
from drive.views.answers import depends_on_htmx, done, folder_url
from ipau.common.errors import DomainError, NotFound

T = TypeVar("T")


@login_required
@require_http_methods(["GET", "POST"])
def new_folder(request: SignedInRequest) -> HttpResponse:
    """Make a folder in the one that `parent` names (none: the top of the drive)."""
    parent = _folder_or_top(request.user, _sent(request, "parent"))
    form = NameForm(request.POST if request.method == "POST" else None)
    make = partial(services.create_folder, owner=request.user, parent=parent)
    if made := _done_with_name(form, make):
        text = _("The folder “%(name)s” is made.") % {"name": made.name}
        events: dict[str, Any] = {"drive-done": {}, "drive-changed": {}}
        return done(request, text, back=folder_url(made.parent_id), events=events)
    context = {"form": form, "parent": parent, "back": folder_url(parent.pk if parent else None)}
    return _dialog(request, "drive/new_folder.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def rename_folder(request: SignedInRequest, folder_id: UUID) -> HttpResponse:
    """Give a folder another name."""
    folder = services.get_folder(owner=request.user, folder_id=folder_id)
    back = folder_url(folder.parent_id)
    form = _name_form(request, folder.name)
    rename = partial(services.rename_folder, owner=request.user, folder_id=folder_id)
    if renamed := _done_with_name(form, rename):
        return _renamed(request, "drive/folder_tile.html", {"folder": renamed}, back)
    return _dialog(request, "drive/rename.html", {"form": form, "row": folder, "back": back})


@login_required
@require_http_methods(["GET", "POST"])
def rename_file(request: SignedInRequest, file_id: UUID) -> HttpResponse:
    """Give a file another name: in a dialog of the listing, or in the heading of its own page."""
    file = services.get_file(owner=request.user, file_id=file_id)
    back = answers.file_url(file.pk)
    in_heading = request.htmx.target == "file-name"
    form = _name_form(request, file.name)
    rename = partial(services.rename_file, owner=request.user, file_id=file_id)
    if renamed := _done_with_name(form, rename):
        if in_heading:
            return answers.note(_heading(request, {"file": renamed}), _("Renamed."))
        tile = listing.tiles(owner=request.user, file_ids=[file_id])[0]
        return _renamed(request, "drive/file_tile.html", {"file": tile}, back)
    context = {"form": form, "row": file, "file": file, "back": back}
    if in_heading:
        return _heading(request, {**context, "editing": "cancel" not in request.GET})
    return _dialog(request, "drive/rename.html", context)


def _done_with_name(form: NameForm, act: Callable[..., T]) -> T | None:
    """Do what takes a `name` with the one that was sent; what is wrong with it is said beside its field."""
    if not form.is_valid():
        return None
    try:
        return act(name=form.cleaned_data["name"])
    except NotFound:
        raise
    except DomainError as error:
        form.refuse(error)
        return None


def _name_form(request: SignedInRequest, name: str) -> NameForm:
    return NameForm(request.POST if request.method == "POST" else None, initial={"name": name})


def _heading(request: SignedInRequest, context: dict[str, Any]) -> HttpResponse:
    return depends_on_htmx(render(request, "drive/file_name.html", context))


def _renamed(request: SignedInRequest, tile: str, context: dict[str, Any], back: str) -> HttpResponse:
    """Answer with the tile under its new name, or go back."""
    if not request.htmx:
        return redirect(back)
    response = render(request, tile, {**context, "oob": True})
    response["HX-Reswap"] = "none"
    return answers.note(response, _("Renamed."), events={"drive-done": {}})


@login_required
@require_http_methods(["GET", "POST"])
def move(request: SignedInRequest) -> HttpResponse:
    """Ask where the selection (`file`, `folder`) shall go, or with a `destination` move it there.

    Asking may be a POST too: thousands of ids do not fit into an address.
    """
    chosen = selection(request)
    destination = request.POST.get("destination")
    if request.method != "POST" or destination is None:
        return _dialog(request, "drive/move.html", _move_context(request, chosen))
    folder = _folder_or_top(request.user, destination)
    homes = organising.homes_of(chosen)
    moved = services.move(owner=request.user, chosen=chosen, destination=folder)
    undo = answers.keep_move(request, homes) if moved else ""
    text = ngettext(
        "%(count)d item moved to “%(place)s”.", "%(count)d items moved to “%(place)s”.", moved
    ) % {
        "count": moved,
        "place": folder.name if folder else _("My drive"),
    }
    events = {"drive-done": {}, "drive-gone": {"ids": _ids(chosen)} if moved else {"ids": []}}
    return done(request, text, back=folder_url(folder.pk if folder else None), undo=undo, events=events)


@login_required
@require_POST
def undo_move(request: SignedInRequest, move_id: UUID) -> HttpResponse:
    """Move back what one move of this sitting took elsewhere."""
    homes = answers.kept_move(request, move_id)
    count = organising.move_back(owner=request.user, homes=homes)
    text = ngettext("%(count)d item moved back.", "%(count)d items moved back.", count) % {"count": count}
    back = answers.local(request, request.headers.get("Referer", "")) or folder_url(None)
    return done(request, text, back=back, events={"drive-changed": {}})


def _move_context(request: SignedInRequest, chosen: Selection) -> dict[str, Any]:
    folders = listing.all_folders(owner=request.user)
    barred = {f.pk for f in chosen.folders}
    for folder in folders:
        # Read from the top down, so a folder's parent has been looked at before it.
        if folder.parent_id in barred:
            barred.add(folder.pk)
    home = _home_of(chosen)
    return {"chosen": chosen, "folders": folders, "barred": barred, "home": home, "back": folder_url(home)}


@login_required
@require_POST
def trash_selection(request: SignedInRequest) -> HttpResponse:
    """Put the selection (`file`, `folder`) into the trash, then go to `then` or where it lay."""
    chosen = selection(request)
    undo = answers.undo_url(services.trash(owner=request.user, chosen=chosen))
    count = len(chosen)
    text = ngettext("%(count)d item moved to the trash.", "%(count)d items moved to the trash.", count)
    events = {"drive-gone": {"ids": _ids(chosen)}}
    back = answers.local(request, request.POST.get("then", "")) or folder_url(_home_of(chosen))
    return done(request, text % {"count": count}, back=back, undo=undo, events=events)


@login_required
@require_POST
def undo_trash(request: SignedInRequest, at: int) -> HttpResponse:
    """Take back what one press of Delete put into the trash."""
    try:
        when = answers.trashed_at(at)
    except OverflowError as error:
        raise NotFound(_("This is no longer in the trash.")) from error
    count = services.restore_batch(owner=request.user, trashed_at=when)
    return _restored(request, count, request.headers.get("Referer", ""), {"drive-changed": {}})


@login_required
@require_POST
def restore(request: SignedInRequest) -> HttpResponse:
    """Take things (`root`) out of the trash."""
    keys = request.POST.getlist("root")
    count = services.restore(owner=request.user, root_ids=keys)
    return _restored(request, count, "", {"drive-gone": {"ids": keys}})


def _restored(request: SignedInRequest, count: int, back: str, events: dict[str, Any]) -> HttpResponse:
    text = ngettext("%(count)d item restored.", "%(count)d items restored.", count) % {"count": count}
    return done(request, text, back=answers.local(request, back) or answers.trash_url(), events=events)


def _dialog(request: SignedInRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """Show a form as a page of its own or, to htmx, only what goes into the dialog."""
    part = f"{template}#dialog" if request.htmx else template
    return depends_on_htmx(render(request, part, context))


def selection(request: SignedInRequest) -> Selection:
    """Return what a request names as `folder` and `file`. Raises as `services.select`."""
    sent = request.POST if request.method == "POST" else request.GET
    return services.select(
        owner=request.user, folder_ids=sent.getlist("folder"), file_ids=sent.getlist("file")
    )


def _ids(chosen: Selection) -> list[str]:
    return [str(row.pk) for row in (*chosen.folders, *chosen.files)]


def _home_of(chosen: Selection) -> UUID | None:
    """Return the folder in which the selection was made."""
    return chosen.files[0].folder_id if chosen.files else chosen.folders[0].parent_id


def _folder_or_top(owner: User, folder_id: str) -> Folder | None:
    return services.get_folder(owner=owner, folder_id=folder_id) if folder_id else None


def _sent(request: SignedInRequest, name: str) -> str:
    return request.POST.get(name) or request.GET.get(name) or ""
