
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('market', '0013_turns_of_owners'),
    ]

    operations = [
        migrations.AddField(
            model_name='pause',
            name='lease_expires_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='pause',
            name='lease_token',
            field=models.UUIDField(blank=True, null=True),
        ),
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
        migrations.AddConstraint(
            model_name='pause',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('lease_expires_at__isnull', True), ('lease_token__isnull', True)), models.Q(('lease_expires_at__isnull', False), ('lease_token__isnull', False)), _connector='OR'), name='pause_lease_is_whole'),
        ),
    ]
