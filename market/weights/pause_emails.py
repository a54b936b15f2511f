"""E-mails to sellers about paused models."""

import logging
import smtplib
from datetime import timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from ipau.common import leases
from market.models import Listing, Pause

logger = logging.getLogger(__name__)

# Longer than the task. A lease instead of a row lock: a slow mail server must not block counting kills.
LEASE = timedelta(minutes=6)
# Delay after the mail server failed.
RETRY_AFTER = timedelta(minutes=10)
# Pauses per run of the task.
MOST_AT_ONCE = 20


def due() -> QuerySet[Pause]:
    """Return the pauses with a due e-mail."""
    return Pause.objects.filter(tell_at__lte=Now())


def send_due() -> None:
    """E-mail the sellers of paused models. Retries later if the mail server fails."""
    for _round in range(MOST_AT_ONCE):
        pause = leases.claim_first(due().order_by("tell_at"), lease=LEASE)
        if pause is None:
            return
        _notify_sellers(pause)


def _notify_sellers(pause: Pause) -> None:
    listings = Listing.objects.filter(versions__weights=pause.weights_id, archived_at=None)
    must_retry = False
    for listing in listings.filter(owner__is_active=True).select_related("owner").distinct():
        try:
            _compose(listing).send()
        except smtplib.SMTPRecipientsRefused:
            logger.warning("The mail server rejects the address of the seller of listing %s", listing.pk)
        except (smtplib.SMTPException, OSError):
            logger.warning(
                "The e-mail about the paused listing %s was not sent; it will be retried",
                listing.pk,
                exc_info=True,
            )
            must_retry = True
    tell_at = Now() + RETRY_AFTER if must_retry else None
    # The row no longer exists if an operator has resumed the model in the meantime.
    rows = Pause.objects.filter(pk=pause.pk)
    leases.release(rows, token=pause.lease_token, tell_at=tell_at, updated_at=Now())


def _compose(listing: Listing) -> EmailMessage:
    with translation.override(settings.LANGUAGE_CODE):
        context = {
            "listing": listing,
            "kills": settings.MODEL_MOST_KILLS,
            "url": settings.BASE_URL + reverse("processing:app", args=[listing.owner.handle, listing.name]),
        }
        subject = _("%(title)s is paused") % {"title": listing.title}
        return EmailMessage(
            subject=settings.EMAIL_SUBJECT_PREFIX + subject,
            body=render_to_string("market/mail/model_paused.txt", context),
            to=[listing.owner.email],
        )
