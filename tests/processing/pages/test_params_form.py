"""Form of the parameters of an operation."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from ipau.common.errors import Invalid
from processing.forms.params_form import CONTROL_NAMES, ParamsForm, SettingField, is_on, read_params
from processing.reporting.used_parameters import as_text
from workers import registry
from workers.plugin import (
    Context,
    Operation,
    Params,
    PictureView,
    Result,
    auto_slider,
    choice,
    color,
    folder,
    slider,
    toggle,
)
from workers.plugin import text as text_setting

OPERATIONS = registry.all_operations()


class EveryParams(Params):
    amount: int = slider(3, ge=1, le=9, title="Amount", help="How much.", unit="px")
    part: float = slider(0.25, ge=0, le=1, step=0.01, title="Part", help="Which part.")
    way: Literal["up", "down"] = choice(
        "up", labels={"up": "Upwards", "down": "Downwards"}, title="Way", help="Where to."
    )
    on: bool = toggle(True, title="On", help="Whether at all.")
    word: str = text_setting("a", max_length=5, title="Word", help="What to say.", show_if={"on": [True]})
    ink: str = color("#102030", title="Ink", help="Which color.")
    place: str | None = folder(title="Place", help="A folder.")


class Every(Operation[EveryParams]):
    key = "every"
    title = "Every"
    summary = "Has a setting of every kind."
    description = "For tests."
    Params = EveryParams

    def run(self, picture: PictureView, params: EveryParams, context: Context) -> Result:
        return Result(image=picture.rgb())


SCHEMA = Every.schema()


def field(form: ParamsForm, name: str) -> Any:
    found = form.fields[name]
    assert isinstance(found, SettingField)
    return found


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.key)
def test_form_defaults_of_every_operation_are_valid(operation: Operation[Any]) -> None:
    form = ParamsForm(schema=operation.schema())
    assert list(form.fields) == list(operation.Params.model_fields)
    sent = {name: field(form, name).default_text for name in form.fields}
    checked = registry.validate(operation.key, read_params(operation.schema(), sent))
    assert checked == operation.Params()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.key)
def test_no_parameter_has_a_reserved_name(operation: Operation[Any]) -> None:
    assert not CONTROL_NAMES & set(operation.Params.model_fields)


def test_a_setting_of_every_kind_is_described() -> None:
    form = ParamsForm(schema=SCHEMA, folders=[("42", "Tiles (3 pictures)")])
    kinds = {name: field(form, name).kind for name in form.fields}
    assert kinds == {
        "amount": "slider",
        "part": "slider",
        "way": "choice",
        "on": "toggle",
        "word": "text",
        "ink": "color",
        "place": "folder",
    }
    amount, part = field(form, "amount"), field(form, "part")
    assert (amount.label, amount.help_text, amount.unit) == ("Amount", "How much.", "px")
    assert (amount.lowest, amount.highest, amount.step) == (1, 9, 1)
    assert part.step == 0.01
    assert field(form, "way").choices == [("up", "Upwards"), ("down", "Downwards")]
    assert field(form, "word").max_chars == 5
    assert field(form, "word").show_if == '{"on": [true]}'
    assert field(form, "place").choices == [("", "None"), ("42", "Tiles (3 pictures)")]


def test_initial_values_override_defaults() -> None:
    form = ParamsForm(schema=SCHEMA, initial={"amount": 7, "on": False})
    assert (form["amount"].value(), form["on"].value(), form["way"].value()) == (7, False, "up")


def test_values_are_parsed_by_type() -> None:
    sent = {"amount": "7", "part": "0.5", "on": "false", "place": "", "word": " x ", "other": "?"}
    read = read_params(SCHEMA, sent)
    assert read == {"amount": 7, "part": 0.5, "on": False, "place": None, "word": " x "}
    assert read_params(SCHEMA, {"amount": "many", "on": "perhaps"}) == {"amount": "many", "on": "perhaps"}


def test_errors_are_shown_at_their_parameter_or_at_the_form() -> None:
    form = ParamsForm(schema=SCHEMA, data={"amount": "99"})
    form.show_domain_error(Invalid("Both.", fields={"amount": "Too much.", "elsewhere": "No."}))
    assert form.errors == {"amount": ["Too much."]}
    assert form["amount"].value() == "99"
    form = ParamsForm(schema=SCHEMA, data={})
    form.show_domain_error(Invalid("Nothing is chosen."))
    assert form.non_field_errors() == ["Nothing is chosen."]


def test_reserved_names_are_rejected() -> None:
    schema = {"properties": {"file": {"type": "string", "widget": "text", "title": "File"}}}
    with pytest.raises(ValueError, match="file"):
        ParamsForm(schema=schema)


def test_a_box_needs_all_four_parameters() -> None:
    assert ParamsForm(schema=registry.get("mosaic").schema()).has_box
    assert not ParamsForm(schema=SCHEMA).has_box


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (True, "true"), (False, "false"), (0.25, "0.25"), (7, "7"), ("a", "a")]
)
def test_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("value", "on"), [(True, True), ("true", True), ("on", True), ("false", False), (None, False)]
)
def test_toggles_are_read(value: object, on: bool) -> None:
    assert is_on(value) is on


class AdvancedParams(Params):
    often: int = slider(3, ge=1, le=9, title="Often", help="Mostly.")
    rare: float = slider(0.5, ge=0, le=1, step=0.1, title="Rare", help="Hardly.", advanced=True)
    rarer: bool = toggle(False, title="Rarer", help="Never.", advanced=True)


ADVANCED = AdvancedParams.model_json_schema()


@pytest.mark.parametrize(
    ("given", "is_open"),
    [({}, False), ({"often": 4}, False), ({"rare": 0.5, "rarer": False}, False), ({"rarer": True}, True)],
)
def test_advanced_parameters_are_collapsed_until_changed(given: dict[str, Any], is_open: bool) -> None:
    (group,) = ParamsForm(schema=ADVANCED, initial=given).groups
    assert [bound.name for bound in group.usual] == ["often"]
    assert [bound.name for bound in group.more] == ["rare", "rarer"]
    assert group.is_open is is_open


def test_errors_are_never_collapsed() -> None:
    form = ParamsForm(schema=ADVANCED, data={"often": "3", "rare": "0.5", "rarer": "false"})
    assert not form.groups[0].is_open
    form.show_domain_error(Invalid("No.", fields={"rare": "Too much."}))
    assert form.groups[0].is_open


def test_only_advanced_parameters_are_not_collapsed() -> None:
    schema = {**ADVANCED, "properties": {"rare": ADVANCED["properties"]["rare"]}}
    (group,) = ParamsForm(schema=schema).groups
    assert ([bound.name for bound in group.usual], group.more) == (["rare"], [])


class MaybeParams(Params):
    width: Annotated[int, Field(ge=1, le=40)] | Literal["auto"] = auto_slider(
        start=3, step=2, auto_label="by itself", title="Width", help="How wide.", unit="px"
    )


def test_a_number_or_auto_has_a_checkbox_and_bounds() -> None:
    schema = MaybeParams.model_json_schema()
    field: Any = ParamsForm(schema=schema).fields["width"]
    assert (field.lowest, field.highest, field.step, field.start) == (1, 40, 2, 3)
    assert (field.kind, field.auto_label, field.default_text) == ("slider", "by itself", "auto")
    shown = {
        width: ParamsForm(schema=schema, initial={"width": width})["width"].value() for width in ("auto", 7)
    }
    assert shown == {"auto": "auto", 7: 7}


@pytest.mark.parametrize(("sent", "read"), [("auto", "auto"), ("7", 7), ("many", "many"), ("", "")])
def test_a_number_or_auto_is_read_as_what_it_is(sent: str, read: object) -> None:
    assert read_params(MaybeParams.model_json_schema(), {"width": sent}) == {"width": read}
