"""Tables of jobs, their items and results. These rows are the queue of record."""

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import MD5, Now
from django.utils.translation import gettext_lazy as _

from drive.models import Blob, File, Folder
from ipau.common.leases import LeasedWithAttempts
from ipau.common.models import BaseModel
from market.models import Version


class State(models.TextChoices):
    """States of jobs and items, with the names that clients of hosted inference expect."""

    STARTING = "starting", _("Waiting")
    PROCESSING = "processing", _("Processing")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")


OPEN = (State.STARTING, State.PROCESSING)
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELED)


class JobKind(models.TextChoices):
    JOB = "job", _("Job")
    PREDICTION = "prediction", _("Prediction")


class Ending(models.TextChoices):
    """Why a job ended before its last image."""

    PERSON = "person", _("Canceled by its owner")
    DEADLINE = "deadline", _("Its deadline passed")


class JobQuerySet(models.QuerySet["Job"]):
    def visible_to(self, user: Any) -> "JobQuerySet":
        return self.filter(owner=user)

    def open(self) -> "JobQuerySet":
        return self.filter(state__in=OPEN)


class Job(BaseModel):
    """A run of one version over files. The recipe is frozen: later releases do not change it."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="jobs")
    kind = models.CharField(max_length=12, choices=JobKind.choices, default=JobKind.JOB)
    version = models.ForeignKey(Version, models.PROTECT, related_name="jobs")
    recipe = models.JSONField()
    # Parameters as the account sent them.
    input = models.JSONField(default=dict)
    queue = models.CharField(max_length=20)
    state = models.CharField(max_length=10, choices=State.choices, default=State.STARTING)
    total = models.PositiveIntegerField()
    succeeded = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    canceled = models.PositiveIntegerField(default=0)
    # How many of the succeeded items reused an earlier result of the owner.
    reused = models.PositiveIntegerField(default=0)
    output_folder = models.ForeignKey(Folder, models.SET_NULL, null=True, blank=True, related_name="+")
    # How results are written and stored: `processing.execution.output_options.Options`.
    options = models.JSONField(default=dict, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    ending = models.CharField(max_length=20, choices=Ending.choices, blank=True)
    # Millicredits. The price of one image is frozen here. Reused and failed images cost nothing.
    price_each = models.PositiveBigIntegerField(default=0)
    max_price = models.PositiveBigIntegerField(null=True, blank=True)
    again_of = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="+")
    # Notifications to send.
    mail_when_done = models.BooleanField(default=False)
    webhook = models.CharField(max_length=500, blank=True)
    webhook_events = models.JSONField(default=list, blank=True)
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001  (unique, so null)
    request_digest = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="job_idempotency_once"),
            models.CheckConstraint(
                condition=models.Q(
                    total__gte=models.F("succeeded") + models.F("failed") + models.F("canceled")
                ),
                name="job_counts_within_total",
            ),
            models.CheckConstraint(condition=models.Q(total__gt=0), name="job_has_items"),
            models.CheckConstraint(
                condition=models.Q(succeeded__gte=models.F("reused")), name="job_reused_succeeded"
            ),
        ]
        indexes = [
            models.Index(fields=["owner", "kind", "-id"], name="job_by_owner"),
            models.Index(
                fields=["queue", "owner", "id"],
                condition=models.Q(state__in=["starting", "processing"]),
                name="job_open",
            ),
            models.Index(
                fields=["deadline_at"],
                condition=models.Q(state__in=["starting", "processing"], deadline_at__isnull=False),
                name="job_deadline",
            ),
            models.Index(fields=["completed_at"], name="job_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def done(self) -> int:
        return self.succeeded + self.failed + self.canceled

    @property
    def finished(self) -> int:
        """Images that succeeded or failed, without the canceled ones."""
        return self.succeeded + self.failed

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def price_quoted(self) -> int:
        """The highest possible price, in millicredits."""
        return self.price_each * self.total

    @property
    def price_charged(self) -> int:
        """The price of the images delivered so far, in millicredits."""
        return self.price_each * (self.succeeded - self.reused)


class Resource(models.Model):
    """An image that a job's parameters refer to (a mosaic tile), frozen when the job was submitted."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="resources")
    parameter = models.CharField(max_length=60)
    position = models.PositiveIntegerField()
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "parameter", "position"], name="resource_position_once")
        ]

    def __str__(self) -> str:
        return f"{self.job_id} {self.parameter}[{self.position}]"


