"""Mails to sellers that a model of theirs is paused."""

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

# Outlasts the task. A mail server that hangs locks no row: whoever counts a kill would wait for it.
LEASE = timedelta(minutes=6)
# After a mail server that did not take a mail.
TRY_AGAIN_AFTER = timedelta(minutes=10)
# Pauses of one round.
MOST_AT_ONCE = 20


def due() -> QuerySet[Pause]:
    """Return the pauses whose sellers are to be told now."""
    return Pause.objects.filter(tell_at__lte=Now())


def send_due() -> None:
    """Tell the sellers of paused models; what a mail server does not take is tried again later."""
    for _round in range(MOST_AT_ONCE):
        pause = leases.claim_first(due().order_by("tell_at"), lease=LEASE)
        if pause is None:
            return
        _tell_sellers(pause)


def _tell_sellers(pause: Pause) -> None:
    listings = Listing.objects.filter(versions__weights=pause.weights_id, archived_at=None)
    again = False
    for listing in listings.filter(owner__is_active=True).select_related("owner").distinct():
        try:
            _write(listing).send()
        except smtplib.SMTPRecipientsRefused:
            logger.warning("The mail server refuses the address of the seller of %s", listing.pk)
        except (smtplib.SMTPException, OSError):
            logger.warning("The mail that %s is paused was not sent", listing.pk, exc_info=True)
            again = True
    tell_at = Now() + TRY_AGAIN_AFTER if again else None
    # The row is gone where an operator has let the model run again meanwhile.
    rows = Pause.objects.filter(pk=pause.pk)
    leases.release(rows, token=pause.lease_token, tell_at=tell_at, updated_at=Now())


def _write(listing: Listing) -> EmailMessage:
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
