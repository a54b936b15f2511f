"""The site's settings as the tests want them: private services, fast password hashes, nothing sent out.

Importing this starts PostgreSQL and Valkey for the whole run, because the settings have to know them.
"""

from tests import services

services.ensure_started()

from ipau.settings import *  # noqa: E402, F403
from ipau.settings import INSTALLED_APPS, STORAGES  # noqa: E402

# Replaces the command that empties the tables.
INSTALLED_APPS = [*INSTALLED_APPS, "tests.emptying"]

SECRET_KEY = "only-for-tests-" + "x" * 50
# A quick hash: tests make many people, and no test is about how slow a hash is.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", "testserver"]
# A killed worker is noticed quickly, so that tests need not wait for it.
HEARTBEAT_SECONDS = 1
# Pages find their files without a collectstatic before.
STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
WHITENOISE_AUTOREFRESH = True
WHITENOISE_USE_FINDERS = True
