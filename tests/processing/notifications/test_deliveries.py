"""Webhook deliveries from the row to the receiver, with real HTTP servers and signatures."""

import base64
import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import replicate
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from replicate.webhook import WebhookSigningSecret
from standardwebhooks import Webhook

from accounts.models import User
from processing import services
from processing.job_queue import transitions
from processing.models import Delivery, DeliveryState, Job, WebhookSecret
from processing.notifications import outbox, signing, work
from processing.services import Terms, source_from_file
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns, version
from tests.processing.notifications.receivers import HOST, ReceivedRequest, Receiver, receive

__all__ = ["receive"]
pytestmark = pytest.mark.django_db

Receive = Callable[..., Receiver]


def hooked(owner: User, url: str, *events: str, pictures: int = 1) -> Job:
    files = [upload(owner, f"p{n}.jpg", seed=n) for n in range(pictures)]
    return submit(owner, files, terms=Terms(webhook=url, webhook_events=events))


def predict(owner: User, url: str, *events: str) -> Job:
    source = source_from_file(owner=owner, file_id=upload(owner).pk)
    terms = Terms(webhook=url, webhook_events=events)
    return services.submit_prediction(owner=owner, version=version(), params={}, source=source, terms=terms)


def waiting(owner: User, url: str, **values: Any) -> Delivery:
    """Return a due delivery without a job."""
    return Delivery.objects.create(owner=owner, event="ping", url=url, next_at=Now(), **values)


def make_due() -> None:
    Delivery.objects.filter(state=DeliveryState.WAITING).update(next_at=Now())


def events_of(job: Job) -> list[str]:
    return list(Delivery.objects.filter(job=job).order_by("created_at").values_list("event", flat=True))


def verify(owner: User, got: ReceivedRequest) -> None:
    """Verify with the reference library, and in the way of clients of hosted inference."""
    secret = WebhookSecret.objects.get(owner=owner).secret
    headers = dict(got.headers.items())
    Webhook(secret).verify(got.body, headers)
    key = WebhookSigningSecret(key=secret)
    replicate.webhooks.validate(headers=headers, body=got.body.decode(), secret=key, tolerance=60)


def test_a_prediction_sends_output_and_completed(user: User, receive: Receive, settings: Any) -> None:
    settings.BASE_URL = "https://ipau.example.org"
    receiver = receive()
    job = predict(user, receiver.url)
    take_turns(user)
    assert not work.deliver()
    # In this order, each signed and with its own id.
    assert events_of(job) == ["output", "completed"]
    ids = [str(pk) for pk in Delivery.objects.order_by("created_at").values_list("pk", flat=True)]
    assert [got.headers["webhook-id"] for got in receiver.got] == ids
    for got in receiver.got:
        verify(user, got)
        told = json.loads(got.body)
        assert (told["id"], told["status"], got.path) == (str(job.pk), "succeeded", "/hook?of=me")
        assert told["output"].startswith("https://ipau.example.org/v1/files/")
        assert told["urls"]["get"] == f"https://ipau.example.org/v1/predictions/{job.pk}"
        assert got.headers["Content-Type"] == "application/json"
        assert got.headers["User-Agent"].startswith("IPAU")
        assert got.headers["Host"] == f"{HOST}:{receiver.port}"
        assert got.headers["Authorization"] is None
    done = Delivery.objects.filter(state=DeliveryState.DELIVERED, status=200, answer="thanks", attempts=1)
    assert done.count() == 2
    assert done.filter(delivered_at__isnull=False, body=receiver.got[0].body.decode()).exists()


def test_a_changed_signature_or_body_is_invalid(user: User, receive: Receive) -> None:
    receiver = receive()
    waiting(user, receiver.url)
    work.deliver()
    got = receiver.got[0]
    verify(user, got)
    with pytest.raises(Exception, match="signature"):
        verify(user, ReceivedRequest(got.path, got.headers, got.body + b" "))
    signing.rotate(user)
    with pytest.raises(Exception, match="signature"):
        verify(user, got)


def test_for_a_day_both_secrets_sign(user: User, receive: Receive) -> None:
    receiver = receive()
    before = signing.secret_of(user).secret
    after = signing.rotate(user).secret
    assert before != after
    assert len(base64.b64decode(after.removeprefix("whsec_"))) == 32
    waiting(user, receiver.url)
    work.deliver()
    headers = dict(receiver.got[0].headers.items())
    for secret in (before, after):
        Webhook(secret).verify(receiver.got[0].body, headers)
    WebhookSecret.objects.update(previous_until=timezone.now() - timedelta(seconds=1))
    waiting(user, receiver.url)
    work.deliver()
    headers = dict(receiver.got[1].headers.items())
    Webhook(after).verify(receiver.got[1].body, headers)
    with pytest.raises(Exception, match="signature"):
        Webhook(before).verify(receiver.got[1].body, headers)


