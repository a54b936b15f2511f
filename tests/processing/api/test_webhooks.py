"""Webhooks over the API: request fields, secret, deliveries and redelivery."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import replicate
from django.db.models.functions import Now
from pytest_django.live_server_helper import LiveServer
from rest_framework.test import APIClient
from standardwebhooks import Webhook

from accounts.models import User
from accounts.services import create_api_key
from processing.execution import tasks
from processing.models import Delivery, DeliveryState, Job, JobMail
from processing.notifications import signing, work
from processing.notifications.outbox import LEASE
from tests.api import doc_commands
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.processing.factories import take_turns
from tests.processing.notifications.receivers import HOST, Receiver, receive

__all__ = ["receive"]
pytestmark = pytest.mark.django_db

Api = Callable[..., APIClient]
Receive = Callable[..., Receiver]
RUN = "/v1/models/ipau/blackwhite/predictions"


def body(user: User, url: str | None, **more: Any) -> dict[str, Any]:
    return {"input": {"image": str(upload(user).pk)}, "webhook": url, **more}


def job_body(user: User, url: str, **more: Any) -> dict[str, Any]:
    return {"model": "ipau/blackwhite", "files": [str(upload(user).pk)], "webhook": url, **more}


def test_bodies_equal_the_responses_of_the_api(user: User, api: Api, receive: Receive, settings: Any) -> None:
    settings.BASE_URL = "http://testserver"
    receiver, client = receive(), api(user)
    events = ["start", "output", "logs", "completed"]
    sent = [
        (
            "/v1/predictions/",
            client.post(RUN, body(user, receiver.url, webhook_events_filter=events), "json"),
        ),
        ("/v1/jobs/", client.post("/v1/jobs", job_body(user, receiver.url), "json")),
    ]
    take_turns(user)
    work.deliver()
    bodies = {json.loads(got.body)["id"]: json.loads(got.body) for got in receiver.got}
    # Start, output and end of a prediction, and the end of a job.
    assert len(receiver.got) == 4
    for path, answer in sent:
        assert answer.status_code == 201, answer.json()
        response = client.get(path + answer.json()["id"]).json()
        if path == "/v1/predictions/":
            # Over plain HTTP, the API returns the image inline. A delivery has its URL.
            response["output"] = client.get("/v1/predictions").json()["results"][0]["output"]
        assert bodies[response["id"]] == response


def test_a_refused_address_creates_no_job(user: User, api: Api, settings: Any) -> None:
    client = api(user)
    for url in (
        "http://hooks.example.net/",
        "https://127.0.0.1:9000/",
        "https://[::ffff:127.0.0.1]:9000/",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/",
        "https://localhost/v1/predictions",
        "nonsense",
        "https://hooks.example.net/" + "a" * 500,
    ):
        for path, sent in ((RUN, body(user, url)), ("/v1/jobs", job_body(user, url))):
            answer = client.post(path, sent, "json")
            assert answer.status_code == 422, (path, url)
            assert list(answer.json()["errors"]) == ["webhook"]
    wrong = client.post(RUN, body(user, None, webhook_events_filter=["done"]), "json")
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["webhook_events_filter"])
    assert not Job.objects.exists()
    for nothing in (None, ""):
        assert client.post(RUN, body(user, nothing, webhook_events_filter=None), "json").status_code == 201


def test_another_address_is_another_request(user: User, api: Api, receive: Receive) -> None:
    client, url = api(user), receive().url
    sent = body(user, url, webhook_events_filter=["completed", "start"])
    first = client.post(RUN, sent, "json", HTTP_IDEMPOTENCY_KEY="k")
    turned = {**sent, "webhook_events_filter": ["start", "completed", "start"]}
    assert client.post(RUN, turned, "json", HTTP_IDEMPOTENCY_KEY="k").json()["id"] == first.json()["id"]
    other = client.post(RUN, {**sent, "webhook": url + "2"}, "json", HTTP_IDEMPOTENCY_KEY="k")
    assert other.status_code == 409


def test_each_account_has_a_secret_and_can_rotate_it(user: User, other_user: User, api: Api) -> None:
    client = api(user)
    answer = client.get("/v1/webhooks/default/secret")
    key = answer.json()["key"]
    assert (answer["Cache-Control"], list(answer.json())) == ("no-store", ["key"])
    assert key.startswith("whsec_")
    assert key.count("_") == 1
    assert client.get("/v1/webhooks/default/secret").json()["key"] == key
    assert api(other_user).get("/v1/webhooks/default/secret").json()["key"] != key
    new = client.post("/v1/webhooks/default/secret/rotate").json()["key"]
    assert new != key
    assert client.get("/v1/webhooks/default/secret").json()["key"] == new


def test_log_and_redelivery(user: User, api: Api, receive: Receive, django_assert_num_queries: Any) -> None:
    receiver, client = receive(answers=[500, 410, 200]), api(user)
    job = client.post("/v1/jobs", job_body(user, receiver.url), "json").json()
    take_turns(user)
    work.deliver()
    listed = client.get("/v1/webhooks/deliveries").json()["results"]
    assert [(d["job"], d["event"], d["state"], d["status"], d["attempts"]) for d in listed] == [
        (job["id"], "completed", "waiting", 500, 1)
    ]
    assert "body" not in listed[0]
    one = client.get(listed[0]["urls"]["get"]).json()
    assert json.loads(one["body"])["id"] == job["id"]
    assert (one["answer"], [line["status"] for line in one["log"]]) == ("thanks", [500])

    again = client.post(listed[0]["urls"]["redeliver"])
    assert (again.status_code, again.json()["attempts"]) == (202, 0)
    work.deliver()
    assert client.get(one["urls"]["get"]).json()["state"] == "failed"
    client.post(one["urls"]["redeliver"])
    work.deliver()
    done = client.get(one["urls"]["get"]).json()
    assert (done["state"], done["problem"], len(done["log"])) == ("delivered", "", 3)
    # Same id and body each time.
    assert len({(got.headers["webhook-id"], got.body) for got in receiver.got}) == 1
    client.post(one["urls"]["redeliver"])
    work.deliver()
    assert len(receiver.got) == 4

    Delivery.objects.update(state=DeliveryState.WAITING, lease_expires_at=Now() + LEASE)
    busy = client.post(one["urls"]["redeliver"])
    assert (busy.status_code, busy.json()["type"]) == (409, "about:blank#being_sent")


def test_lists_are_paged_in_constant_queries(user: User, api: Api, django_assert_num_queries: Any) -> None:
    client = api(user)
    deliveries = [
        Delivery.objects.create(owner=user, event="ping", url=f"https://a.example/{n}", state=state)
        for n, state in enumerate(["failed", "failed", "waiting", "delivered"])
    ]
    # The first request of a key records its use.
    client.get("/v1/webhooks/deliveries")
    for limit in (1, 4):
        with django_assert_num_queries(2):
            page = client.get(f"/v1/webhooks/deliveries?limit={limit}").json()
        assert [d["id"] for d in page["results"]] == sorted((str(d.pk) for d in deliveries), reverse=True)[
            :limit
        ]
    failed = client.get("/v1/webhooks/deliveries?state=failed").json()["results"]
    assert [d["id"] for d in failed] == sorted((str(d.pk) for d in deliveries[:2]), reverse=True)
    assert client.get(f"/v1/webhooks/deliveries?job={deliveries[0].pk}").json()["results"] == []
    assert client.get("/v1/webhooks/deliveries?state=lost").status_code == 422


def test_the_check_in_the_guide_works(user: User, receive: Receive) -> None:
    receiver = receive()
    Delivery.objects.create(owner=user, event="ping", url=receiver.url, next_at=Now())
    work.deliver()
    guide: dict[str, Any] = {}
    exec(doc_commands.blocks("reference/api.md", "python")[1], guide)  # the code in the guide
    got, key = receiver.got[0], signing.secret_of(user).secret
    assert guide["is_genuine"](got.headers, got.body, key)
    assert not guide["is_genuine"](got.headers, got.body + b" ", key)
    assert not guide["is_genuine"](got.headers, got.body, signing.rotate(user).secret)


def test_an_email_can_be_requested(user: User, api: Api, mailoutbox: list[Any]) -> None:
    sent = {**job_body(user, ""), "mail_when_done": True}
    assert api(user).post("/v1/jobs", sent, "json").status_code == 201
    take_turns(user)
    work.send_mails()
    assert [mail.to for mail in mailoutbox] == [[user.email]]
    assert JobMail.objects.get().state == DeliveryState.DELIVERED


@pytest.mark.worker
def test_a_worker_delivers_to_a_client_of_hosted_inference(
    celery_worker: Callable[..., LiveWorker],
    live_server: LiveServer,
    user: User,
    receive: Receive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The unmodified client sends a request, a worker delivers, and the client checks the signature."""
    receiver = receive()
    celery_worker(IPAU_WEBHOOK_ALLOW_HTTP="true", IPAU_WEBHOOK_ALLOWED_NETWORKS=f"{HOST}/32")
    monkeypatch.setenv("REPLICATE_BASE_URL", live_server.url)
    client = replicate.Client(api_token=create_api_key(user=user, name="test").secret)
    prediction = client.predictions.create(
        version="ipau/blackwhite",
        input={"image": str(upload(user).pk)},
        webhook=receiver.url,
        webhook_events_filter=["start", "completed"],
    )
    # Without the sweep, because no beat runs here.
    ends = time.monotonic() + 30
    while len(receiver.got) < 2 and time.monotonic() < ends:
        time.sleep(0.05)
    assert [got.headers["webhook-id"] for got in receiver.got] == [
        str(pk) for pk in Delivery.objects.order_by("created_at").values_list("pk", flat=True)
    ]
    secret = client.webhooks.default.secret()
    for got in receiver.got:
        headers = dict(got.headers.items())
        client.webhooks.validate(headers=headers, body=got.body.decode(), secret=secret, tolerance=60)
        Webhook(secret.key).verify(got.body, headers)
    assert json.loads(receiver.got[-1].body)["id"] == prediction.id
    assert json.loads(receiver.got[-1].body)["status"] == "succeeded"
    client._client.close()

    # The sweep finds deliveries of a process that died before it sent a wake-up.
    Delivery.objects.create(owner=user, event="ping", url=receiver.url, next_at=Now())
    tasks.sweep()
    ends = time.monotonic() + 30
    while len(receiver.got) < 3 and time.monotonic() < ends:
        time.sleep(0.05)
    assert json.loads(receiver.got[-1].body)["type"] == "ping"
