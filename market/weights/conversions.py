"""Making models of weights: a conversion is asked for here, done by a worker, and ends as a version."""

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

# Of one person at a time: each holds up the others' for seconds.
MOST_OPEN = 8
CONFIG_MAX_CHARACTERS = 512 * 1024


def list_conversions(*, owner: User) -> QuerySet[Conversion]:
    """Return what a person has had converted."""
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
    """Take weights into the drive; what is none is not kept.

    Raises as `drive.uploads.services.upload_file`.
    """
    stored, found = uploads_services.store_upload(
        owner=owner, content=content, size=size, limit=settings.RESUMABLE_MAX_BYTES
    )
    if found.kind != FileKind.WEIGHTS:
        text = _("This file holds no weights: send a checkpoint of PyTorch, ONNX or safetensors.")
        raise Invalid(text, code="no_weights", fields={"weights": text})
    return uploads_services.add_upload(owner=owner, folder=None, name=name, stored=stored, facts=found)


def find_weights(*, owner: User, content: BinaryIO) -> File | None:
    """Return the owner's weights that are these very bytes, which are read from their start to their end."""
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
    """Have weights of the owner's drive made into the model `name`, or into another version of it.

    Args:
        title: what people read; without one it is made from the name.
        family: the key of the one that is to read the weights; without one each is asked.
        config: the `config.json` that belongs to the weights, as text.
        publish: whether everybody shall find and run it.

    Raises:
        NotFound: the file is not there, or holds no weights.
        Invalid: the name, the title, the family or the config cannot be used, the file was refused, or the
            person has as many models or conversions as one may have.
        Conflict: the name belongs to something else, or the idempotency key to another request.
        RateLimited: the person's minutes of conversions for today are used up.
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
    check_numbers(owner)
    check_budget(owner.pk)
    try:
        with transaction.atomic():
            conversion.save(force_insert=True)
            transaction.on_commit(tasks.send_turn)
    except IntegrityError:
        # Two requests with one idempotency key at once: the slower one answers with what the faster one made.
        if earlier := find_earlier(list_conversions(owner=owner), idempotency_key, request):
            return earlier
        raise
    return conversion


def retry_conversion(*, owner: User, conversion_id: object) -> Conversion:
    """Have refused weights converted once more, as they lie in the drive now.

    Raises:
        NotFound: there is no such conversion.
        Conflict: it has not been refused.
        Invalid: the file is gone from the drive, or the person has as many conversions as one may have.
        RateLimited: the person's minutes of conversions for today are used up.
    """
    conversion = get_conversion(owner=owner, conversion_id=conversion_id)
    if conversion.state != ConversionState.FAILED:
        raise Conflict(_("Only a conversion that was refused can be tried again."))
    file = file_to_convert(conversion)
    _check_free(owner, conversion.name)
    check_numbers(owner)
    check_budget(owner.pk)
    with transaction.atomic():
        refused = Conversion.objects.filter(pk=conversion.pk, state=ConversionState.FAILED)
        moved = begin_anew(refused, file)
        transaction.on_commit(tasks.send_turn)
    if not moved:
        raise Conflict(_("Only a conversion that was refused can be tried again."))
    return get_conversion(owner=owner, conversion_id=conversion_id)


def file_to_convert(conversion: Conversion) -> File:
    """Return the file of a conversion as it lies in the drive now. Raises Invalid where it is gone."""
    file = conversion.file
    if file is None or file.trashed_at is not None or file.kind != FileKind.WEIGHTS:
        raise Invalid(_("The file is no longer in your drive."), code="file_gone")
    return file


def begin_anew(rows: QuerySet[Conversion], file: File, **changes: Any) -> int:
    """Put a conversion back to its beginning; return whether it was among these rows. Wake a worker then."""
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
        raise NotFound(_("There are no such weights in your drive."))
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
    """Return the text of a `config.json`, or nothing. Raises Invalid where it is no JSON object."""
    text, problem = config.strip(), ""
    if not text:
        return ""
    if len(text) > CONFIG_MAX_CHARACTERS:
        problem = _("A config.json may have %(n)d KB at most.") % {"n": CONFIG_MAX_CHARACTERS // 1024}
    else:
        try:
            found: Any = read_json(text)
        except UnreadableJSON as error:
            problem = str(error)
        else:
            problem = "" if isinstance(found, dict) else _("A config.json holds one JSON object.")
    if problem:
        raise Invalid(problem, code="invalid_input", fields={"config": problem})
    return text


def _check_free(owner: User, name: str) -> None:
    """Raise Conflict where the name is that of something else than a model of the owner's."""
    rows = Listing.objects.filter(owner=owner, name=name, archived_at=None)
    if rows.exclude(kind=ListingKind.MODEL).exists():
        text = _("You have something called “%(name)s” already. Choose another name.") % {"name": name}
        raise Conflict(text, code="name_taken", fields={"name": text})


def check_numbers(owner: User) -> None:
    """Raise Invalid where somebody has as many models or conversions as one may have."""
    if Conversion.objects.visible_to(owner).open().count() >= MOST_OPEN:
        text = _("%(n)d conversions of yours are under way, which is the most. Wait for one of them.")
        raise Invalid(text % {"n": MOST_OPEN}, code="too_many")
    if list_models(owner=owner).count() >= MOST_MODELS:
        raise Invalid(_("You have %(n)d models, which is the most.") % {"n": MOST_MODELS}, code="too_many")