def test_a_job_sends_the_requested_events(user: User, receive: Receive) -> None:
    url = receive().url
    for asked, told in [
        ((), ["completed"]),
        (("completed",), ["completed"]),
        (("start", "completed"), ["start", "completed"]),
        (("logs",), []),
        (("start",), ["start"]),
    ]:
        job = hooked(user, url, *asked, pictures=2)
        take_turns(user)
        assert events_of(job) == told
    quiet = submit(user, [upload(user)])
    take_turns(user)
    assert events_of(quiet) == []


def test_output_events_of_a_job_are_limited(user: User, receive: Receive) -> None:
    """There is a minimum interval, and no `output` at the end, where `completed` is sent."""
    job = hooked(user, receive().url, "output", pictures=6)
    for _ in range(3):
        transitions.count(transitions.lock_job(job.pk), succeeded=1)
    assert events_of(job) == ["output"]
    Delivery.objects.update(created_at=timezone.now() - timedelta(seconds=6))
    transitions.count(transitions.lock_job(job.pk), failed=1)
    assert events_of(job) == ["output"] * 2
    Delivery.objects.update(created_at=timezone.now() - timedelta(seconds=6))
    transitions.count(transitions.lock_job(job.pk), succeeded=2)
    assert events_of(job) == ["output"] * 2


def test_a_failed_prediction_sends_only_completed(user: User, receive: Receive) -> None:
    receiver = receive()
    whole = picture_bytes(width=800, height=600)
    broken = upload(user, "bad.jpg", data=whole[: len(whole) // 2])
    job = services.submit_prediction(
        owner=user,
        version=version(),
        params={},
        source=source_from_file(owner=user, file_id=broken.pk),
        terms=Terms(webhook=receiver.url),
    )
    take_turns(user)
    work.deliver()
    assert events_of(job) == ["completed"]
    told = json.loads(receiver.got[0].body)
    assert (told["status"], told["error"]) == ("failed", "This image is damaged: it ends too early.")


def test_canceling_twice_sends_one_event_and_a_retry_another(user: User, receive: Receive) -> None:
    receiver = receive()
    job = hooked(user, receiver.url)
    services.cancel_job(owner=user, job_id=job.pk)
    services.cancel_job(owner=user, job_id=job.pk)
    work.deliver()
    assert events_of(job) == ["completed"]
    assert json.loads(receiver.got[0].body)["status"] == "canceled"
    services.retry_job(owner=user, job_id=job.pk)
    take_turns(user)
    work.deliver()
    assert events_of(job) == ["completed", "completed"]
    assert json.loads(receiver.got[1].body)["status"] == "succeeded"


def test_a_constraint_drops_duplicate_completed_events(user: User) -> None:
    job = submit(user, [upload(user)], terms=Terms(webhook="https://93.184.215.14/", mail_when_done=True))
    transitions.cancel(job.pk)
    job.refresh_from_db()
    for _ in range(2):
        transitions.record.job_moved(job)
    assert events_of(job) == ["completed"]
    assert job.mails.count() == 1


def test_a_rolled_back_change_sends_nothing(user: User, receive: Receive) -> None:
    job = hooked(user, receive().url)
    with transaction.atomic():
        transitions.cancel(job.pk)
        assert events_of(job) == ["completed"]
        transaction.set_rollback(True)
    assert events_of(job) == []


def test_failures_are_retried_with_growing_pauses(user: User, receive: Receive) -> None:
    receiver = receive(answers=[500, 404, 429, 503, 302, 400, 501, 502, 500])
    delivery = waiting(user, receiver.url)
    pauses = []
    for attempt in range(1, len(outbox.PAUSES) + 1):
        work.deliver()
        delivery.refresh_from_db()
        assert (delivery.state, delivery.attempts) == (DeliveryState.WAITING, attempt)
        assert delivery.next_at is not None
        pauses.append((delivery.next_at - timezone.now()).total_seconds())
        # Not before it is due.
        work.deliver()
        assert len(receiver.got) == attempt
        make_due()
    for pause, meant in zip(pauses, outbox.PAUSES, strict=True):
        assert meant - 2 <= pause <= meant * (1 + outbox.JITTER)
    assert sum(outbox.PAUSES) < 24 * 3600
    work.deliver()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.next_at) == (DeliveryState.FAILED, 9, None)
    assert delivery.problem == "The receiver answered 500."
    assert [line["status"] for line in delivery.log] == [500, 404, 429, 503, 302, 400, 501, 502, 500]
    # Same body and id at each attempt, with a new signature.
    assert len({got.body for got in receiver.got}) == 1
    assert {got.headers["webhook-id"] for got in receiver.got} == {str(delivery.pk)}
    verify(user, receiver.got[-1])


def test_a_failure_and_then_success(user: User, receive: Receive) -> None:
    receiver = receive(answers=[500, 204])
    delivery = waiting(user, receiver.url)
    work.deliver()
    make_due()
    work.deliver()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.status, delivery.problem) == (DeliveryState.DELIVERED, 204, "")


