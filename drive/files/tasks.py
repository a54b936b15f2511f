"""Celery tasks: the sweep of the trash, and the check of drive usage."""

from drive.files import quota, trash
from ipau.common.tasks import task


@task(name="drive.sweep_trash", queue="background", expires=3600)
def sweep_trash() -> None:
    trash.sweep_trash()
    trash.sweep_revoked_shares()


@task(name="drive.verify_usage", queue="background", expires=3600)
def verify_usage() -> None:
    quota.verify_usage()
