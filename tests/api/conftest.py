from tests.live import celery_worker

__all__ = ["celery_worker"]
