"""Add lease columns to files and uploads. Checks in progress keep their leases until they expire."""

from django.db import migrations, models

# No worker has this token, so these leases only expire.
HELD = """
    UPDATE {table} SET lease_token = gen_random_uuid() WHERE lease_expires_at IS NOT NULL
"""


def is_whole():
    return models.Q(
        models.Q(('lease_expires_at__isnull', True), ('lease_token__isnull', True)),
        models.Q(('lease_expires_at__isnull', False), ('lease_token__isnull', False)),
        _connector='OR',
    )


class Migration(migrations.Migration):

    dependencies = [
        ('drive', '0008_folders_by_name'),
    ]

    operations = [
        migrations.RenameField(model_name='file', old_name='inspect_until', new_name='lease_expires_at'),
        migrations.RenameField(model_name='file', old_name='inspections', new_name='attempts'),
        migrations.AddField(
            model_name='file',
            name='lease_token',
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.RenameField(model_name='upload', old_name='check_until', new_name='lease_expires_at'),
        migrations.RenameField(model_name='upload', old_name='checks', new_name='attempts'),
        migrations.AddField(
            model_name='upload',
            name='lease_token',
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.RunSQL(HELD.format(table='drive_file'), migrations.RunSQL.noop),
        migrations.RunSQL(HELD.format(table='drive_upload'), migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name='file',
            constraint=models.CheckConstraint(condition=is_whole(), name='file_lease_is_whole'),
        ),
        migrations.AddConstraint(
            model_name='upload',
            constraint=models.CheckConstraint(condition=is_whole(), name='upload_lease_is_whole'),
        ),
    ]
