"""Django settings. Everything that differs between sites is an environment variable.

Without DATABASE_URL and REDIS_URL, the addresses of the embedded services are read from the data folder.
"""

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONCE, NONE, SELF

from ipau.api_settings import REST_FRAMEWORK, SPECTACULAR_SETTINGS  # noqa: F401  # settings too

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

#: The data folder: embedded PostgreSQL and Valkey, files, logs. Default: `data` in the repository.
DATA_DIR = Path(env.str("IPAU_DATA", default=str(BASE_DIR / "data"))).absolute()


def _embedded() -> dict[str, str]:
    """Return the addresses that a running `./manage.py up` wrote into the data folder; empty if none runs."""
    try:
        addresses: dict[str, str] = json.loads((DATA_DIR / "services.json").read_text())
    except FileNotFoundError:
        return {}
    return addresses


def _secret_key() -> str:
    """Return SECRET_KEY, or the key that `./manage.py up` created in the data folder."""
    #: The secret that signs sessions. Use the same value on all machines. Default: `up` creates one in the
    #: data folder.
    configured: str = env.str("SECRET_KEY", default="")
    if configured:
        return configured
    file = DATA_DIR / "secret_key"
    # Only commands that need no secret (check, makemigrations, help) run without a key.
    return file.read_text().strip() if file.exists() else "insecure-until-the-site-is-started"


_services = _embedded()
SECRET_KEY = _secret_key()
#: Django's debug mode. Never use it on a site that others can reach.
DEBUG = env.bool("IPAU_DEBUG", default=False)
#: The public address, for links. With `https://`, cookies become secure and HSTS is sent. Default: the
#: address of a running `up`, or `http://127.0.0.1:8000`.
BASE_URL = env.str("IPAU_BASE_URL", default=_services.get("web_url", "http://127.0.0.1:8000")).rstrip("/")
SECURE = BASE_URL.startswith("https://")
#: Host names that the site answers, separated by commas.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = [BASE_URL] if SECURE else []

INSTALLED_APPS = [
    # First: its templates override those of allauth.
    "ipau",
    "unfold",
    "unfold.contrib.filters",
    # Loads no admin pages. Only urls.py does, so workers start without them.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "django.forms",
    "allauth",
    "allauth.account",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "template_partials",
    "crispy_forms",
    "crispy_bootstrap5",
    "tree_queries",
    "accounts",
    "drive",
    "market",
    "processing",
]

MIDDLEWARE = [
    # First: errors of the API must never become HTML pages.
    "ipau.common.api.problems.ProblemMiddleware",
    "ipau.common.http.clients.ConcurrencyMiddleware",
    "ipau.common.http.compression.CompressionMiddleware",
    "ipau.common.http.action_pages.ActionPageMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "ipau.common.http.middleware.BodyLimitMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "ipau.common.http.middleware.DomainErrorMiddleware",
]

ROOT_URLCONF = "ipau.urls"
WSGI_APPLICATION = "ipau.wsgi.application"
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
CRISPY_ALLOWED_TEMPLATE_PACKS = "bootstrap5"
CRISPY_TEMPLATE_PACK = "bootstrap5"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
            "builtins": ["django.templatetags.i18n", "django.templatetags.static"],
        },
    },
]

# --- PostgreSQL, Valkey/Redis -------------------------------------------------------------------------

DATABASES = {
    "default": env.db_url_config(
        #: A PostgreSQL database of your own: `postgres://user:password@host/name`. Default: the embedded
        #: PostgreSQL.
        env.str("DATABASE_URL", default=_services.get("database_url", ""))
        or "postgres:///ipau?host=/nonexistent"
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"]["ENGINE"] = "ipau.common.postgresql"
#: Seconds that a connection to PostgreSQL stays open.
DATABASES["default"]["CONN_MAX_AGE"] = env.int("IPAU_CONN_MAX_AGE", default=60)
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"].setdefault("OPTIONS", {})["connect_timeout"] = 5
# Prepare statements on first use. It affects only `PreparedQuery`, which binds its values on the server.
DATABASES["default"]["OPTIONS"].setdefault("prepare_threshold", 0)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

#: A Valkey or Redis of your own: `redis://:password@host:6379/0`. Default: the embedded Valkey.
REDIS_URL = env.str("REDIS_URL", default=_services.get("redis_url", "")) or "redis://127.0.0.1:6379/0"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "ipau",
        "OPTIONS": {"socket_connect_timeout": 3, "socket_timeout": 5},
    }
}

