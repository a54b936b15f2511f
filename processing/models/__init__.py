"""What processing remembers, one file for each thing that it knows."""

from processing.models.fleet import Drain, FleetSample, Lane, Worker
from processing.models.jobs import (
    ENDED,
    OPEN,
    Ending,
    Item,
    Job,
    JobEvent,
    JobKind,
    JobQuerySet,
    Memo,
    Output,
    Resource,
    State,
)
from processing.models.notifications import Delivery, DeliveryState, JobMail, Notice, WebhookSecret

__all__ = [
    "ENDED",
    "OPEN",
    "Delivery",
    "DeliveryState",
    "Drain",
    "Ending",
    "FleetSample",
    "Item",
    "Job",
    "JobEvent",
    "JobKind",
    "JobMail",
    "JobQuerySet",
    "Lane",
    "Memo",
    "Notice",
    "Output",
    "Resource",
    "State",
    "WebhookSecret",
    "Worker",
]
