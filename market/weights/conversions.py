"""Services of conversions: upload weights, request, retry and validate."""

import hashlib
from typing import Any, BinaryIO

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import File, FileKind, FileState
from drive.uploads import services as uploads_services
from ipau.common import leases
from ipau.common.errors import Conflict, Invalid, NotFound
from ipau.common.idempotency import digest_of, find_earlier
from ipau.common.ids import as_uuid
from ipau.common.strict_json import UnreadableJSON, read_json
from market.listings.names import TITLE_LENGTH, check_name, check_text
from market.models import Conversion, ConversionState, Listing, ListingKind
from market.sandbox.budgets import check_budget
from market.weights import tasks
from market.weights.services import MOST_MODELS, list_models
from workers import registry

# Open conversions per account.
MOST_OPEN = 8
CONFIG_MAX_CHARACTERS = 512 * 1024


def list_conversions(*, owner: User) -> QuerySet[Conversion]:
    """Return the conversions of an account."""
    rows: QuerySet[Conversion] = Conversion.objects.visible_to(owner).select_related(
        "version__listing__owner", "version__weights"
    )
    return rows


def get_conversion(*, owner: User, conversion_id: object) -> Conversion:
    """Return a conversion of `owner`.

    Raises:
        NotFound: there is none with this id.
    """
    rows = list_conversions(owner=owner).select_related("file").filter(pk=as_uuid(conversion_id))
    conversion = rows.first()
    if conversion is None:
        raise NotFound(_("There is no such conversion."))
    return conversion


def upload_weights(*, owner: User, name: str, content: BinaryIO, size: int) -> File:
    """Store a weights file in the drive. Other files are rejected and not stored.

    Raises as `drive.uploads.services.upload_file`.
    """
    stored, found = uploads_services.store_upload(
        owner=owner, content=content, size=size, limit=settings.RESUMABLE_MAX_BYTES
    )
    if found.kind != FileKind.WEIGHTS:
        text = _("This file does not contain weights. Upload a PyTorch, ONNX or safetensors file.")
        raise Invalid(text, code="no_weights", fields={"weights": text})
    return uploads_services.add_upload(owner=owner, folder=None, name=name, stored=stored, facts=found)


def find_weights(*, owner: User, content: BinaryIO) -> File | None:
    """Return the owner's weights file with the same bytes, or None. Reads `content` from start to end."""
    content.seek(0)
    digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # open files are such
    rows = File.objects.visible_to(owner).live().filter(kind=FileKind.WEIGHTS, blob=digest)
    found: File | None = rows.order_by("id").first()
    return found


def request_conversion(
    *,
    owner: User,
    file: File,
    name: str,
    title: str = "",
    family: str = "",
    config: str = "",
    publish: bool = False,
    idempotency_key: str | None = None,
) -> Conversion:
    """Request the conversion of weights in the owner's drive into the model `name`, or a new version of it.

    Args:
        title: the title shown on pages. Default: derived from the name.
        family: the key of the family that converts the weights. Default: detected.
        config: the text of the `config.json` that belongs to the weights.
        publish: whether the model becomes public.

    Raises:
        NotFound: the file does not exist, or is not a weights file.
        Invalid: the name, title, family or config is invalid, the file was refused, or the account has too
            many models or open conversions.
        Conflict: the name is taken by an app or pipeline, or the idempotency key by another request.
        RateLimited: the account's conversion time for today is used up.
    """
    request = digest_of(file.blob_id, name, title, family, config, publish)
    if earlier := find_earlier(list_conversions(owner=owner), idempotency_key, request):
        return earlier
    file = _own_weights(owner, file)
    conversion = Conversion(
        owner=owner,
        file=file,
        source_id=file.blob_id,
        source_sha256=file.blob_id,
        source_name=file.name,
        name=check_name(name),
        title=check_text("title", title, TITLE_LENGTH) or name.replace("-", " ").capitalize(),
        family=_check_family(family),
        config=check_config(config),
        publish=publish,
        idempotency_key=idempotency_key,
        request_digest=request if idempotency_key else "",
    )
    _check_free(owner, name)
    check_limits(owner)
    check_budget(owner.pk)
    try:
        with transaction.atomic():
            conversion.save(force_insert=True)
            transaction.on_commit(tasks.send_turn)
    except IntegrityError:
        # Concurrent requests with one idempotency key: the slower one returns the result of the faster.
        if earlier := find_earlier(list_conversions(owner=owner), idempotency_key, request):
            return earlier
        raise
    return conversion