def test_410_stops_retries(user: User, receive: Receive) -> None:
    delivery = waiting(user, receive(answers=[410]).url)
    work.deliver()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.status) == (DeliveryState.FAILED, 1, 410)
    assert "410 (Gone), so retries stopped" in delivery.problem


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int, user: User, receive: Receive) -> None:
    target = receive()
    delivery = waiting(user, receive(answers=[status], answer_headers={"Location": target.url}).url)
    work.deliver()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.status) == (DeliveryState.WAITING, status)
    assert "redirect" in delivery.problem
    assert target.connections == 0


def test_a_private_address_is_refused_without_a_connection(
    user: User, receive: Receive, settings: Any
) -> None:
    receiver = receive()
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    delivery = waiting(user, receiver.url)
    work.deliver()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == (DeliveryState.FAILED, 1)
    assert "private network" in delivery.problem
    assert receiver.connections == 0


def test_addresses_of_this_site_are_refused(user: User, receive: Receive, settings: Any) -> None:
    receiver = receive()
    settings.BASE_URL = f"http://{HOST}:{receiver.port}"
    delivery = waiting(user, receiver.url)
    work.deliver()
    delivery.refresh_from_db()
    assert (delivery.state, receiver.connections) == (DeliveryState.FAILED, 0)
    assert "belongs to this site" in delivery.problem


def test_a_slow_receiver_does_not_delay_others(user: User, other_user: User, receive: Receive) -> None:
    slow, quick = receive(delay=1.5), receive()
    for _ in range(6):
        waiting(user, slow.url)
    for _ in range(6):
        waiting(other_user, quick.url)
    ends: dict[str, float] = {}
    begun = time.monotonic()

    def look() -> None:
        while len(quick.got) < 6 and time.monotonic() - begun < 10:
            time.sleep(0.01)
        ends["quick"] = time.monotonic() - begun
        ends["slow"] = len(slow.got)

    watching = threading.Thread(target=look)
    watching.start()
    work.deliver()
    watching.join()
    # All deliveries to the other receiver arrived before the slow one answered its first two.
    assert ends["quick"] < 1.5
    assert ends["slow"] <= outbox.EACH
    assert Delivery.objects.filter(owner=other_user, state=DeliveryState.DELIVERED).count() == 6


def test_turns_share_and_leases_decide(user: User, other_user: User) -> None:
    for owner in (user, other_user):
        for _ in range(3):
            waiting(owner, "https://hooks.example.net/")
    first, second, third = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    held = outbox.claim(Delivery, token=first, number=3, turns=2)
    assert len(held) == 3
    more = outbox.claim(Delivery, token=second, number=9, turns=2)
    # Two of each account at the same time, over all turns.
    assert len(more) == 1
    assert not {d.pk for d in held} & {d.pk for d in more}
    assert outbox.claim(Delivery, token=third, number=9, turns=2) == []
    # The worker died: after the lease another one claims it, and results of the first are ignored.
    lost = held[0]
    Delivery.objects.filter(pk=lost.pk).update(lease_expires_at=Now())
    taken = outbox.claim(Delivery, token=third, number=9, turns=3)
    again = next(d for d in taken if d.pk == lost.pk)
    assert again.attempts == 2
    assert not outbox.record(lost, outbox.Outcome(status=200))
    assert outbox.record(again, outbox.Outcome(status=201))
    assert Delivery.objects.get(pk=lost.pk).status == 201


def test_claims_need_a_constant_number_of_queries(user: User, django_assert_num_queries: Any) -> None:
    for number in (1, 30):
        Delivery.objects.all().delete()
        for _ in range(number):
            waiting(user, "https://hooks.example.net/")
        with django_assert_num_queries(8):
            outbox.claim(Delivery, token=uuid.uuid4(), number=8, turns=2)


def test_old_deliveries_are_swept(user: User) -> None:
    old, young = waiting(user, "https://a.example/"), waiting(user, "https://b.example/")
    Delivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=31))
    assert work.sweep() == 1
    assert list(Delivery.objects.all()) == [young]
