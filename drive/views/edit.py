"""Pages that create, rename and move folders and files, with undo of moves."""

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
from drive.files import listing, services, update
from drive.files.services import Selection
from drive.forms import NameForm
from drive.models import Folder
from drive.views import responses
from drive.views.requests import ids, selection
from drive.views.responses import depends_on_htmx, done, folder_url
from ipau.common.errors import DomainError, NotFound

T = TypeVar("T")


@login_required
@require_http_methods(["GET", "POST"])
def new_folder(request: SignedInRequest) -> HttpResponse:
    """Create a folder in `parent` (default: the top of the drive)."""
    parent = _folder_or_top(request.user, _sent(request, "parent"))
    form = NameForm(request.POST if request.method == "POST" else None)
    create = partial(services.create_folder, owner=request.user, parent=parent)
    if created := _apply_name(form, create):
        text = _("Folder “%(name)s” created.") % {"name": created.name}
        events: dict[str, Any] = {"drive-done": {}, "drive-changed": {}}
        return done(request, text, back=folder_url(created.parent_id), events=events)
    context = {"form": form, "parent": parent, "back": folder_url(parent.pk if parent else None)}
    return _dialog(request, "drive/new_folder.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def rename_folder(request: SignedInRequest, folder_id: UUID) -> HttpResponse:
    """Rename a folder."""
    folder = services.get_folder(owner=request.user, folder_id=folder_id)
    back = folder_url(folder.parent_id)
    form = _name_form(request, folder.name)
    rename = partial(services.rename_folder, owner=request.user, folder_id=folder_id)
    if renamed := _apply_name(form, rename):
        return _renamed(request, "drive/folder_tile.html", {"folder": renamed}, back)
    return _dialog(request, "drive/rename.html", {"form": form, "row": folder, "back": back})


@login_required
@require_http_methods(["GET", "POST"])
def rename_file(request: SignedInRequest, file_id: UUID) -> HttpResponse:
    """Rename a file, in a dialog of the listing or in the heading of its page."""
    file = services.get_file(owner=request.user, file_id=file_id)
    back = responses.file_url(file.pk)
    in_heading = request.htmx.target == "file-name"
    form = _name_form(request, file.name)
    rename = partial(services.rename_file, owner=request.user, file_id=file_id)
    if renamed := _apply_name(form, rename):
        if in_heading:
            return responses.add_toast(_heading(request, {"file": renamed}), _("Renamed."))
        tile = listing.tiles(owner=request.user, file_ids=[file_id])[0]
        return _renamed(request, "drive/file_tile.html", {"file": tile}, back)
    context = {"form": form, "row": file, "file": file, "back": back}
    if in_heading:
        return _heading(request, {**context, "editing": "cancel" not in request.GET})
    return _dialog(request, "drive/rename.html", context)


def _apply_name(form: NameForm, act: Callable[..., T]) -> T | None:
    """Call `act` with the form's name; show its errors at the field and return None."""
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
    """Return the renamed tile, or redirect to `back`."""
    if not request.htmx:
        return redirect(back)
    response = render(request, tile, {**context, "oob": True})
    response["HX-Reswap"] = "none"
    return responses.add_toast(response, _("Renamed."), events={"drive-done": {}})


@login_required
@require_http_methods(["GET", "POST"])
def move(request: SignedInRequest) -> HttpResponse:
    """Show the dialog that moves the selection (`file`, `folder`), or move it to `destination`.

    The dialog may be a POST too: thousands of ids do not fit into a URL.
    """
    chosen = selection(request)
    destination = request.POST.get("destination")
    if request.method != "POST" or destination is None:
        return _dialog(request, "drive/move.html", _move_context(request, chosen))
    folder = _folder_or_top(request.user, destination)
    folders = update.folders_of(chosen)
    moved = services.move(owner=request.user, chosen=chosen, destination=folder)
    undo = responses.store_move(request, folders) if moved else ""
    text = ngettext(
        "%(count)d item moved to “%(place)s”.", "%(count)d items moved to “%(place)s”.", moved
    ) % {
        "count": moved,
        "place": folder.name if folder else _("My drive"),
    }
    events = {"drive-done": {}, "drive-gone": {"ids": ids(chosen)} if moved else {"ids": []}}
    return done(request, text, back=folder_url(folder.pk if folder else None), undo=undo, events=events)


@login_required
@require_POST
def undo_move(request: SignedInRequest, move_id: UUID) -> HttpResponse:
    """Undo a move of this session."""
    folders = responses.load_move(request, move_id)
    count = update.move_back(owner=request.user, folders=folders)
    text = ngettext("%(count)d item moved back.", "%(count)d items moved back.", count) % {"count": count}
    back = responses.local(request, request.headers.get("Referer", "")) or folder_url(None)
    return done(request, text, back=back, events={"drive-changed": {}})


def _move_context(request: SignedInRequest, chosen: Selection) -> dict[str, Any]:
    folders = listing.all_folders(owner=request.user)
    barred = {f.pk for f in chosen.folders}
    for folder in folders:
        # Parents come before their subfolders.
        if folder.parent_id in barred:
            barred.add(folder.pk)
    home = home_of(chosen)
    return {"chosen": chosen, "folders": folders, "barred": barred, "home": home, "back": folder_url(home)}


def _dialog(request: SignedInRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """Return a form as a page, or only the content of the dialog for htmx."""
    part = f"{template}#dialog" if request.htmx else template
    return depends_on_htmx(render(request, part, context))


def home_of(chosen: Selection) -> UUID | None:
    """Return the folder of the selected items."""
    return chosen.files[0].folder_id if chosen.files else chosen.folders[0].parent_id


def _folder_or_top(owner: User, folder_id: str) -> Folder | None:
    return services.get_folder(owner=owner, folder_id=folder_id) if folder_id else None


def _sent(request: SignedInRequest, name: str) -> str:
    return request.POST.get(name) or request.GET.get(name) or ""
