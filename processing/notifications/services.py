"""Webhook services: signing secrets, deliveries, redelivery and tests."""

import uuid

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from accounts.models import User
from ipau.common.errors import Invalid, NotFound, RateLimited
from ipau.common.http import concurrency
from processing.models import Delivery, DeliveryState
from processing.notifications import outbox, signing, url_policy
from processing.notifications import tasks as notifications_tasks
from processing.notifications.record import Event

# Waiting tests of one account. Bounded, because they go to any address that is typed.
MOST_PINGS = 5


def check_address(*, url: str) -> None:
    """Check whether deliveries may go to an address.

    Raises:
        Invalid: the address is not allowed. The field is `webhook`.
        RateLimited, Unavailable: too many requests are waiting.
    """
    try:
        # The owner of the name server decides how long this takes.
        with concurrency.waiting():
            url_policy.check(url)
    except url_policy.AddressRefused as error:
        raise Invalid(str(error), code="webhook", fields={"webhook": str(error)}) from error


def get_secret(*, owner: User) -> str:
    """Return the secret that signs deliveries of the owner. The first call creates it."""
    return signing.secret_of(owner).secret


def rotate_secret(*, owner: User) -> str:
    """Create and return a new secret. The previous one also signs for one more day."""
    return signing.rotate(owner).secret


def list_deliveries(
    *, owner: User, state: str | None = None, job_id: uuid.UUID | None = None
) -> QuerySet[Delivery]:
    """Return deliveries of the owner, optionally by state or job, without their bodies."""
    rows = Delivery.objects.filter(owner=owner)
    if state:
        rows = rows.filter(state=state)
    if job_id:
        rows = rows.filter(job=job_id)
    return rows.defer("body", "answer", "log")


def get_delivery(*, owner: User, delivery_id: uuid.UUID) -> Delivery:
    """Return one delivery of the owner.

    Raises:
        NotFound: the owner has no delivery with this id.
    """
    delivery: Delivery | None = Delivery.objects.filter(owner=owner, pk=delivery_id).first()
    if delivery is None:
        raise NotFound(_("This delivery does not exist."))
    return delivery


def redeliver(*, owner: User, delivery_id: uuid.UUID) -> Delivery:
    """Send a delivery again now, in any state, with the same id and body.

    Raises:
        NotFound: the owner has no delivery with this id.
        Conflict: it is being sent right now.
    """
    delivery = get_delivery(owner=owner, delivery_id=delivery_id)
    with transaction.atomic():
        outbox.send_again(delivery)
        transaction.on_commit(lambda: notifications_tasks.send_notices(owner_id=owner.pk))
    return get_delivery(owner=owner, delivery_id=delivery_id)


def send_ping(*, owner: User, url: str) -> Delivery:
    """Send a test delivery to an address.

    Raises:
        Invalid: the address is not allowed.
        RateLimited: too many tests are waiting.
    """
    check_address(url=url)
    pings = Delivery.objects.filter(owner=owner, event=Event.PING, state=DeliveryState.WAITING)
    if pings.count() >= MOST_PINGS:
        raise RateLimited(_("Several tests are still being sent. Wait until they end."))
    with transaction.atomic():
        ping = Delivery.objects.create(owner=owner, event=Event.PING, url=url, next_at=Now())
        transaction.on_commit(lambda: notifications_tasks.send_notices(owner_id=owner.pk))
    return ping
