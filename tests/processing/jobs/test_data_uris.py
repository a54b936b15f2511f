"""Data URIs are parsed as in browsers."""

import base64
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from accounts.models import User
from processing.jobs.data_uris import NotADataUri, is_data_uri, read_data_uri
from tests.pictures import picture_bytes
from workers.media.decode import identify

PNG = picture_bytes("PNG")
TEXT = base64.b64encode(PNG).decode()
LINES = "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76))

READ = {
    "plain": f"data:image/png;base64,{TEXT}",
    "line ends": f"data:image/png;base64,{LINES}",
    "line ends of Windows": f"data:image/png;base64,{LINES}".replace("\n", "\r\n"),
    "a line end before the data": f"data:image/png;base64,\n{TEXT}\n",
    "indented": f"\n  data:image/png;base64,{TEXT}  \n",
    "spaces": f"data:image/png;base64, {TEXT[:40]} {TEXT[40:]}",
    "no padding": f"data:image/png;base64,{TEXT.rstrip('=')}",
    "capitals": f"DATA:IMAGE/PNG;BASE64,{TEXT}",
    "parameters": f"data:image/png;charset=utf-8;name=a.png;base64,{TEXT}",
    "a long parameter": f"data:image/png;name={'a' * 300}.png;base64,{TEXT}",
    "a space before the word": f"data:image/png;  base64,{TEXT}",
    "no type": f"data:;base64,{TEXT}",
    "percent signs": f"data:image/png;base64,{quote(TEXT, safe='')}",
    "line ends in percent": f"data:image/png;base64,{LINES}".replace("\n", "%0D%0A"),
    "for addresses": f"data:image/png;base64,{TEXT.translate(str.maketrans('+/', '-_'))}",
    "for addresses, no padding": "data:image/png;base64,"
    + base64.urlsafe_b64encode(PNG).decode().rstrip("="),
    "not base64": f"data:image/png,{quote(PNG, safe='')}",
    "not base64, the word a parameter": f"data:image/png;base64=1,{quote(PNG, safe='')}",
    "a fragment": f"data:image/png;base64,{TEXT}#top",
}

REFUSED = {
    "no comma": ("data:nothing", "no comma"),
    "another character": ("data:image/png;base64,@@@@", "character 1 of its data is “@”"),
    "padding in the middle": ("data:image/png;base64,QQ==QQ==", "character 3 of its data is “=”"),
    "too much padding": ("data:image/png;base64,QQ===", "“=”"),
    "padding of three": ("data:image/png;base64,Q===", "“=”"),
    "one character too many": ("data:image/png;base64,QUFBQ", "is incomplete"),
    "a head without end": (f"data:{'a' * 5000},b", "no comma"),
    "NUL": ("data:image/png;base64,QQ\0=", "byte 0"),
}


@pytest.mark.parametrize("name", READ)
def test_data_uris_valid_in_browsers_are_read(name: str) -> None:
    assert is_data_uri(READ[name])
    assert read_data_uri(READ[name]) == PNG


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_data_uris_are_refused_with_a_reason(name: str) -> None:
    uri, reason = REFUSED[name]
    with pytest.raises(NotADataUri) as refused:
        read_data_uri(uri)
    assert reason in str(refused.value)


@given(st.binary(max_size=300), st.integers(1, 80))
def test_any_bytes_round_trip(data: bytes, width: int) -> None:
    text = base64.b64encode(data).decode()
    lines = "\n".join(text[i : i + width] for i in range(0, len(text), width))
    for body in (text, lines, text.rstrip("=")):
        assert read_data_uri(f"data:a/b;base64,{body}") == data
    assert read_data_uri(f"data:a/b,{quote(data, safe='')}") == data


@given(st.text(max_size=80))
def test_arbitrary_text_raises_only_not_a_data_uri(body: str) -> None:
    try:
        found = read_data_uri(f"data:{body}")
    except NotADataUri:
        return
    assert len(found) <= len(f"data:{body}".encode())


@pytest.mark.django_db
@pytest.mark.parametrize("name", READ)
def test_api_accepts_data_uris(name: str, user: User, api: Callable[..., APIClient]) -> None:
    answer = api(user).post(
        "/v1/models/ipau/ascii/predictions", {"input": {"image": READ[name]}}, format="json"
    )
    assert answer.status_code == 201, answer.content
    assert identify(read_data_uri(READ[name])).content_type == "image/png"
