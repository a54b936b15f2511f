"""Registry of operations and families: one file for each operation, one folder for each family."""

from __future__ import annotations

import importlib
import pkgutil
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from workers.plugin import AUTO, Family, Operation, OperationError, Params
from workers.renamed_parameters import RENAMED_PARAMETERS

PACKAGES = ("workers.operations", "workers.families")
FAMILY_MODULE = "family"
AnyOperation = Operation[Any]
AnyFamily = Family[Any]
_operations: dict[str, AnyOperation] = {}
_discovered = threading.Event()
_lock = threading.RLock()
# Messages for pydantic's errors, by error type. `_FAMILIES` has them by the type's first word.
_SENTENCES = {
    "missing": "%(title)s is required.",
    "extra_forbidden": "There is no parameter “%(name)s”.",
    "renamed": "There is no parameter “%(name)s”. It was renamed to “%(new_name)s”.",
    "greater_than_equal": "%(title)s must be at least %(ge)s.",
    "less_than_equal": "%(title)s must be at most %(le)s.",
    "literal_error": "%(title)s must be one of: %(labels)s.",
    "string_too_long": "%(title)s must have at most %(max_length)s characters.",
    "string_too_short": "%(title)s must have at least %(min_length)s characters.",
    "string_pattern_mismatch": "%(title)s must be a color written as #rrggbb.",
    "value_error": "%(error)s",
}
_FAMILIES = {
    "int": "%(title)s must be a whole number.",
    "float": "%(title)s must be a number.",
    "finite": "%(title)s must be a number.",
    "bool": "%(title)s must be yes or no.",
    "string": "%(title)s has an invalid format.",
}
# Messages for programs, if they differ by more than the name of the parameter.
_FOR_PROGRAMS = {
    "greater_than_equal": "%(subject)s must be at least %(ge)s%(unit)s.",
    "less_than_equal": "%(subject)s must be at most %(le)s%(unit)s.",
    "literal_error": "%(subject)s must be one of: %(choices)s.",
    "string_type": "%(subject)s must be a string.",
    "bool": "%(subject)s must be true or false.",
}


class UnknownOperation(OperationError):
    """No operation has this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no operation “{key}”.", code="unknown_operation")
        self.key = key


class RegistrationError(Exception):
    """A plug-in is not valid. Raised at start-up, for the developer."""


@dataclass(frozen=True)
class SettingProblem:
    """The error of one parameter: a translatable template and the values of its placeholders.

    `program` is the template for programs, with API names and values. It is not translated.
    """

    template: str
    values: Mapping[str, str] = field(default_factory=dict)
    program: str = ""

    def __str__(self) -> str:
        return self.template % self.values

    @property
    def for_programs(self) -> str:
        """The error message for programs."""
        return (self.program or self.template) % self.values


class ParamsInvalid(OperationError):
    """Parameters are not valid. `errors` maps a parameter's name, or "" for all, to a message."""

    def __init__(self, problems: Mapping[str, SettingProblem]) -> None:
        self.problems = dict(problems)
        self.errors = {name: str(problem) for name, problem in problems.items()}
        super().__init__(" ".join(self.errors.values()), code="params")


def get(key: str) -> AnyOperation:
    """Return the operation or family with this key. Raises UnknownOperation."""
    discover()
    try:
        return _operations[key]
    except KeyError:
        raise UnknownOperation(key) from None


def all_operations() -> tuple[AnyOperation, ...]:
    """Return every operation that needs no weights, basic ones first, then by key."""
    discover()
    operations = [operation for operation in _operations.values() if not isinstance(operation, Family)]
    return tuple(sorted(operations, key=lambda op: (op.tier != "basic", op.key)))


def all_families() -> tuple[AnyFamily, ...]:
    """Return every family, by key."""
    discover()
    families = [operation for operation in _operations.values() if isinstance(operation, Family)]
    return tuple(sorted(families, key=lambda family: family.key))


def discover() -> None:
    """Import every plug-in, once. Call it at start-up, as it raises RegistrationError and import errors."""
    if _discovered.is_set():
        return
    with _lock:
        if _discovered.is_set():
            return
        for name in _module_names():
            _add(_read_plugin(importlib.import_module(name)))
        _discovered.set()


