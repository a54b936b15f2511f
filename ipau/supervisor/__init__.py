"""The whole site from one process: private services, web server, workers and clock, watched over."""

from ipau.supervisor.signals import StopSignals
from ipau.supervisor.site import Site, SiteError, site_running

__all__ = ["Site", "SiteError", "StopSignals", "site_running"]
