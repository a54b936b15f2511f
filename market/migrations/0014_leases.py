
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('market', '0013_turns_of_owners'),
    ]

    operations = [
        migrations.AlterField(
            model_name='conversionaccount',
            name='lease_expires_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='conversionaccount',
            name='lease_token',
            field=models.UUIDField(blank=True, null=True),
        ),
    ]