# --- Accounts -----------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
# E-mail addresses are unique regardless of case, by a constraint that this check does not see.
SILENCED_SYSTEM_CHECKS = ["auth.W004"]
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}Validator"}
    for name in ("UserAttributeSimilarity", "MinimumLength", "CommonPassword", "NumericPassword")
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = EMAIL_SUBJECT_PREFIX = "IPAU: "
# In addition to allauth's limits: failed sign-ins of one account from all addresses, and codes entered.
ACCOUNT_RATE_LIMITS = {"login_failed_account": "100/h/key", "enter_code": "10/m/ip"}
# E-mail addresses of one account.
ACCOUNT_MAX_EMAIL_ADDRESSES = 5
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
#: Number of trusted proxies in front of the site. Their `X-Forwarded-…` headers are used.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("IPAU_TRUSTED_PROXIES", default=0)

#: The mail server, for example `smtp+tls://user:password@host:587`. Default: e-mails are printed to the
#: terminal.
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
#: Seconds to wait for the mail server.
EMAIL_TIMEOUT = env.int("IPAU_EMAIL_TIMEOUT", default=10)
#: The sender of e-mails.
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="IPAU <noreply@localhost>")

# --- Files --------------------------------------------------------------------------------------------

#: The S3 bucket that stores files. Without it, files are stored in the data folder.
_S3_BUCKET = env.str("IPAU_S3_BUCKET", default="")
#: The address of the S3 server, for example `https://s3.example.org`. Default: AWS.
_S3_ENDPOINT = env.str("IPAU_S3_ENDPOINT", default="") or None
#: The address at which browsers reach the S3 server. Default: `IPAU_S3_ENDPOINT`.
_S3_PUBLIC = env.str("IPAU_S3_PUBLIC_ENDPOINT", default="") or None
#: Origins that pages may load files from. For AWS, name the regional one. Default: the origin of the bucket.
_S3_ORIGINS = env.list(
    "IPAU_S3_ORIGINS",
    default=[_S3_PUBLIC or _S3_ENDPOINT or f"https://{_S3_BUCKET}.s3.amazonaws.com"] if _S3_BUCKET else [],
)
#: Browsers upload files of 16 MiB or more directly to the bucket. The bucket must allow this (CORS).
S3_DIRECT = bool(_S3_BUCKET) and env.bool("IPAU_S3_DIRECT", default=False)
STORAGES: dict[str, Any] = {
    "default": (
        {
            "BACKEND": "drive.storage.s3.BucketStorage",
            "OPTIONS": {
                "bucket_name": _S3_BUCKET,
                "endpoint_url": _S3_ENDPOINT,
                "public_endpoint_url": _S3_PUBLIC,
                # Only AWS is certain to give each bucket its own host name.
                "addressing_style": "path" if _S3_ENDPOINT else "auto",
            },
        }
        if _S3_BUCKET
        else {
            "BACKEND": "drive.storage.filesystem.ContentStorage",
            "OPTIONS": {
                "location": str(DATA_DIR / "blobs"),
                #: The group that may read the files in the data folder, for example nginx's `www-data`.
                "group": env.str("IPAU_FILES_GROUP", default=""),
            },
        }
    ),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
STATIC_URL = "/static/"
#: The folder where style sheets and scripts are collected. Default: `static` in the data folder.
STATIC_ROOT = env.str("IPAU_STATIC_ROOT", default=str(DATA_DIR / "static"))
#: The internal path at which nginx serves the files, for example `/protected/`. nginx then sends file
#: contents.
ACCEL_PREFIX = env.str("IPAU_ACCEL_PREFIX", default="")
#: Bytes that one account may store, including the trash. Operators can set another quota for an account.
DRIVE_QUOTA_BYTES = env.int("IPAU_DRIVE_QUOTA_BYTES", default=10 * 1024**3)
#: Maximum number of files in one drive, including the trash.
DRIVE_MAX_FILES = env.int("IPAU_DRIVE_MAX_FILES", default=1_000_000)
#: Maximum number of folders in one drive, including the trash.
DRIVE_MAX_FOLDERS = env.int("IPAU_DRIVE_MAX_FOLDERS", default=50_000)
#: Maximum number of unfinished resumable and direct uploads of one account.
UNFINISHED_UPLOADS_MAX = env.int("IPAU_UNFINISHED_UPLOADS_MAX", default=500)
#: Days after which items in the trash are deleted.
TRASH_DAYS = env.int("IPAU_TRASH_DAYS", default=30)
#: Maximum size of a file that is uploaded in a single request.
UPLOAD_MAX_BYTES = env.int("IPAU_UPLOAD_MAX_BYTES", default=100 * 1024 * 1024)
#: Maximum size of a file in a resumable upload.
RESUMABLE_MAX_BYTES = env.int("IPAU_RESUMABLE_MAX_BYTES", default=4 * 1024**3)
#: Direct uploads that are checked at the same time. Each check can take minutes, so set it below the number
#: of slots of the `background` queue.
UPLOAD_CHECKS = env.int("IPAU_UPLOAD_CHECKS", default=1)
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000
FILE_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

# --- Celery -------------------------------------------------------------------------------------------

#: Another Valkey or Redis for Celery messages. Default: `REDIS_URL`.
CELERY_BROKER_URL = env.str("IPAU_BROKER_URL", default=REDIS_URL)
#: Address space of one worker process (slot).
SLOT_MEMORY_BYTES = env.int("IPAU_SLOT_MEMORY_BYTES", default=4 * 1024**3)
#: Memory that the model processes of one slot may keep between images. Default: a quarter of
#: `IPAU_SLOT_MEMORY_BYTES`.
SLOT_CACHE_BYTES = env.int("IPAU_SLOT_CACHE_BYTES", default=SLOT_MEMORY_BYTES // 4)
#: Address space of one model process. Default: `IPAU_SLOT_MEMORY_BYTES`.
MODEL_MEMORY_BYTES = env.int("IPAU_MODEL_MEMORY_BYTES", default=SLOT_MEMORY_BYTES)
#: The device that runs models in the `gpu` queue: `cuda`, `cuda:1`, or `torch-cpu` to try it without a GPU.
GPU_DEVICE = env.str("IPAU_GPU_DEVICE", default="cuda")
#: Images that one slot of the `gpu` queue decodes, draws and encodes at the same time.
GPU_THREADS = env.int("IPAU_GPU_THREADS", default=8)
#: Resident memory of one slot of the `gpu` queue. CUDA reserves far more address space than it uses, so
#: address space is not limited there.
GPU_SLOT_MEMORY_BYTES = env.int("IPAU_GPU_SLOT_MEMORY_BYTES", default=16 * 1024**3)

#: Seconds between heartbeats of a worker. A worker that misses three is considered dead.
HEARTBEAT_SECONDS = env.int("IPAU_HEARTBEAT_SECONDS", default=5)
#: The bearer key that Prometheus sends. Without it, only this machine can read `/metrics`.
METRICS_KEY = env.str("IPAU_METRICS_KEY", default="")
#: Maximum time for one image of a job, in seconds. Keep it below the lease of 60 seconds.
ITEM_SECONDS = env.int("IPAU_ITEM_SECONDS", default=45)
#: Maximum time for one conversion of weights, in seconds, at most 600. Small files get less.
CONVERSION_SECONDS = min(600, env.int("IPAU_CONVERSION_SECONDS", default=600))
#: Minutes a day (UTC) that conversions and trials of one account may take. Operators can set another number
#: for an account.
CONVERSION_MINUTES_A_DAY = env.int("IPAU_CONVERSION_MINUTES_A_DAY", default=60)
#: Processor seconds that one model run may always take. Otherwise the limit is 20 times an image of its
#: trial.
NETWORK_LEAST_SECONDS = env.float("IPAU_NETWORK_LEAST_SECONDS", default=5.0)
#: A model is paused after this many of its runs were killed within a day.
MODEL_MOST_KILLS = env.int("IPAU_MODEL_MOST_KILLS", default=5)
#: Maximum number of images in one job.
JOB_MAX_FILES = env.int("IPAU_JOB_MAX_FILES", default=100_000)
#: Days for which an identical earlier result is reused.
MEMO_DAYS = env.int("IPAU_MEMO_DAYS", default=90)

# --- Webhooks -----------------------------------------------------------------------------------------

#: Private networks that webhooks may be sent to, for example `10.20.0.0/16,192.168.7.0/24`. All other private
#: networks are blocked.
WEBHOOK_ALLOWED_NETWORKS = [ip_network(n) for n in env.list("IPAU_WEBHOOK_ALLOWED_NETWORKS", default=[])]
#: Whether webhooks may be sent to `http://` addresses. Anyone on the network path can read them.
WEBHOOK_ALLOW_HTTP = env.bool("IPAU_WEBHOOK_ALLOW_HTTP", default=False)

# --- Web server: limits of one process, see ipau/web/limits.py ----------------------------------------

#: Seconds within which a client must send the head of a request, and for which a body may stop.
WEB_SLOW_SECONDS = env.float("IPAU_WEB_SLOW_SECONDS", default=10.0)
#: Minimum rate of a large request body, in bytes per second.
WEB_MIN_RATE = env.int("IPAU_WEB_MIN_RATE", default=16 * 1024)
#: Maximum number of open connections of one web process.
WEB_CONNECTIONS = env.int("IPAU_WEB_CONNECTIONS", default=1000)
#: Maximum number of open connections of one address. Not applied behind trusted proxies, which count
#: connections themselves.
WEB_CONNECTIONS_PER_ADDRESS = env.int("IPAU_WEB_CONNECTIONS_PER_ADDRESS", default=100)
#: Threads of one web process that read large request bodies. Default: half of `IPAU_WEB_THREADS`.
WEB_STREAMS = env.int("IPAU_WEB_STREAMS", default=max(1, env.int("IPAU_WEB_THREADS", default=16) // 2))
#: Large request bodies of one address that are read at the same time. Default: three quarters of
#: `IPAU_WEB_STREAMS`.
WEB_STREAMS_PER_ADDRESS = env.int("IPAU_WEB_STREAMS_PER_ADDRESS", default=max(1, WEB_STREAMS * 3 // 4))

# --- Language, time -----------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("th", "ไทย"), ("fr", "Français"), ("ru", "Русский")]
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# --- Security -----------------------------------------------------------------------------------------

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
#: Whether HTTP requests are redirected to HTTPS. Default: yes if `IPAU_BASE_URL` starts with `https://`.
SECURE_SSL_REDIRECT = env.bool("IPAU_SSL_REDIRECT", default=SECURE)
#: Seconds for which browsers remember to use HTTPS (HSTS). Default: a year if `IPAU_BASE_URL` starts with
#: `https://`, otherwise 0.
SECURE_HSTS_SECONDS = env.int("IPAU_HSTS_SECONDS", default=31_536_000 if SECURE else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
if env.int("IPAU_TRUSTED_PROXIES", default=0):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ["/admin"],
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        # Images are redirected to the bucket, so browsers must be allowed to load from it.
        "img-src": [SELF, "data:", "blob:", *_S3_ORIGINS],
        "media-src": [SELF, *_S3_ORIGINS],
        "font-src": [SELF],
        "connect-src": [SELF, *(_S3_ORIGINS if S3_DIRECT else [])],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    },
}

# --- REST API -----------------------------------------------------------------------------------------

#: Maximum number of previews that one account may request over the API.
REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] = {"preview": env.str("IPAU_PREVIEW_RATE", default="240/min")}
#: Requests of one web process that may wait at the same time for a preview, a prediction or another service.
#: Each holds a thread. The older name `IPAU_API_WAITERS` still works. Default: half of `IPAU_WEB_THREADS`.
WEB_WAITERS = env.int(
    "IPAU_WEB_WAITERS",
    default=env.int("IPAU_API_WAITERS", default=max(1, env.int("IPAU_WEB_THREADS", default=16) // 2)),
)
#: The same for one account or address. Default: 4, at most half of `IPAU_WEB_WAITERS`.
WEB_WAITERS_PER_PERSON = env.int("IPAU_WEB_WAITERS_PER_PERSON", default=max(1, min(4, WEB_WAITERS // 2)))
#: Requests of one client (an API key, a session, or else an address) that run in one web process at the same
#: time. Default: `IPAU_WEB_WAITERS_PER_PERSON` + 2.
WEB_REQUESTS_PER_CLIENT = env.int("IPAU_WEB_REQUESTS_PER_CLIENT", default=WEB_WAITERS_PER_PERSON + 2)
UNFOLD = {"SITE_TITLE": "IPAU", "SITE_HEADER": "IPAU", "SHOW_HISTORY": True}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    #: Minimum level of log messages: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
    "root": {"handlers": ["console"], "level": env.str("IPAU_LOG_LEVEL", default="INFO")},
    # Malformed headers in responses of webhook receivers are not the operator's problem.
    "loggers": {"urllib3.connection": {"level": "ERROR"}},
}
