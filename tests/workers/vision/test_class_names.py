"""Lists of class names: parsing, quoting, and odd names."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import registry
from workers.plugin import OperationError
from workers.vision.class_names import choose_classes, read_class_list, write_classes

NAMES = (
    "car",
    "traffic light, red",
    "café",
    unicodedata.normalize("NFD", "Ångström"),
    "  padded ",
    '19" rack',
    '"quoted"',
    "back\\slash",
    "3",
    "car",
    "Straße",
    "two\nlines",
    "",
    "#1",
)


@pytest.mark.parametrize(
    ("written", "chosen"),
    [
        ("", None),
        (" , ,", None),
        ("car", {0, 9}),
        ("CAR, café", {0, 2, 9}),
        ('"traffic light, red"', {1}),
        ("traffic light, red", {1}),
        ('car, "Traffic Light, Red" , café', {0, 1, 2, 9}),
        (unicodedata.normalize("NFD", "CAFÉ"), {2}),
        ("ångström", {3}),
        (unicodedata.normalize("NFC", "Ångström"), {3}),
        ("padded", {4}),
        ('" padded "', {4}),
        ('19" rack', {5}),
        ('"19"" rack", car', {0, 5, 9}),
        ('"quoted"', {6}),
        ('"""quoted"""', {6}),
        ("back\\slash", {7}),
        ("3", {8}),
        ("#3", {3}),
        ("12", {12}),
        ("#12", {12}),
        ("#1", {13}),
        ("STRASSE", {10}),
        ('"two\nlines"', {11}),
    ],
)
def test_names_choose_classes(written: str, chosen: set[int] | None) -> None:
    assert choose_classes(written, NAMES) == (None if chosen is None else frozenset(chosen))


@pytest.mark.parametrize("written", ["bus", "car, bus", '"car, bus"', "14", "#14", "-1", '""', "car, #", "²"])
def test_what_is_unknown_is_named(written: str) -> None:
    with pytest.raises(OperationError, match="has no class") as caught:
        choose_classes(written, NAMES)
    assert caught.value.code == "unknown_class"
    # As it can be written again.
    assert '"traffic light, red"' in caught.value.message


def test_a_list_of_two_stays_two_where_a_class_is_called_like_both() -> None:
    names = ("a", "b", "a, b")
    assert choose_classes("a, b", names) == {0, 1}
    assert choose_classes('"a, b"', names) == {2}


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6))
def test_every_name_can_be_written(names: list[str]) -> None:
    for index, name in enumerate(names):
        if name.strip() and "\0" not in name:
            assert index in choose_classes(write_classes([name]), names)
            assert index in choose_classes(read_class_list([name]), names)
        if f"#{index}" not in {one.strip() for one in names}:
            assert choose_classes(read_class_list([index]), names) == {index}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (["car", "traffic light, red"], 'car, "traffic light, red"'),
        ([3, "3"], "#3, 3"),
        ([], ""),
        ("car, bus", "car, bus"),
    ],
)
def test_programs_may_send_a_list(sent: object, kept: str) -> None:
    for family in ("yolo", "onnx"):
        assert registry.validate(family, {"classes": sent}).model_dump()["classes"] == kept


@pytest.mark.parametrize(
    "sent", [[""], [" "], [None], [True], [1.5], [["car"]], [-1], {"car": 1}, 3, ["x" * 1001]]
)
def test_other_lists_are_refused(sent: object) -> None:
    with pytest.raises(registry.ParamsInvalid) as caught:
        registry.validate("yolo", {"classes": sent})
    assert caught.value.errors["classes"].endswith(".")
