"""Code snippets that call an app: for curl and for the Python client of Replicate.

A snippet is the text before the input, the input, and the text after it. A script rewrites the input.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from drive.models import File

PICTURE = "image"
# Placeholder for the file id when no file is chosen.
NO_FILE = "FILE-ID"


@dataclass(frozen=True)
class Snippet:
    """One snippet. `language` is the syntax of the middle: "json" or "python"."""

    name: str
    title: str
    language: str
    before: str
    middle: str
    after: str


def write_all(
    request: HttpRequest, address: str, params: Mapping[str, Any], picture: File | None
) -> list[Snippet]:
    """Return the snippets of an app, with these parameters and this image, if any."""
    root = request.build_absolute_uri("/").rstrip("/")
    values = {name: value for name, value in params.items() if value is not None}
    return [_curl(root, address, values, picture), _python(root, address, values)]


def files_url(request: HttpRequest) -> str:
    """Return the API address of files, to which a file id is appended."""
    return request.build_absolute_uri("/v1/files/")


def _curl(root: str, address: str, params: Mapping[str, Any], picture: File | None) -> Snippet:
    path = f"/v1/models/{address}/predictions"
    before = (
        f"curl -s {root}{path} \\\n"
        '  -H "Authorization: Bearer $IPAU_API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        '  -H "Prefer: wait" \\\n'
        "  --data-binary @- <<'EOF'\n"
        '{"input": '
    )
    values = {PICTURE: f"{root}/v1/files/{picture.pk if picture else NO_FILE}", **params}
    return Snippet("curl", "curl", "json", before, json.dumps(values, ensure_ascii=False, indent=2), "}\nEOF")


def _python(root: str, address: str, params: Mapping[str, Any]) -> Snippet:
    before = (
        "# pip install replicate\n"
        f"# export REPLICATE_BASE_URL={root}\n"
        "# export REPLICATE_API_TOKEN=<your key>\n"
        "import replicate\n\n"
        "output = replicate.run(\n"
        f'    "{address}",\n'
        "    input="
    )
    lines = [f'        "{PICTURE}": open("photo.jpg", "rb"),']
    lines += [f"        {json.dumps(name)}: {_literal(value)}," for name, value in params.items()]
    middle = "{\n" + "\n".join(lines) + "\n    }"
    return Snippet("python", "Python", "python", before, middle, ",\n)\nprint(output)")


def _literal(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
