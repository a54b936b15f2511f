"""Django admin of jobs, workers and notifications: read-only, except for canceling jobs."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ipau.common.admin import ReadOnlyAdmin
from processing.job_queue import transitions
from processing.models import Delivery, Item, Job, JobEvent, JobMail, Worker


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Read-only, because only services create and change jobs."""

    list_display = (
        "id",
        "owner",
        "listing",
        "kind",
        "state",
        "queue",
        "total",
        "succeeded",
        "failed",
        "created_at",
    )
    list_filter = ("state", "kind", "queue", "version__listing")
    list_select_related = ("owner", "version__listing")
    search_fields = ("=id", "owner__email", "owner__handle")
    actions = ("cancel_jobs",)

    @admin.display(description=_("app"))
    def listing(self, job: Job) -> str:
        return str(job.version.listing)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Rows cannot be edited, so the change permission allows canceling jobs."""
        return bool(request.user.has_perm("processing.change_job"))

    @admin.action(description=_("Cancel selected jobs"), permissions=["cancel"])
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        results = [transitions.cancel(job_id) for job_id in queryset.values_list("pk", flat=True)]
        number = sum(result is not None for result in results)
        text = ngettext("%(n)d job was canceled.", "%(n)d jobs were canceled.", number) % {"n": number}
        self.message_user(request, text, messages.SUCCESS if number else messages.WARNING)


@admin.register(Item)
class ItemAdmin(ReadOnlyAdmin):
    """Read-only, because workers change items under a lease."""

    list_display = (
        "id",
        "name",
        "job_id",
        "position",
        "state",
        "attempts",
        "worker",
        "error_code",
        "completed_at",
    )
    list_filter = ("state", "error_code", "worker")
    search_fields = ("=id", "=job__id", "name")


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Workers as of their last heartbeat."""

    list_display = ("name", "queues", "device", "slots", "started_at", "heartbeat_at")
    list_filter = ("device",)
    search_fields = ("name",)
    ordering = ("-heartbeat_at",)
    # Workers have no id and no row timestamps.
    common_readonly = ()


@admin.register(JobEvent)
class JobEventAdmin(ReadOnlyAdmin):
    """Logs of jobs."""

    list_display = ("id", "job_id", "at", "kind", "details")
    list_filter = ("kind",)
    search_fields = ("=job__id",)
    common_readonly = ()


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """Webhook deliveries and their outcome."""

    list_display = (
        "id",
        "owner",
        "job_id",
        "event",
        "url",
        "state",
        "attempts",
        "status",
        "problem",
        "next_at",
    )
    list_filter = ("state", "event")
    list_select_related = ("owner",)
    search_fields = ("=id", "=job__id", "owner__email", "url")


@admin.register(JobMail)
class JobMailAdmin(ReadOnlyAdmin):
    """E-mails about ended jobs and their outcome."""

    list_display = ("id", "owner", "job_id", "state", "attempts", "problem", "next_at", "delivered_at")
    list_filter = ("state",)
    list_select_related = ("owner",)
    search_fields = ("=id", "=job__id", "owner__email")
