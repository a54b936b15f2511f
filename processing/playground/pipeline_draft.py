"""A pipeline while it is being edited: the page's form read into steps, changed, previewed, and told back.

The page holds everything: a step's fields are named by a key of its own (`s2.contrast`), whatever its place.
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
    """A step as the page has it. `values` are by the operation's own names, and may be wrong.

    One that runs a model says which by `address` and `number`; `model` is that release, if it is there.
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
        """Return the schema of its settings, named as in the page; none for what is gone."""
        if self.is_gone:
            return {"properties": {}}
        schema = self.model.params_schema if self.model else registry.get(self.operation).schema()
        return {"properties": settings_of(schema, self.key, {})[0]}

    def as_asked(self) -> Step | ModelStep:
        """Return it as a recipe or a service has it; not checked."""
        if not self.address:
            return Step(operation=self.operation, params=dict(self.values))
        owner, _slash, name = self.address.partition("/")
        return ModelStep(owner, name, self.number, dict(self.values))

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

    @property
    def addresses(self) -> list[str]:
        """Return the addresses of the models among its steps."""
        return [step.address for step in self.steps if step.address]

    def asked_steps(self, until: int | None = None) -> list[Step | ModelStep]:
        """Return all steps, or the first `until`; not checked."""
        return [step.as_asked() for step in self.steps[:until]]

    def position_of(self, key: str) -> int:
        """Return where a step stands. Raises Invalid for one that is not there."""
        for position, step in enumerate(self.steps):
            if step.key == key:
                return position
        raise _damaged()

    # --- Changes.

    def with_step(self, step: DraftStep) -> "Draft":
        """Append a step under a key of its own. Raises Invalid where there are too many steps."""
        check_number(len(self.steps) + 1)
        number = 1 + max((int(step.key[1:]) for step in self.steps), default=0)
        return replace(self, steps=(*self.steps, replace(step, key=f"s{number}")))

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
        names = name_steps(step.operation or UNKNOWN for step in self.steps)
        keys = dict(zip(names, (step.key for step in self.steps), strict=True))
        fields = {}
        for name, text in error.fields.items():
            step, dot, setting = name.partition(".")
            fields[f"{keys.get(step, step)}{dot}{setting}"] = text
        return type(error)(error.message, code=error.code, fields=fields)


def draft_of(user: Any, listing: Listing, version: Version) -> Draft:
    """Return a kept pipeline as a draft. Models that `user` cannot run are gone to it."""
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
    """Read what a page has sent. Raises Invalid where its steps cannot be told apart."""
    listed = sent.getlist("step")
    check_number(max(1, len(listed)))
    written = [_read_step(text) for text in listed]
    if len({step.key for step in written}) < len(written):
        raise _damaged()
    found = []
    for step in _with_releases(user, written):
        values = read_params(step.schema(), sent)
        found.append(replace(step, values={n.partition(".")[2]: value for n, value in values.items()}))
    return Draft(
        title=sent.get("title", ""),
        summary=sent.get("summary", ""),
        name=sent.get("name", "").strip(),
        steps=tuple(found),
    )


def addresses_in(written: Iterable[str]) -> list[str]:
    """Return the addresses of the models among steps as a page sends them, whether they are there or not."""
    found = (_MODEL.fullmatch(text) for text in written)
    return [f"{step[2]}/{step[3]}" for step in found if step]


def new_step(user: Any, chosen: str, sent: Mapping[str, Any] | None = None) -> DraftStep:
    """Return a step that runs an app, by its key, or the newest release of a model, by its address.

    Args:
        sent: its settings, by its own names, among other things.

    Raises:
        Invalid: it is not there.
    """
    owner, slash, name = chosen.partition("/")
    if not slash:
        if not _is_app(chosen):
            raise Invalid(_("There is no app “%(key)s”.") % {"key": chosen[:60]})
        return DraftStep("s0", chosen, read_params(registry.get(chosen).schema(), sent or {}))
    try:
        release = find_release(user=user, step=ModelStep(owner, name))
    except NotFound as error:
        raise Invalid(_("There is no model “%(model)s”.") % {"model": chosen[:120]}) from error
    values = read_params(release.params_schema, sent or {})
    return DraftStep("s0", _family_of(release), values, chosen, release.number, release)


def _is_app(operation: str) -> bool:
    return operation in {known.key for known in registry.all_operations()}


def preview_step(*, owner: User, draft: Draft, key: str, picture: File | None) -> Answer:
    """Show what the steps up to this one make of a picture, or of the sample.

    Raises:
        Invalid: these steps cannot be run so; the fields are those of the page.
        Unavailable, TimedOut: no preview worker answers.
    """
    try:
        composed = compose(user=owner, steps=draft.asked_steps(draft.position_of(key) + 1))
        recipe = check_steps(composed.steps, composed.titles)
        # What is kept under these steps' digest serves the finished pipeline's previews too.
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
    """Look up the models of steps, all at once; those that are not there stay without."""
    asked = [asked for step in steps if isinstance(asked := step.as_asked(), ModelStep)]
    releases = iter(find_releases(user=user, steps=asked))
    for step in steps:
        release = next(releases) if step.address else None
        yield replace(step, model=release, operation=_family_of(release)) if release else step


def _family_of(release: Version) -> str:
    family: str = release.recipe["steps"][-1]["operation"]
    return family


def _damaged() -> Invalid:
    return Invalid(_("This page is damaged. Load it again."), code="damaged_page")
