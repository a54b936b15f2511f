"""Tests of the API with requests that browsers and their libraries send."""

import base64
import hashlib
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page

from accounts.models import User
from drive.models import File, Upload
from processing.jobs.data_uris import NotADataUri, read_data_uri
from tests.factories import UserFactory
from tests.pictures import picture_bytes
from tests.processing.jobs.test_data_uris import READ, REFUSED

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SEND = """
async ([content, parts, override]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const token = document.cookie.match(/csrftoken=([^;]+)/)[1];
  return new Promise((resolve) => {
    const upload = new window.tus.Upload(new Blob([bytes]), {
      endpoint: "/v1/uploads",
      parallelUploads: parts,
      chunkSize: 70000,
      overridePatchMethod: override,
      retryDelays: null,
      storeFingerprintForResuming: false,
      metadata: { filename: "sea.png" },
      headers: { "X-CSRFToken": token },
      onSuccess: () => resolve("sent"),
      onError: (error) => resolve(String(error)),
    });
    upload.start();
  });
}
"""
FETCH = """
async (uri) => {
  try {
    const found = new Uint8Array(await (await fetch(uri)).arrayBuffer());
    return btoa(Array.from(found, (byte) => String.fromCharCode(byte)).join(""));
  } catch { return null; }
}
"""
# Which browsers refuse: the other alphabet of base64.
OURS = {"for addresses", "for addresses, no padding"}


@pytest.mark.parametrize(("parts", "override"), [(3, False), (1, True), (4, True)])
def test_the_client_of_tus_sends_parts_side_by_side(
    parts: int, override: bool, signed_in_page: Callable[..., Page]
) -> None:
    user: User = UserFactory()
    data = picture_bytes("PNG", 500, 400, seed=3) + bytes(200_000)
    page = signed_in_page(user)
    page.goto("/drive/")
    assert page.evaluate(SEND, [base64.b64encode(data).decode(), parts, override]) == "sent"
    file = File.objects.get(owner=user)
    assert (file.name, file.blob_id) == ("sea.png", hashlib.sha256(data).hexdigest())
    assert Upload.objects.filter(owner=user).count() == 1


def test_data_uris_are_read_as_the_browser_reads_them(browser: Browser) -> None:
    page = browser.new_page()
    try:
        for name, uri in {**READ, **{name: uri for name, (uri, _reason) in REFUSED.items()}}.items():
            if name == "a head without end":
                # Refused by us for its length alone.
                continue
            told = page.evaluate(FETCH, uri)
            try:
                ours = base64.b64encode(read_data_uri(uri)).decode()
            except NotADataUri:
                ours = None
            assert (told is None) == (name in OURS or ours is None), name
            assert told in (ours, None), name
    finally:
        page.close()
