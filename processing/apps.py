from django.apps import AppConfig


class ProcessingConfig(AppConfig):
    name = "processing"

    def ready(self) -> None:
        # Connects the signals of Celery workers; the models it uses are ready only now.
        import processing.worker.heartbeat  # noqa: F401, PLC0415
