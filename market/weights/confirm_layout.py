"""Confirm or correct the detected output layout of an ONNX graph."""

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

# Layouts that a `config.json` can name. For others the task determines the layout.
NAMED_LAYOUTS = ("anchors", "yolov5", "yolox", "yolox-decoded", "end-to-end", "labels", "semantic")


def confirm_conversion(
    *, owner: User, conversion_id: object, task: str | None = None, layout: str | None = None
) -> Conversion:
    """Confirm the output layout of a converted graph, or convert it again with another layout.

    A confirmed version can be run by others, and becomes public if `publish` was set. A version with another
    layout is converted again and has to be confirmed again.

    Args:
        task: the correct task. Without `task` and `layout`: as detected.
        layout: the correct layout, as named in the report's `choices`.

    Raises:
        NotFound: there is no such conversion.
        Conflict: the conversion does not need confirmation.
        Invalid: the layout does not fit the outputs, or the file is no longer in the drive.
        RateLimited: the account's conversion time for today is used up.
    """
    conversion = conversions.get_conversion(owner=owner, conversion_id=conversion_id)
    if not conversion.needs_confirmation:
        raise Conflict(_("This conversion does not need confirmation."), code="not_waiting")
    choices = conversion.report.get("choices") or []
    position = _find(choices, task, layout)
    if position == 0:
        return _confirm(conversion)
    return _convert_again(conversion, choices[position])


def _find(choices: list[Mapping[str, Any]], task: str | None, layout: str | None) -> int:
    """Return the position of the matching choice. The first is the current layout."""
    if task is None and layout is None:
        return 0
    for position, choice in enumerate(choices):
        if (task is None or choice["task"] == task) and (layout is None or choice["layout"] == layout):
            return position
    text = _("This layout does not fit the outputs of the model. Choose one of the report's choices.")
    raise Invalid(text, code="no_such_layout", fields={"layout": text})


@transaction.atomic
def _confirm(conversion: Conversion) -> Conversion:
    waiting = Version.objects.filter(conversions=conversion, is_confirmed=False)
    confirmed = waiting.update(is_confirmed=True, updated_at=timezone.now())
    if not confirmed:
        raise Conflict(_("This conversion does not need confirmation."), code="not_waiting")
    if conversion.publish:
        Listing.objects.filter(versions=conversion.version_id, taken_down=False, archived_at=None).update(
            visibility=Visibility.PUBLIC, updated_at=timezone.now()
        )
    return conversions.get_conversion(owner=conversion.owner, conversion_id=conversion.pk)


def _convert_again(conversion: Conversion, choice: Mapping[str, Any]) -> Conversion:
    """Convert the weights again with this choice in `config.json`. Success deletes the wrong version."""
    file = conversions.file_to_convert(conversion)
    settings = json.loads(conversion.config) if conversion.config else {}
    settings = {name: value for name, value in settings.items() if name not in ("task", "layout")}
    settings["task"] = choice["task"]
    if choice["layout"] in NAMED_LAYOUTS:
        settings["layout"] = choice["layout"]
    config = conversions.check_config(json.dumps(settings, ensure_ascii=False))
    conversions.check_limits(conversion.owner)
    check_budget(conversion.owner_id)
    with transaction.atomic():
        waiting = Conversion.objects.filter(
            pk=conversion.pk,
            state=ConversionState.SUCCEEDED,
            version=conversion.version_id,
            version__is_confirmed=False,
        )
        if not conversions.restart(waiting, file, config=config, version=None, corrects=conversion.version):
            raise Conflict(_("This conversion does not need confirmation."), code="not_waiting")
        transaction.on_commit(tasks.send_turn)
    return conversions.get_conversion(owner=conversion.owner, conversion_id=conversion.pk)