class Item(BaseModel, LeasedWithAttempts):
    """One file of a job. A worker owns it while it holds the lease token that it wrote."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="items")
    position = models.PositiveIntegerField()
    name = models.CharField(max_length=255)
    # Path below the job's output folder, such as "Summer/Beach". Only for jobs with `keep_folders`.
    folder_path = models.CharField(max_length=2000, blank=True)
    # File name of the results without extension. Unique in its folder, chosen at submission.
    output_stem = models.CharField(max_length=255)
    # Parameters of this image as sent, and the resulting recipe. Null: those of the job.
    input = models.JSONField(null=True, blank=True)
    recipe = models.JSONField(null=True, blank=True)
    # Digest of bytes, recipe, resources and output options. Empty: the result is never reused.
    memo_key = models.CharField(max_length=64, blank=True)
    reused = models.BooleanField(default=False)
    input_file = models.ForeignKey(File, models.SET_NULL, null=True, blank=True, related_name="+")
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    state = models.CharField(max_length=10, choices=State.choices, default=State.STARTING)
    worker = models.CharField(max_length=120, blank=True)
    slot = models.PositiveIntegerField(null=True, blank=True)
    device = models.CharField(max_length=60, blank=True)
    output = models.JSONField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error = models.CharField(max_length=500, blank=True)
    # Milliseconds by stage: wait, fetch, decode, run, encode, thumbnail, store.
    timings = models.JSONField(default=dict, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "position"], name="item_position_once"),
            # By digest, because the path of forty folders is too long for an index.
            models.UniqueConstraint(F("job"), MD5("folder_path"), F("output_stem"), name="item_output_once"),
            models.CheckConstraint(
                condition=models.Q(state="processing", lease_token__isnull=False)
                | (~models.Q(state="processing") & models.Q(lease_token__isnull=True)),
                name="item_lease_while_processing",
            ),
        ]
        indexes = [
            models.Index(
                fields=["job", "position"], condition=models.Q(state="starting"), name="item_waiting"
            ),
            models.Index(
                fields=["lease_expires_at"], condition=models.Q(state="processing"), name="item_leased"
            ),
            models.Index(fields=["job", "state", "position"], name="item_by_state"),
            # Results of a job in order of arrival. Its page asks for them every second.
            models.Index(
                fields=["job", "completed_at", "id"],
                condition=models.Q(state="succeeded"),
                name="item_delivered",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}#{self.position}"


class Output(BaseModel):
    """A result: a labeled file in the drive that an item produced."""

    item = models.ForeignKey(Item, models.CASCADE, related_name="outputs")
    label = models.CharField(max_length=20)
    file = models.ForeignKey(File, models.CASCADE, related_name="made_by")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["item", "label"], name="output_once")]

    def __str__(self) -> str:
        return f"{self.item_id} {self.label}"


class Memo(models.Model):
    """A cached result of an owner, for the same bytes, recipe and options.

    It names bytes by their digests and does not keep them stored. A memo with missing bytes is deleted.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=64)
    # [{label, suffix, sha256, size, content_type, width, height, thumbnail}]
    files = models.JSONField()
    data = models.JSONField(null=True, blank=True)
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="memo_once")]
        indexes = [models.Index(fields=["made_at"], name="memo_age")]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.key[:12]}"


class JobEvent(models.Model):
    """One line of the log of a job, shown to its owner."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="events")
    at = models.DateTimeField(db_default=Now())
    kind = models.CharField(max_length=30)
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        indexes = [models.Index(fields=["job", "id"], name="event_by_job")]

    def __str__(self) -> str:
        return f"{self.job_id} {self.kind}"
