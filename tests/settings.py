"""Django settings of tests: own services, fast password hashes, no outgoing e-mails.

Importing this module starts PostgreSQL and Valkey for the whole run, because the settings need their
addresses.
"""

from tests import services

services.ensure_started()

from ipau.settings import *  # noqa: E402, F403
from ipau.settings import INSTALLED_APPS, STORAGES  # noqa: E402

# Replaces the command `flush`.
INSTALLED_APPS = [*INSTALLED_APPS, "tests.emptying"]

SECRET_KEY = "only-for-tests-" + "x" * 50
# A fast hash, because tests create many accounts.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", "testserver"]
# Detect killed workers quickly, so that tests do not wait.
HEARTBEAT_SECONDS = 1
# Serve static files without `collectstatic`.
STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
WHITENOISE_AUTOREFRESH = True
WHITENOISE_USE_FINDERS = True
