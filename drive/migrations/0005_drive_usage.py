import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# A statement that adds or deletes many files updates the usage once. Owners come in one order, so that two such
# statements cannot deadlock. PostgreSQL allows no transition tables in triggers with a column list, and few
# updates change size or owner: those are counted row by row.
FUNCTIONS = """
CREATE FUNCTION drive_usage_of_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO drive_usage AS kept (owner_id, used_bytes, files)
    SELECT owner_id, sum(size), count(*) FROM changed GROUP BY owner_id ORDER BY owner_id
    ON CONFLICT (owner_id) DO UPDATE
    SET used_bytes = kept.used_bytes + excluded.used_bytes, files = kept.files + excluded.files;
    RETURN NULL;
END $$;

CREATE FUNCTION drive_usage_of_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    gone record;
BEGIN
    FOR gone IN
        SELECT owner_id, sum(size) AS bytes, count(*) AS number FROM changed GROUP BY owner_id ORDER BY owner_id
    LOOP
        UPDATE drive_usage SET used_bytes = used_bytes - gone.bytes, files = files - gone.number
        WHERE owner_id = gone.owner_id;
    END LOOP;
    RETURN NULL;
END $$;

CREATE FUNCTION drive_usage_of_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE drive_usage SET used_bytes = used_bytes - OLD.size, files = files - 1 WHERE owner_id = OLD.owner_id;
    INSERT INTO drive_usage AS kept (owner_id, used_bytes, files) VALUES (NEW.owner_id, NEW.size, 1)
    ON CONFLICT (owner_id) DO UPDATE
    SET used_bytes = kept.used_bytes + excluded.used_bytes, files = kept.files + excluded.files;
    RETURN NULL;
END $$;

CREATE FUNCTION drive_usage_of_none() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM drive_usage;
    RETURN NULL;
END $$;
"""

TRIGGERS = """
CREATE TRIGGER drive_usage_added AFTER INSERT ON drive_file
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION drive_usage_of_added();
CREATE TRIGGER drive_usage_deleted AFTER DELETE ON drive_file
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION drive_usage_of_deleted();
CREATE TRIGGER drive_usage_changed AFTER UPDATE OF size, owner_id ON drive_file FOR EACH ROW
    WHEN (OLD.size <> NEW.size OR OLD.owner_id <> NEW.owner_id) EXECUTE FUNCTION drive_usage_of_changed();
CREATE TRIGGER drive_usage_emptied AFTER TRUNCATE ON drive_file
    FOR EACH STATEMENT EXECUTE FUNCTION drive_usage_of_none();
"""

# Creating the triggers locks the table against changes until this is committed.
FILL = """
INSERT INTO drive_usage (owner_id, used_bytes, files)
SELECT owner_id, sum(size), count(*) FROM drive_file GROUP BY owner_id;
"""

BACK = """
DROP TRIGGER drive_usage_emptied ON drive_file;
DROP TRIGGER drive_usage_changed ON drive_file;
DROP TRIGGER drive_usage_deleted ON drive_file;
DROP TRIGGER drive_usage_added ON drive_file;
DROP FUNCTION drive_usage_of_none();
DROP FUNCTION drive_usage_of_changed();
DROP FUNCTION drive_usage_of_deleted();
DROP FUNCTION drive_usage_of_added();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_quota"),
        ("drive", "0004_list_indexes"),
    ]

    operations = [
        migrations.CreateModel(
            name="DriveUsage",
            fields=[
                (
                    "owner",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="drive_usage",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("used_bytes", models.BigIntegerField(default=0)),
                ("files", models.BigIntegerField(default=0)),
            ],
            options={
                "db_table": "drive_usage",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("files__gte", 0), ("used_bytes__gte", 0)),
                        name="drive_usage_not_negative",
                    )
                ],
            },
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS + FILL, BACK),
    ]
