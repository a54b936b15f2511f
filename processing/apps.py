from django.apps import AppConfig


class ProcessingConfig(AppConfig):
    name = "processing"

    def ready(self) -> None:
        """Connect Celery worker signals, and register functions that lower layers cannot import."""
        # These modules use models, which are ready only now.
        import processing.worker.heartbeat  # noqa: F401, PLC0415
        from drive.files.origin import find_origin  # noqa: PLC0415
        from processing.notifications.work import body_of  # noqa: PLC0415

        find_origin.register("processing.reporting.provenance.origin_of")
        body_of.register("processing.serializers.webhook_payloads.body_of")