def retry_conversion(*, owner: User, conversion_id: object) -> Conversion:
    """Convert refused weights again, with the current content of the file in the drive.

    Raises:
        NotFound: there is no such conversion.
        Conflict: the conversion was not refused.
        Invalid: the file is no longer in the drive, or the account has too many open conversions.
        RateLimited: the account's conversion time for today is used up.
    """
    conversion = get_conversion(owner=owner, conversion_id=conversion_id)
    if conversion.state != ConversionState.FAILED:
        raise Conflict(_("Only a refused conversion can be retried."))
    file = file_to_convert(conversion)
    _check_free(owner, conversion.name)
    check_limits(owner)
    check_budget(owner.pk)
    with transaction.atomic():
        refused = Conversion.objects.filter(pk=conversion.pk, state=ConversionState.FAILED)
        restarted = restart(refused, file)
        transaction.on_commit(tasks.send_turn)
    if not restarted:
        raise Conflict(_("Only a refused conversion can be retried."))
    return get_conversion(owner=owner, conversion_id=conversion_id)


def file_to_convert(conversion: Conversion) -> File:
    """Return the file of a conversion. Raises Invalid if it is no longer in the drive."""
    file = conversion.file
    if file is None or file.trashed_at is not None or file.kind != FileKind.WEIGHTS:
        raise Invalid(_("The file is no longer in your drive."), code="file_gone")
    return file


def restart(rows: QuerySet[Conversion], file: File, **changes: Any) -> int:
    """Reset conversions to their initial state and return the number reset. The caller wakes a worker."""
    return rows.update(
        state=ConversionState.STARTING,
        source=file.blob_id,
        source_sha256=file.blob_id,
        source_name=file.name,
        report={},
        **leases.never_claimed(),
        started_at=None,
        completed_at=None,
        updated_at=timezone.now(),
        **changes,
    )


# --- Checks.


def _own_weights(owner: User, file: File) -> File:
    rows = File.objects.visible_to(owner).live().filter(pk=file.pk, kind=FileKind.WEIGHTS)
    found: File | None = rows.first()
    if found is None:
        raise NotFound(_("These weights are not in your drive."))
    if found.state == FileState.REFUSED:
        raise Invalid(found.reason, code="refused")
    return found


def _check_family(family: str) -> str:
    known = [one.key for one in registry.all_families()]
    if family and family not in known:
        problem = _("There is no family called “%(name)s”. There are: %(known)s.")
        problem %= {"name": family[:40], "known": ", ".join(known)}
        raise Invalid(problem, code="invalid_input", fields={"family": problem})
    return family


def check_config(config: str) -> str:
    """Return the stripped text of a `config.json`. Raises Invalid if it is not a JSON object."""
    text, problem = config.strip(), ""
    if not text:
        return ""
    if len(text) > CONFIG_MAX_CHARACTERS:
        problem = _("A config.json can have at most %(n)d KB.") % {"n": CONFIG_MAX_CHARACTERS // 1024}
    else:
        try:
            found: Any = read_json(text)
        except UnreadableJSON as error:
            problem = str(error)
        else:
            problem = "" if isinstance(found, dict) else _("A config.json must be one JSON object.")
    if problem:
        raise Invalid(problem, code="invalid_input", fields={"config": problem})
    return text


def _check_free(owner: User, name: str) -> None:
    """Raise Conflict if the owner has an app or pipeline of this name."""
    rows = Listing.objects.filter(owner=owner, name=name, archived_at=None)
    if rows.exclude(kind=ListingKind.MODEL).exists():
        text = _("You already have an app, model or pipeline called “%(name)s”. Choose another name.") % {
            "name": name
        }
        raise Conflict(text, code="name_taken", fields={"name": text})


def check_limits(owner: User) -> None:
    """Raise Invalid if the account has too many models or open conversions."""
    if Conversion.objects.visible_to(owner).open().count() >= MOST_OPEN:
        text = _("You have %(n)d conversions in progress, the maximum. Wait until one ends.")
        raise Invalid(text % {"n": MOST_OPEN}, code="too_many")
    if list_models(owner=owner).count() >= MOST_MODELS:
        raise Invalid(
            _("You have %(n)d models, the maximum. Delete one first.") % {"n": MOST_MODELS}, code="too_many"
        )
