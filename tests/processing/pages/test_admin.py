"""Admin pages of jobs, workers and listings."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from market.models import Conversion, Listing, Version
from processing.fleet import registry
from processing.models import Delivery, Item, Job, JobMail, State
from processing.services import Terms
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.market.factories import marks, model
from tests.processing.factories import submit, take_turns

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client_of: Callable[[User], Client]) -> Client:
    return client_of(UserFactory(is_staff=True, is_superuser=True))


def test_lists_and_rows_are_shown(staff: Client, user: User) -> None:
    job = submit(user, [upload(user)], terms=Terms(webhook="https://93.184.215.14/", mail_when_done=True))
    take_turns(user)
    registry.record_heartbeat(
        name="w@here", queues=["cpu"], device="cpu", pids=[1], started_at=timezone.now()
    )
    with marks():
        version = model(user)
    rows = {
        "processing/job": job.pk,
        "processing/item": Item.objects.get(job=job).pk,
        "processing/worker": "w_40here",
        "processing/delivery": Delivery.objects.get(job=job).pk,
        "processing/jobmail": JobMail.objects.get(job=job).pk,
        "market/listing": Listing.objects.get(name="mosaic").pk,
        "market/weights": version.weights_id,
        "market/conversion": Conversion.objects.get().pk,
        "market/version": Version.objects.filter(listing__name="mosaic")[0].pk,
    }
    for table, key in rows.items():
        assert staff.get(f"/admin/{table}/").status_code == 200
        assert staff.get(f"/admin/{table}/?q=a").status_code == 200
        assert staff.get(f"/admin/{table}/{key}/change/").status_code == 200


def test_jobs_are_canceled_from_the_list(staff: Client, user: User) -> None:
    job = submit(user, [upload(user)])
    staff.post("/admin/processing/job/", {"action": "cancel_jobs", "_selected_action": [str(job.pk)]})
    assert Job.objects.get(pk=job.pk).state == State.CANCELED


def test_listing_texts_can_be_edited(staff: Client) -> None:
    listing = Listing.objects.get(name="mosaic")
    sent = {"tier": "basic", "title": "Tiles", "summary": "s", "description": "d", "visibility": "private"}
    assert staff.post(f"/admin/market/listing/{listing.pk}/change/", sent).status_code == 302
    listing.refresh_from_db()
    assert (listing.title, listing.visibility) == ("Tiles", "private")
    assert staff.get("/admin/market/listing/add/").status_code == 403


def test_history_cannot_be_changed(staff: Client, user: User) -> None:
    job = submit(user, [upload(user)])
    assert staff.post(f"/admin/processing/job/{job.pk}/change/", {"state": "failed"}).status_code == 403
    assert staff.post(f"/admin/processing/job/{job.pk}/delete/", {"post": "yes"}).status_code == 403
