"""Prometheus metrics: the state of queues and workers, read from the database at each scrape.

Every web process returns the same values, so any of them may be scraped. nginx counts HTTP requests.
"""

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from processing.fleet import broker
from processing.models import OPEN, Delivery, DeliveryState, Job
from processing.reporting import cluster_status


class _State:
    """Collects the metrics again at each scrape."""

    def collect(self) -> Iterator[Metric]:
        yield from _workers()
        yield from _queues()
        yield from _pictures()
        waiting = Delivery.objects.filter(state=DeliveryState.WAITING).count()
        yield _gauge("ipau_webhooks_waiting", "Webhook deliveries that are waiting to be sent.", waiting)


def collect() -> bytes:
    """Return all metrics in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_State())
    return generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _workers() -> Iterator[Metric]:
    names = {
        "ipau_worker_up": "Whether the heartbeat of the worker is recent.",
        "ipau_worker_drained": "Whether the worker takes no new work.",
        "ipau_worker_slots": "Processes that can run one image each.",
        "ipau_worker_busy": "Processes that were busy at the last heartbeat.",
        "ipau_worker_heartbeat_age_seconds": "Seconds since the last heartbeat.",
        "ipau_worker_pictures_per_minute": "Images delivered per minute, over the last five minutes.",
    }
    families = {name: GaugeMetricFamily(name, text, labels=["worker"]) for name, text in names.items()}
    for seen in cluster_status.workers_now():
        values = (seen.alive, seen.worker.drained, seen.worker.slots, seen.busy, seen.age, seen.pace)
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric([seen.worker.name], float(value))
    yield from families.values()


def _queues() -> Iterator[Metric]:
    slots = GaugeMetricFamily("ipau_queue_slots", "Slots that serve the queue.", labels=["queue"])
    waiting = GaugeMetricFamily("ipau_queue_waiting", "Images that are waiting.", labels=["queue"])
    wait = GaugeMetricFamily(
        "ipau_queue_wait_seconds", "Estimated seconds until all is done.", labels=["queue"]
    )
    messages = GaugeMetricFamily("ipau_queue_messages", "Messages in the broker.", labels=["queue"])
    lines = {line.name: line for line in cluster_status.queues_now()}
    for name in cluster_status.QUEUES:
        line = lines.get(name)
        slots.add_metric([name], line.slots if line else 0)
        waiting.add_metric([name], line.waiting if line else 0)
        messages.add_metric([name], broker.depth(name))
        if line and line.seconds is not None:
            wait.add_metric([name], line.seconds)
    yield from (slots, waiting, wait, messages)


def _pictures() -> Iterator[Metric]:
    ended = CounterMetricFamily("ipau_pictures", "Images by outcome.", labels=["outcome"])
    for outcome, number in cluster_status.totals().items():
        ended.add_metric([outcome], number)
    yield ended
    jobs = GaugeMetricFamily("ipau_jobs_open", "Jobs that have not ended.", labels=["state"])
    for state, number in Job.objects.filter(state__in=OPEN).values_list("state").annotate(n=Count("id")):
        jobs.add_metric([state], number)
    yield jobs
