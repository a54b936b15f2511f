"""Only `drive` writes its rows: others call its functions, which keep the order of locks, names and usage."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("accounts", "deploy", "ipau", "market", "processing", "workers")
MODELS = {model.__name__ for model in apps.get_app_config("drive").get_models()}
# Fields of other apps' models that lead to rows of the drive: `job.output_folder`.
RELATIONS = {
    field.name
    for model in apps.get_models()
    if model._meta.app_label != "drive"
    for field in model._meta.get_fields()
    if field.related_model is not None and field.related_model._meta.app_label == "drive"
}
WRITES = {"save", "create", "get_or_create", "update", "update_or_create", "delete", "set"}
WRITES |= {"bulk_create", "bulk_update", "add_missing", *(f"a{name}" for name in WRITES), "raw"}
SQL = re.compile(r"\b(insert\s+into|update|delete\s+from|truncate)\s+(only\s+)?\"?drive_", re.IGNORECASE)
# What these make of rows is written nowhere.
PLAIN = {"dict", "set", "frozenset", "Counter", "len", "str", "bool"}


def sources() -> list[Path]:
    found = [path for app in OTHERS for path in (ROOT / app).rglob("*.py")]
    return sorted(path for path in found if "migrations" not in path.parts)


def drive_names(tree: ast.AST) -> set[str]:
    """Return what a module calls the models of the drive."""
    return {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("drive.models")
        for name in node.names
        if name.name.removesuffix("QuerySet") in MODELS
    }


def is_row(node: ast.AST | None, rows: set[str]) -> bool:
    """Tell whether an expression leads to models or rows of the drive; `rows` are the names that do."""
    if isinstance(node, ast.Name):
        return node.id in rows
    if isinstance(node, ast.Attribute):
        return node.attr in RELATIONS or (node.attr not in {"pk", "id"} and is_row(node.value, rows))
    if isinstance(node, ast.Subscript | ast.Starred | ast.Await):
        return is_row(node.value, rows)
    if isinstance(node, ast.Call):
        plain = isinstance(node.func, ast.Name) and node.func.id in PLAIN
        given = isinstance(node.func, ast.Name) and any(is_row(one, rows) for one in node.args)
        return not plain and (given or is_row(node.func, rows))
    return isinstance(node, ast.BoolOp) and any(is_row(one, rows) for one in node.values)


def named_rows(tree: ast.AST, models: set[str]) -> set[str]:
    """Return all names of a scope that stand for models or rows of the drive somewhere."""
    rows = set(models)
    while True:
        found = {name for node in ast.walk(tree) for name in _bound(node, rows, models)}
        if found <= rows:
            return rows
        rows |= found


def _bound(node: ast.AST, rows: set[str], models: set[str]) -> Iterator[str]:
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        used = {one.id for one in ast.walk(node.annotation) if isinstance(one, ast.Name)}
        if used & models and not used & {"dict", "Mapping", "Callable"}:
            yield from _names(ast.Name(node.arg) if isinstance(node, ast.arg) else node.target)
    elif isinstance(node, ast.Assign) and is_row(node.value, rows):
        yield from (name for target in node.targets for name in _names(target))
    elif isinstance(node, ast.NamedExpr) and is_row(node.value, rows):
        yield node.target.id
    elif isinstance(node, ast.For | ast.comprehension) and is_row(node.iter, rows):
        yield from _names(node.target)


def _names(target: ast.AST) -> Iterator[str]:
    """Return the names that an assignment binds: of `job.folder, file = …` that is `file`."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _names(part)


def scopes(tree: ast.Module) -> Iterator[ast.AST]:
    """Return each function and method of a module by itself, and what lies outside of them."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef):
            waiting.extend(node.body)
        else:
            yield node


def breaches(source: str) -> list[int]:
    """Return the lines of a module that write rows of the drive."""
    tree = ast.parse(source)
    models = drive_names(tree)
    found: set[int] = set()
    for scope in scopes(tree):
        rows = named_rows(scope, models)
        found.update(node.lineno for node in ast.walk(scope) if _writes(node, rows, models))
    return sorted(found)


def _writes(node: ast.AST, rows: set[str], models: set[str]) -> bool:
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            return node.func.attr in WRITES and is_row(node.func.value, rows)
        return isinstance(node.func, ast.Name) and node.func.id in models
    if isinstance(node, ast.Assign):
        # A form of a model saves it.
        targets = {name for target in node.targets for name in _names(target)}
        return targets == {"model"} and isinstance(node.value, ast.Name) and node.value.id in models
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(SQL.search(node.value))


def test_only_the_drive_writes_its_rows() -> None:
    assert {"File", "Folder", "Blob", "Thumbnail", "Upload"} <= MODELS
    assert {"output_folder", "blob", "input_file"} <= RELATIONS
    found = {
        str(path.relative_to(ROOT)): lines for path in sources() if (lines := breaches(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "File.objects.create(name='a')",
        "Folder.objects.filter(pk=1).update(name='a')",
        "File(name='a')",
        "File.objects.bulk_create([])",
        "File.objects.get_or_create(pk=1)",
        "rows = File.objects.visible_to(owner)\n    rows.filter(name='a').delete()",
        "file = File.objects.first()\n    file.save()",
        "for one in File.objects.all():\n        one.delete()",
        "if (one := File.objects.first()):\n        one.delete()",
        "rows = list(File.objects.all())\n    rows[0].save()",
        "given.save()",
        "many[0].delete()",
        "job.output_folder.delete()",
        "job.output_folder.files.update(name='a')",
        "item.blob.save()",
        "connection.execute('UPDATE drive_file SET name = 1')",
        "connection.execute('''\n  DELETE FROM drive_thumbnail''')",
        "class Meta:\n        model = File",
    ],
)
def test_what_writes_a_row_is_found(line: str) -> None:
    head = "from drive.models import File, Folder, FileQuerySet\n"
    body = f"def change(job, item, owner, given: File, many: FileQuerySet):\n    {line}\n"
    assert breaches(head + body)


@pytest.mark.parametrize(
    "line",
    [
        "rows = File.objects.visible_to(owner).filter(name='a').order_by('name')",
        "job.save()",
        "settings = {}\n    settings.update(given=given)",
        "names = set(File.objects.values_list('name'))\n    names.update('a')",
        "job.output_folder = given",
        "services.rename_file(owner=owner, file_id=given.pk, name='a')",
        "connection.execute('SELECT FROM drive_file')",
    ],
)
def test_what_reads_is_no_breach(line: str) -> None:
    head = "from drive.models import File, Folder, FileQuerySet\n"
    body = f"def read(job, item, owner, given: File, many: FileQuerySet):\n    {line}\n"
    assert breaches(head + body) == []


def test_files_begin_in_two_places() -> None:
    """All uploads end in one call, all results of jobs in another."""
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "drive").rglob("*.py")
        if re.search(r"\bFile\.objects\.(a?bulk_create|a?create|get_or_create)\(", path.read_text())
    }
    assert found == {"drive/uploads/create_file.py", "drive/files/bulk_create.py"}
    callers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "drive").rglob("*.py")
        if re.search(r"\bcreate_file\(\n", path.read_text()) and path.name != "create_file.py"
    }
    # Whatever came over a request, and what a browser has sent into the bucket.
    assert callers == {"drive/uploads/services.py", "drive/uploads/direct_work.py"}
