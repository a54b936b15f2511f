"""Names of files and folders."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drive.files.names import MAX_BYTES, clean_name, fit, free_name, upload_name
from ipau.common.errors import Invalid

any_name = st.text(max_size=400)


def is_storable(name: str) -> bool:
    return (
        bool(name)
        and name not in {".", ".."}
        and "/" not in name
        and "\\" not in name
        and len(name.encode()) <= MAX_BYTES
        and not any(unicodedata.category(c) in {"Cc", "Cs"} for c in name)
        and name == unicodedata.normalize("NFC", name)
    )


@given(any_name)
def test_an_uploaded_file_always_gets_a_name_that_can_be_stored(raw: str) -> None:
    assert is_storable(upload_name(raw, ".jpg"))


@given(any_name)
def test_mending_a_name_twice_changes_nothing_more(raw: str) -> None:
    once = upload_name(raw, ".jpg")
    assert upload_name(once, ".jpg") == once


@given(any_name)
def test_a_mended_name_may_also_be_typed(raw: str) -> None:
    assert clean_name(upload_name(raw, ".jpg")) == upload_name(raw, ".jpg")


@given(any_name)
def test_a_typed_name_is_storable_or_refused(raw: str) -> None:
    try:
        name = clean_name(raw)
    except Invalid:
        return
    assert is_storable(name)
    assert clean_name(name) == name


@given(any_name, st.integers(1, 30))
def test_a_numbered_name_is_free_and_fits(raw: str, count: int) -> None:
    taken: set[str] = set()
    for _ in range(count):
        name = free_name(upload_name(raw, ".jpg"), taken)
        assert name not in taken
        assert is_storable(name)
        taken.add(name)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("C:\\Users\\me\\cat.jpg", "cat.jpg"),
        ("../../etc/passwd", "passwd.jpg"),
        ("..", "file.jpg"),
        ("", "file.jpg"),
        ("a\x00b\r\n.jpg", "ab.jpg"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("แมว.jpg", "แมว.jpg"),
        ("noending", "noending.jpg"),
    ],
)
def test_uploaded_names(raw: str, kept: str) -> None:
    assert upload_name(raw, ".jpg") == kept


@pytest.mark.parametrize("raw", ["", "   ", ".", "..", "a/b", "a\\b", "a\nb", "x\u202ey", "é" * 128])
def test_typed_names_that_are_refused(raw: str) -> None:
    with pytest.raises(Invalid) as caught:
        clean_name(raw)
    assert "name" in caught.value.fields


def test_a_long_name_keeps_its_ending() -> None:
    assert fit("x" * 300 + ".jpeg").endswith(".jpeg")
    assert free_name("x" * 251 + ".jpg", {"x" * 251 + ".jpg"}).endswith(" (2).jpg")