def validate(key: str, raw: Mapping[str, Any]) -> Params:
    """Return the operation's validated parameters. Raises UnknownOperation, ParamsInvalid."""
    operation = get(key)
    try:
        return operation.Params.model_validate(dict(raw))
    except ValidationError as error:
        raise ParamsInvalid(_explain(operation, error)) from None


@contextmanager
def register(operation: AnyOperation) -> Iterator[AnyOperation]:
    """Register an operation while the block runs. Raises RegistrationError if its key is taken."""
    discover()
    _add(operation)
    try:
        yield operation
    finally:
        _operations.pop(operation.key, None)


def _module_names() -> list[str]:
    """Return the module name of each plug-in: an operation's file, or `family.py` in a family's folder."""
    packages = [importlib.import_module(name) for name in PACKAGES]
    return sorted(
        f"{module.name}.{FAMILY_MODULE}" if module.ispkg else module.name
        for package in packages
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    )


def _read_plugin(module: ModuleType) -> AnyOperation:
    plugins = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Operation) and value.__module__ == module.__name__
    ]
    if len(plugins) != 1:
        raise RegistrationError(f"{module.__name__} must define exactly one operation, not {len(plugins)}.")
    # A family's key is the name of its folder.
    if plugins[0].key != module.__name__.removesuffix(f".{FAMILY_MODULE}").rpartition(".")[2]:
        key = plugins[0].key
        raise RegistrationError(f"{module.__name__} must be named as its operation’s key, {key!r}.")
    return plugins[0]()


def _add(operation: AnyOperation) -> None:
    missing = [
        name for name in ("key", "title", "summary", "description", "Params") if not hasattr(operation, name)
    ]
    if missing:
        raise RegistrationError(f"{type(operation).__name__} lacks {', '.join(missing)}.")
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,31}", operation.key):
        raise RegistrationError(
            f"The key {operation.key!r} is not valid: use 2 to 32 lower-case letters, digits and _, "
            "and start with a letter."
        )
    with _lock:
        if operation.key in _operations:
            raise RegistrationError(f"Two operations have the key {operation.key!r}.")
        _operations[operation.key] = operation


def _explain(operation: AnyOperation, error: ValidationError) -> dict[str, SettingProblem]:
    renamed = RENAMED_PARAMETERS.get(operation.key, {})
    problems: dict[str, SettingProblem] = {}
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        kind, ctx = item["type"], item.get("ctx") or {}
        if kind == "extra_forbidden" and name in renamed:
            kind, ctx = "renamed", {"new_name": renamed[name]}
        # A setting that may be a number or "auto" has a problem for each: the number's comes first.
        problems.setdefault(name, _describe(operation.Params, name, kind, ctx))
    return problems


def _describe(params: type[Params], name: str, kind: str, ctx: Mapping[str, Any]) -> SettingProblem:
    info = params.model_fields.get(name)
    extra = info.json_schema_extra if info and isinstance(info.json_schema_extra, dict) else {}
    labels = extra.get("enum_labels")
    values = {key: _write(value) for key, value in ctx.items()}
    values["name"] = name
    values["title"] = title = (info.title if info else None) or name
    # The API name, followed by the title if it is another word.
    values["subject"] = title if title.casefold() == name else f"{name} ({title})"
    values["labels"] = ", ".join(str(label) for label in labels.values()) if isinstance(labels, dict) else ""
    values["choices"] = ", ".join(labels) if isinstance(labels, dict) else ""
    values["unit"] = f" {extra['unit']}" if extra.get("unit") else ""
    family = kind.split("_")[0]
    template = _SENTENCES.get(kind) or _FAMILIES.get(family, "%(title)s is not valid.")
    program = _FOR_PROGRAMS.get(kind) or _FOR_PROGRAMS.get(family)
    program = program or template.replace("%(title)s", "%(subject)s")
    if isinstance(labels, dict) and AUTO in labels:
        template, program = _or_auto(template), _or_auto(program)
    return SettingProblem(template, values, program)


def _or_auto(template: str) -> str:
    return f"{template.removesuffix('.')}, or “{AUTO}”."


def _write(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
