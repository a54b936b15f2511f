"""The tables of processing: jobs, workers and notifications.

Job, Item and Delivery rows are the queue of record; a Celery message only wakes a worker. A job runs a
version of a listing over files: one item for each file, with the outputs that the item produced.

- Job: a version run over files for an owner, with its frozen recipe, options, deadline and state.
- Item: one input of a job (`job`): its blob, state and attempts. A worker owns it while it holds its lease
  token.
- Output: a file in the drive (`file`) that an item (`item`) produced, under a label.
- Resource: an image (`blob`) of a folder parameter of a job (`job`), frozen when the job was submitted.
- JobEvent: a line of the log of a job (`job`), as a kind and details.
- Memo: a cached result of an owner, by a digest of input, recipe and options; it names blobs by their
  digests.
- Lane: one owner in one queue: how many wake-ups are under way, and until when the owner has to wait.
- Worker: a worker process, as its last heartbeat described it: queues, device, slots, versions.
- Drain: an operator's order that a worker takes no new work. It survives restarts of that worker.
- FleetSample: busy slots of one worker at one moment, kept for a day.
- Delivery: one webhook event of a job (`job`) for one address, with its attempts.
- JobMail: an e-mail that tells the owner of a job (`job`) that the job ended.
- WebhookSecret: the key that signs the deliveries of an owner, and the previous one while it is still
  valid.

Abstract: `Notice`, the base of deliveries and e-mails: a message with attempts and a lease.
"""

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
