from tests.browser.conftest import browser, console_problems, page, signed_in_page
from tests.live import celery_worker

__all__ = ["browser", "celery_worker", "console_problems", "page", "signed_in_page"]
