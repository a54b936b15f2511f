"""Parameters have the field's names: rewrite what jobs were asked for and what they run.

Digests of known results stay. Nobody asks for those of the former names any more, so they expire.
"""

from typing import Any

from django.db import migrations

from market.migrations._renamed_parameters import rename_input, rename_recipe

_BATCH = 500


def rename_jobs(apps: Any, schema_editor: Any) -> None:
    _rename(apps.get_model("processing", "Job").objects.all())


def rename_items(apps: Any, schema_editor: Any) -> None:
    # Items without a recipe of their own run the job's.
    _rename(apps.get_model("processing", "Item").objects.filter(recipe__isnull=False))


def _rename(rows: Any) -> None:
    changed = []
    for row in rows.only("recipe", "input").iterator(chunk_size=_BATCH):
        recipe, asked = rename_recipe(row.recipe), rename_input(row.input or {}, row.recipe)
        if (recipe, asked) == (row.recipe, row.input or {}):
            continue
        row.recipe, row.input = recipe, asked
        changed.append(row)
        if len(changed) == _BATCH:
            rows.model.objects.bulk_update(changed, ["recipe", "input"])
            changed = []
    rows.model.objects.bulk_update(changed, ["recipe", "input"])


class Migration(migrations.Migration):

    dependencies = [
        ('market', '0015_renamed_parameters'),
        ('processing', '0005_pauses_of_models'),
    ]

    operations = [
        migrations.RunPython(rename_jobs),
        migrations.RunPython(rename_items),
    ]
