"""Compression of pages. Static files are compressed when they are collected, and images always are.

An attacker who sees the size of compressed pages could guess a secret in them (BREACH). Django adds a random
number of bytes to each response, and its form tokens differ each time.
"""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

# JSON of the API often holds images in base64, which cost much time and shrink little.
TYPES = ("text/html", "text/csv")


class CompressionMiddleware(GZipMiddleware):
    """Compress pages and tables that are sent at once. Streams, such as live progress, stay as they are."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if response.streaming or kind not in TYPES:
            return response
        return super().process_response(request, response)
