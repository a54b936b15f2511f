"""A pipeline while it is being edited: the page's form read into steps, changed, previewed, and told back.

The page holds everything: a step's fields are named by a key of its own (`s2.contrast`), whatever its place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import File
from ipau.common.errors import DomainError, Invalid
from market.models import Listing, Version
from market.steps import check_number, check_steps, schema_of, settings_of, title_of
from processing import samples, services
from processing.forms import Choices, ParamsForm, as_text, read_params
from processing.previews import Answer
from workers import registry
from workers.chain import name_steps
from workers.recipe import Recipe, Step
from workers.registry import UnknownOperation

_STEP = re.compile(r"(s\d{1,3}):([a-z][a-z0-9_]{1,31})")


@dataclass(frozen=True)
class DraftStep:
    """A step as the page has it. `values` are by the operation's own names, and may be wrong."""

    key: str
    operation: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return _(title_of(self.operation))

    @property
    def is_gone(self) -> bool:
        try:
            registry.get(self.operation)
        except UnknownOperation:
            return True
        return False

    def schema(self) -> dict[str, Any]:
        """Return the schema of its settings, named as in the page; none for an app that is gone."""
        if self.is_gone:
            return {"properties": {}}
        return {"properties": settings_of(registry.get(self.operation), self.key, {})[0]}

    def form(self, folders: Choices, error: DomainError | None) -> ParamsForm:
        """Return the form of its settings, with what is wrong with them."""
        schema = self.schema()
        given = {f"{self.key}.{name}": value for name, value in self.values.items()}
        fields = error.fields if error else {}
        wrong = {name: text for name, text in fields.items() if name in schema["properties"]}
        if not wrong:
            return ParamsForm(schema=schema, folders=folders, given=given)
        defaults = {name: about.get("default") for name, about in schema["properties"].items()}
        data = {name: as_text(value) for name, value in {**defaults, **given}.items()}
        form = ParamsForm(schema=schema, folders=folders, data=data)
        form.show_domain_error(Invalid("", fields=wrong))
        return form


@dataclass(frozen=True)
class Draft:
    """A pipeline that is not kept yet, or a kept one with changes."""

    title: str = ""
    summary: str = ""
    name: str = ""
    steps: tuple[DraftStep, ...] = ()

    def recipe_steps(self, until: int | None = None) -> list[Step]:
        """Return all steps, or the first `until`, as a recipe has them; not checked."""
        return [Step(operation=step.operation, params=dict(step.values)) for step in self.steps[:until]]

    def position_of(self, key: str) -> int:
        """Return where a step stands. Raises Invalid for one that is not there."""
        for position, step in enumerate(self.steps):
            if step.key == key:
                return position
        raise _damaged()

    # --- Changes.

    def with_step(self, operation: str, values: Mapping[str, Any] | None = None) -> "Draft":
        """Append a step. Raises Invalid where the operation is not there or there are too many steps."""
        if operation not in {known.key for known in registry.all_operations()}:
            raise Invalid(_("There is no app “%(key)s”.") % {"key": operation[:60]})
        check_number(len(self.steps) + 1)
        number = 1 + max((int(step.key[1:]) for step in self.steps), default=0)
        return replace(self, steps=(*self.steps, DraftStep(f"s{number}", operation, values or {})))

    def without_step(self, key: str) -> "Draft":
        gone = self.position_of(key)
        return replace(self, steps=self.steps[:gone] + self.steps[gone + 1 :])

    def with_step_moved(self, key: str, by: int) -> "Draft":
        """Move a step up (-1) or down (1); at an end it stays."""
        here = self.position_of(key)
        there = min(max(here + by, 0), len(self.steps) - 1)
        steps = list(self.steps)
        steps.insert(there, steps.pop(here))
        return replace(self, steps=tuple(steps))

    # --- Problems.

    def explain(self, error: DomainError) -> DomainError:
        """Return a problem with the steps, its fields named as those of the page."""
        names = name_steps(step.operation for step in self.steps)
        keys = dict(zip(names, (step.key for step in self.steps), strict=True))
        fields = {}
        for name, text in error.fields.items():
            step, dot, setting = name.partition(".")
            fields[f"{keys.get(step, step)}{dot}{setting}"] = text
        return type(error)(error.message, code=error.code, fields=fields)


def draft_of(listing: Listing, version: Version) -> Draft:
    """Return a kept pipeline as a draft."""
    recipe = Recipe.model_validate(version.recipe)
    steps = tuple(
        DraftStep(f"s{number}", step.operation, step.params)
        for number, step in enumerate(recipe.steps, start=1)
    )
    return Draft(listing.title, listing.summary, listing.name, steps)


def read_draft(sent: QueryDict) -> Draft:
    """Read what a page has sent. Raises Invalid where its steps cannot be told apart."""
    found: list[DraftStep] = []
    listed = sent.getlist("step")
    check_number(max(1, len(listed)))
    for text in listed:
        match = _STEP.fullmatch(text)
        if match is None or any(step.key == match[1] for step in found):
            raise _damaged()
        step = DraftStep(match[1], match[2])
        values = read_params(step.schema(), sent)
        found.append(replace(step, values={n.partition(".")[2]: value for n, value in values.items()}))
    return Draft(
        title=sent.get("title", ""),
        summary=sent.get("summary", ""),
        name=sent.get("name", "").strip(),
        steps=tuple(found),
    )


def read_values(operation: str, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return an app's settings among those of an address, by their own names."""
    try:
        schema = registry.get(operation).schema()
    except UnknownOperation:
        return {}
    return read_params(schema, sent)


def preview_step(*, owner: User, draft: Draft, key: str, picture: File | None) -> Answer:
    """Show what the steps up to this one make of a picture, or of the sample.

    Raises:
        Invalid: these steps cannot be run so; the fields are those of the page.
        Unavailable, TimedOut: no preview worker answers.
    """
    try:
        recipe = check_steps(draft.recipe_steps(draft.position_of(key) + 1))
        # What is kept under these steps' digest serves the finished pipeline's previews too.
        version = Version(recipe=recipe.model_dump(mode="json"), params_schema=schema_of(recipe))
        if picture is not None:
            return services.preview_file(owner=owner, version=version, params={}, file=picture)
        return services.preview_bytes(owner=owner, version=version, params={}, data=samples.data())
    except Invalid as error:
        raise draft.explain(error) from error


def _damaged() -> Invalid:
    return Invalid(_("This page is damaged. Load it again."), code="damaged_page")
