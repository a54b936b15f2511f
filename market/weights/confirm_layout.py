"""Layouts of uploaded graphs: their owner sees what was recognised and says whether it is right."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from ipau.common.errors import Conflict, Invalid
from market.models import Conversion, ConversionState, Listing, Version, Visibility
from market.sandbox.budgets import check_budget
from market.weights import conversions, tasks

# Those that a `config.json` can name; of all others the task alone tells the layout.
NAMED_LAYOUTS = ("anchors", "yolov5", "yolox", "yolox-decoded", "end-to-end", "labels", "semantic")


def confirm_conversion(
    *, owner: User, conversion_id: object, task: str | None = None, layout: str | None = None
) -> Conversion:
    """Confirm how the outputs of a converted graph are read, or have it read in another way that fits.

    Confirmed, the version may be run by others; where that was asked for, everybody now finds it. Read in
    another way, it is converted once more, and is to be confirmed again.

    Args:
        task: of the way that is right; with `layout` left out, as it was recognised.
        layout: as the report's `choices` name it.

    Raises:
        NotFound: there is no such conversion.
        Conflict: it does not wait to be confirmed.
        Invalid: the outputs cannot be read so, or the file is gone from the drive.
        RateLimited: the person's minutes of conversions for today are used up.
    """
    conversion = conversions.get_conversion(owner=owner, conversion_id=conversion_id)
    if not conversion.awaits_word:
        raise Conflict(_("This conversion does not wait to be confirmed."), code="not_waiting")
    choices = conversion.report.get("choices") or []
    wanted = _find(choices, task, layout)
    if wanted == 0:
        return _confirm(conversion)
    return _read_anew(conversion, choices[wanted])


def _find(choices: list[Mapping[str, Any]], task: str | None, layout: str | None) -> int:
    """Return the position of the choice that is meant; the first is how it was read."""
    if task is None and layout is None:
        return 0
    for position, choice in enumerate(choices):
        if (task is None or choice["task"] == task) and (layout is None or choice["layout"] == layout):
            return position
    text = _("Its outputs cannot be read so.")
    raise Invalid(text, code="no_such_layout", fields={"layout": text})


@transaction.atomic
def _confirm(conversion: Conversion) -> Conversion:
    waiting = Version.objects.filter(conversions=conversion, is_confirmed=False)
    moved = waiting.update(is_confirmed=True, updated_at=timezone.now())
    if not moved:
        raise Conflict(_("This conversion does not wait to be confirmed."), code="not_waiting")
    if conversion.publish:
        Listing.objects.filter(versions=conversion.version_id, taken_down=False, archived_at=None).update(
            visibility=Visibility.PUBLIC, updated_at=timezone.now()
        )
    return conversions.get_conversion(owner=conversion.owner, conversion_id=conversion.pk)


def _read_anew(conversion: Conversion, choice: Mapping[str, Any]) -> Conversion:
    """Convert it again, with the choice written into its `config.json`; the wrong version goes then."""
    file = conversions.file_to_convert(conversion)
    said = json.loads(conversion.config) if conversion.config else {}
    said = {name: value for name, value in said.items() if name not in ("task", "layout")}
    said["task"] = choice["task"]
    if choice["layout"] in NAMED_LAYOUTS:
        said["layout"] = choice["layout"]
    config = conversions.check_config(json.dumps(said, ensure_ascii=False))
    conversions.check_numbers(conversion.owner)
    check_budget(conversion.owner_id)
    with transaction.atomic():
        waiting = Conversion.objects.filter(
            pk=conversion.pk,
            state=ConversionState.SUCCEEDED,
            version=conversion.version_id,
            version__is_confirmed=False,
        )
        if not conversions.begin_anew(
            waiting, file, config=config, version=None, corrects=conversion.version
        ):
            raise Conflict(_("This conversion does not wait to be confirmed."), code="not_waiting")
        transaction.on_commit(tasks.send_turn)
    return conversions.get_conversion(owner=conversion.owner, conversion_id=conversion.pk)
