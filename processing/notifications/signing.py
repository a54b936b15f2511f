"""Webhook secrets and signatures, as specified by Standard Webhooks."""

import base64
import secrets
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.utils import timezone
from standardwebhooks import Webhook

from accounts.models import User
from processing.models import Delivery, WebhookSecret

START = "whsec_"
KEY_BYTES = 32
# After a rotation, deliveries carry signatures of both keys for this long.
OVERLAP = timedelta(days=1)


def secret_of(owner: User) -> WebhookSecret:
    """Return the secret of the owner. The first call creates it."""
    row, _ = WebhookSecret.objects.get_or_create(owner=owner, defaults={"secret": _new()})
    return row


def rotate(owner: User) -> WebhookSecret:
    """Create a new secret for the owner. The previous one also signs for one more day."""
    with transaction.atomic():
        row = WebhookSecret.objects.select_for_update().get(pk=secret_of(owner).pk)
        row.previous, row.previous_until = row.secret, timezone.now() + OVERLAP
        row.secret = _new()
        row.save()
    return row


def headers_for(delivery: Delivery, secret: WebhookSecret) -> dict[str, str]:
    """Return the headers with the id, time and signatures of a delivery that is sent now."""
    now = datetime.now(UTC)
    keys = [secret.secret]
    if secret.previous and secret.previous_until and secret.previous_until > now:
        keys.append(secret.previous)
    name = str(delivery.pk)
    signatures = [Webhook(key).sign(msg_id=name, timestamp=now, data=delivery.body) for key in keys]
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _new() -> str:
    # Standard base64, which receivers decode. The URL-safe form has `_`, where some receivers split.
    return START + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
