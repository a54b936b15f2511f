"""Draft of a pipeline in the editor: read from the form of the page, changed, previewed, shown again.

The page holds the whole draft. The fields of a step have its key as prefix (`s2.contrast`), at any position.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import File
from ipau.common.errors import DomainError, Invalid, NotFound
from market.models import Listing, Version
from market.pipelines.model_steps import UNKNOWN, ModelStep, compose, find_release, find_releases, models_of
from market.pipelines.steps import check_number, check_steps, schema_of, settings_of, title_of
from processing import services
from processing.forms.params_form import Choices, ParamsForm, read_params
from processing.playground import sample_pictures
from processing.previews.channel import Answer
from processing.reporting.used_parameters import as_text
from workers import registry
from workers.recipe import Recipe, Step, name_steps

_APP = re.compile(r"(s\d{1,3}):([a-z][a-z0-9_]{1,31})")
_MODEL = re.compile(r"(s\d{1,3}):([^/@\s]{1,60})/([^/@\s]{1,60})@(\d{1,6})")


@dataclass(frozen=True)
class DraftStep:
    """A step as the page has it. `values` have the parameter names of the operation, and are not checked.

    For a model, `address` and `number` name the release. `model` is that release, or None if it is missing.
    """

    key: str
    operation: str
    values: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""
    number: int = 0
    model: Version | None = None

    @property
    def title(self) -> str:
        if self.model:
            return self.model.listing.title
        return self.address or _(title_of(self.operation))

    @property
    def written(self) -> str:
        """The step as the page sends it back."""
        return f"{self.key}:{self.address}@{self.number}" if self.address else f"{self.key}:{self.operation}"

    @property
    def is_gone(self) -> bool:
        return self.model is None and (bool(self.address) or not _is_app(self.operation))

    def schema(self) -> dict[str, Any]:
        """Return the parameter schema with the names of the page; empty for a missing app or model."""
        if self.is_gone:
            return {"properties": {}}
        schema = self.model.params_schema if self.model else registry.get(self.operation).schema()
        return {"properties": settings_of(schema, self.key, {})[0]}

    def as_recipe_step(self) -> Step | ModelStep:
        """Return the step for a recipe or service. It is not checked."""
        if not self.address:
            return Step(operation=self.operation, params=dict(self.values))
        owner, _slash, name = self.address.partition("/")
        return ModelStep(owner, name, self.number, dict(self.values))

    def form(self, folders: Choices, error: DomainError | None) -> ParamsForm:
        """Return the form of the parameters, with their errors."""
        schema = self.schema()
        initial = {f"{self.key}.{name}": value for name, value in self.values.items()}
        fields = error.fields if error else {}
        errors = {name: text for name, text in fields.items() if name in schema["properties"]}
        if not errors:
            return ParamsForm(schema=schema, folders=folders, initial=initial)
        defaults = {name: about.get("default") for name, about in schema["properties"].items()}
        data = {name: as_text(value) for name, value in {**defaults, **initial}.items()}
        form = ParamsForm(schema=schema, folders=folders, data=data)
        form.show_domain_error(Invalid("", fields=errors))
        return form


@dataclass(frozen=True)
class Draft:
    """A pipeline that is not saved yet, or a saved one with changes."""

    title: str = ""
    summary: str = ""
    name: str = ""
    steps: tuple[DraftStep, ...] = ()

    @property
    def addresses(self) -> list[str]:
        """Return the addresses of the models in its steps."""
        return [step.address for step in self.steps if step.address]

    def recipe_steps(self, until: int | None = None) -> list[Step | ModelStep]:
        """Return all steps, or the first `until`. They are not checked."""
        return [step.as_recipe_step() for step in self.steps[:until]]

    def position_of(self, key: str) -> int:
        """Return the position of a step. Raises Invalid for an unknown key."""
        for position, step in enumerate(self.steps):
            if step.key == key:
                return position
        raise _damaged()

    # --- Changes.

    def with_step(self, step: DraftStep) -> "Draft":
        """Append a step under a new key. Raises Invalid if there are too many steps."""
        check_number(len(self.steps) + 1)
        number = 1 + max((int(step.key[1:]) for step in self.steps), default=0)
        return replace(self, steps=(*self.steps, replace(step, key=f"s{number}")))

    def without_step(self, key: str) -> "Draft":
        gone = self.position_of(key)
        return replace(self, steps=self.steps[:gone] + self.steps[gone + 1 :])

    def with_step_moved(self, key: str, by: int) -> "Draft":
        """Move a step up (-1) or down (1). The first and last step stay at their end."""
        old = self.position_of(key)
        new = min(max(old + by, 0), len(self.steps) - 1)
        steps = list(self.steps)
        steps.insert(new, steps.pop(old))
        return replace(self, steps=tuple(steps))

    # --- Problems.

    def explain(self, error: DomainError) -> DomainError:
        """Return an error of the steps with the field names of the page."""
        names = name_steps(step.operation or UNKNOWN for step in self.steps)
        keys = dict(zip(names, (step.key for step in self.steps), strict=True))
        fields = {}
        for name, text in error.fields.items():
            step, dot, setting = name.partition(".")
            fields[f"{keys.get(step, step)}{dot}{setting}"] = text
        return type(error)(error.message, code=error.code, fields=fields)


def draft_of(user: Any, listing: Listing, version: Version) -> Draft:
    """Return a saved pipeline as a draft. Models that `user` cannot run count as missing."""
    recipe = Recipe.model_validate(version.recipe)
    models = models_of(version)
    steps = []
    for position, step in enumerate(recipe.steps):
        draft = DraftStep(f"s{position + 1}", step.operation, step.params)
        model = models.get(position)
        if model:
            address = f"{model.listing.owner.handle}/{model.listing.name}"
            visible = model if model.listing.is_visible_to(user) else None
            draft = replace(draft, address=address, number=model.number, model=visible)
        steps.append(draft)
    return Draft(listing.title, listing.summary, listing.name, tuple(steps))


def read_draft(user: Any, sent: QueryDict) -> Draft:
    """Return the draft that a page sent. Raises Invalid if its steps cannot be read."""
    listed = sent.getlist("step")
    check_number(max(1, len(listed)))
    parsed = [_read_step(text) for text in listed]
    if len({step.key for step in parsed}) < len(parsed):
        raise _damaged()
    steps = []
    for step in _with_releases(user, parsed):
        values = read_params(step.schema(), sent)
        steps.append(replace(step, values={n.partition(".")[2]: value for n, value in values.items()}))
    return Draft(
        title=sent.get("title", ""),
        summary=sent.get("summary", ""),
        name=sent.get("name", "").strip(),
        steps=tuple(steps),
    )


def addresses_in(written: Iterable[str]) -> list[str]:
    """Return the addresses of models in steps as a page sends them. The models may be missing."""
    matches = (_MODEL.fullmatch(text) for text in written)
    return [f"{step[2]}/{step[3]}" for step in matches if step]


def new_step(user: Any, chosen: str, sent: Mapping[str, Any] | None = None) -> DraftStep:
    """Return a step for an app, by its key, or for the newest release of a model, by its address.

    Args:
        sent: values by parameter name. Other names are ignored.

    Raises:
        Invalid: the app or model does not exist.
    """
    owner, slash, name = chosen.partition("/")
    if not slash:
        if not _is_app(chosen):
            raise Invalid(_("The app “%(key)s” does not exist.") % {"key": chosen[:60]})
        return DraftStep("s0", chosen, read_params(registry.get(chosen).schema(), sent or {}))
    try:
        release = find_release(user=user, step=ModelStep(owner, name))
    except NotFound as error:
        raise Invalid(_("The model “%(model)s” does not exist.") % {"model": chosen[:120]}) from error
    values = read_params(release.params_schema, sent or {})
    return DraftStep("s0", _family_of(release), values, chosen, release.number, release)


def _is_app(operation: str) -> bool:
    return operation in {known.key for known in registry.all_operations()}


def preview_step(*, owner: User, draft: Draft, key: str, picture: File | None) -> Answer:
    """Return a preview of the steps up to `key`, on an image or on the sample.

    Raises:
        Invalid: the steps cannot run. The fields have the names of the page.
        Unavailable, TimedOut: no preview worker answers.
    """
    try:
        composed = compose(user=owner, steps=draft.recipe_steps(draft.position_of(key) + 1))
        recipe = check_steps(composed.steps, composed.titles)
        # Same digest as the saved pipeline, so both share cached previews.
        version = Version(
            recipe=recipe.model_dump(mode="json"), params_schema=schema_of(recipe, composed.models)
        )
        if picture is not None:
            return services.preview_file(owner=owner, version=version, params={}, file=picture)
        return services.preview_bytes(owner=owner, version=version, params={}, data=sample_pictures.data())
    except Invalid as error:
        raise draft.explain(error) from error


def _read_step(text: str) -> DraftStep:
    app, model = _APP.fullmatch(text), _MODEL.fullmatch(text)
    if app:
        return DraftStep(app[1], app[2])
    if model is None:
        raise _damaged()
    return DraftStep(model[1], "", address=f"{model[2]}/{model[3]}", number=int(model[4]))


def _with_releases(user: Any, steps: Sequence[DraftStep]) -> Iterator[DraftStep]:
    """Return steps with the releases of their models, looked up together. Missing models stay None."""
    models = [model for step in steps if isinstance(model := step.as_recipe_step(), ModelStep)]
    releases = iter(find_releases(user=user, steps=models))
    for step in steps:
        release = next(releases) if step.address else None
        yield replace(step, model=release, operation=_family_of(release)) if release else step


def _family_of(release: Version) -> str:
    family: str = release.recipe["steps"][-1]["operation"]
    return family


def _damaged() -> Invalid:
    return Invalid(_("This page sent incomplete data. Reload it and try again."), code="damaged_page")
