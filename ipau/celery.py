"""The Celery app: where its settings come from, its queues, its schedule, its start-up checks."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ipau.settings")

app = Celery("ipau")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
