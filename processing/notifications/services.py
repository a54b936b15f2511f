"""What people do with webhooks: their secret, what was delivered, delivering again, a test."""

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

# Tests of one person that wait at once: they go to whatever address somebody types.
MOST_PINGS = 5


def check_address(*, url: str) -> None:
    """See whether deliveries may go to an address.

    Raises:
        Invalid: they may not. The field is `webhook`.
        RateLimited, Unavailable: too many requests wait, for name servers or something else.
    """
    try:
        # Whoever has a name server decides how long it takes.
        with concurrency.waiting():
            url_policy.check(url)
    except url_policy.Refused as error:
        raise Invalid(str(error), code="webhook", fields={"webhook": str(error)}) from error


def get_secret(*, owner: User) -> str:
    """Return the secret that signs the owner's deliveries; it is made when it is first asked for."""
    return signing.secret_of(owner).secret


def rotate_secret(*, owner: User) -> str:
    """Make a new secret and return it. For a day the one before signs beside it."""
    return signing.rotate(owner).secret


def list_deliveries(
    *, owner: User, state: str | None = None, job_id: uuid.UUID | None = None
) -> QuerySet[Delivery]:
    """Return the owner's deliveries, all or those in a state or about a job, without their bodies."""
    rows = Delivery.objects.filter(owner=owner)
    if state:
        rows = rows.filter(state=state)
    if job_id:
        rows = rows.filter(job=job_id)
    return rows.defer("body", "answer", "log")


def get_delivery(*, owner: User, delivery_id: uuid.UUID) -> Delivery:
    """Return one of the owner's deliveries.

    Raises:
        NotFound: there is none with this id.
    """
    found: Delivery | None = Delivery.objects.filter(owner=owner, pk=delivery_id).first()
    if found is None:
        raise NotFound(_("This delivery does not exist."))
    return found


def redeliver(*, owner: User, delivery_id: uuid.UUID) -> Delivery:
    """Send a delivery once more now, whatever came of it, under the same id and with the same words.

    Raises:
        NotFound: there is none with this id.
        Conflict: it is being sent at this moment.
    """
    delivery = get_delivery(owner=owner, delivery_id=delivery_id)
    with transaction.atomic():
        outbox.send_again(delivery)
        transaction.on_commit(lambda: notifications_tasks.send_notices(owner_id=owner.pk))
    return get_delivery(owner=owner, delivery_id=delivery_id)


def send_ping(*, owner: User, url: str) -> Delivery:
    """Send a test to an address.

    Raises:
        Invalid: nothing may be delivered there.
        RateLimited: several tests wait already.
    """
    check_address(url=url)
    pings = Delivery.objects.filter(owner=owner, event=Event.PING, state=DeliveryState.WAITING)
    if pings.count() >= MOST_PINGS:
        raise RateLimited(_("Several tests are still on their way. Wait for what comes of them."))
    with transaction.atomic():
        made = Delivery.objects.create(owner=owner, event=Event.PING, url=url, next_at=Now())
        transaction.on_commit(lambda: notifications_tasks.send_notices(owner_id=owner.pk))
    return made
