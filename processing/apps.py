from django.apps import AppConfig


class ProcessingConfig(AppConfig):
    name = "processing"

    def ready(self) -> None:
        """Tell what stands below who knows better. No third such connection exists."""
        # The models that these use are ready only now. The first connects the signals of Celery workers.
        import processing.worker.heartbeat  # noqa: F401, PLC0415
        from drive.files import origin  # noqa: PLC0415
        from processing.notifications import work  # noqa: PLC0415

        origin.register("processing.reporting.provenance.origin_of")
        work.register("processing.serializers.webhook_payloads.body_of")
