"""The Celery app: queues, worker options and the beat schedule."""

import os

from celery import Celery
from django.conf import settings
from kombu import Exchange, Queue

from ipau import celery_transport

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ipau.settings")

# Each package has a module `tasks`.
TASK_PACKAGES = [
    "accounts",
    "drive.files",
    "drive.storage",
    "drive.uploads",
    "market.weights",
    "processing.execution",
    "processing.notifications",
    "processing.previews",
]
QUEUES = ("cpu", "gpu", "preview", "background", "convert")

celery_transport.install()
app = Celery("ipau")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_default_queue="cpu",
    # One exchange per queue: over a shared default exchange, each message would reach all queues.
    task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
    task_create_missing_queues=False,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    result_backend=None,
    worker_pool="ipau.celery_pool:TaskPool",
    # A slot reserves no second message while it works on one.
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_soft_shutdown_timeout=20,
    worker_enable_soft_shutdown_on_idle=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    # Restart slots to return memory to the system: after many tasks, or after one large image.
    worker_max_tasks_per_child=2000,
    worker_max_memory_per_child=settings.SLOT_MEMORY_BYTES // 2 // 1024,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": 900,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 10,
        "socket_timeout": 30,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
        # A message is only a wake-up, which the sweep repeats: a web thread never waits for a lost broker.
        "max_retries": 0,
    },
    beat_schedule={
        "processing.sweep": {
            "task": "processing.sweep",
            "schedule": 4.0,
            "options": {"queue": "background", "expires": 30},
        },
        "processing.sweep_notices": {
            "task": "processing.sweep_notices",
            "schedule": 3600.0,
            "options": {"queue": "background", "expires": 3600},
        },
        "drive.sweep": {
            "task": "drive.sweep",
            "schedule": 5.0,
            "options": {"queue": "background", "expires": 30},
        },
        "market.sweep": {
            "task": "market.sweep",
            "schedule": 5.0,
            "options": {"queue": "background", "expires": 30},
        },
        "drive.sweep_trash": {
            "task": "drive.sweep_trash",
            "schedule": 3600.0,
            "options": {"queue": "background", "expires": 3600},
        },
        "accounts.sweep_sessions": {
            "task": "accounts.sweep_sessions",
            "schedule": 6 * 3600.0,
            "options": {"queue": "background", "expires": 3600},
        },
        "drive.verify_usage": {
            "task": "drive.verify_usage",
            "schedule": 6 * 3600.0,
            "options": {"queue": "background", "expires": 3600},
        },
        "drive.sweep_blobs": {
            "task": "drive.sweep_blobs",
            "schedule": 600.0,
            "options": {"queue": "background", "expires": 600},
        },
        "drive.sweep_multipart": {
            "task": "drive.sweep_multipart",
            "schedule": 600.0,
            "options": {"queue": "background", "expires": 600},
        },
    },
    timezone="UTC",
)
app.autodiscover_tasks(TASK_PACKAGES)
