"""Supervisor: runs embedded services, web server, workers and Celery beat from one process."""

from ipau.supervisor.signals import StopSignals
from ipau.supervisor.site import Site, SiteError, site_running

__all__ = ["Site", "SiteError", "StopSignals", "site_running"]
