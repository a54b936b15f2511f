"""Parameters have the field's names: rewrite recipes and schemas of the versions that are there."""

from typing import Any

from django.db import migrations

from market.migrations._renamed_parameters import rename_recipe, rename_schema

_BATCH = 500


def rename(apps: Any, schema_editor: Any) -> None:
    Version = apps.get_model("market", "Version")
    changed = []
    for version in Version.objects.iterator(chunk_size=_BATCH):
        recipe, schema = rename_recipe(version.recipe), rename_schema(version.params_schema, version.recipe)
        if (recipe, schema) == (version.recipe, version.params_schema):
            continue
        version.recipe, version.params_schema = recipe, schema
        changed.append(version)
        if len(changed) == _BATCH:
            Version.objects.bulk_update(changed, ["recipe", "params_schema"])
            changed = []
    Version.objects.bulk_update(changed, ["recipe", "params_schema"])


def rename_demo_model(apps: Any, schema_editor: Any) -> None:
    rows = apps.get_model("market", "Listing").objects.filter(owner__handle="ipau")
    if not rows.filter(name="colored-pencil").exists():
        rows.filter(name="coloured-pencil", archived_at=None).update(name="colored-pencil")


class Migration(migrations.Migration):

    dependencies = [
        ('market', '0014_leases'),
    ]

    operations = [
        migrations.RunPython(rename),
        migrations.RunPython(rename_demo_model),
    ]
