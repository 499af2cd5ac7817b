"""The one settings file: machines differ by environment variables only (README, "Settings")."""

import secrets
import socket
import sys
from pathlib import Path

import dj_database_url
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from evalplatform import environment as env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env.text("DATA_DIR", str(BASE_DIR / "var"))).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)

PRODUCTION = env.flag("PRODUCTION")
DEBUG = env.flag("DEBUG")
# A cluster forks its workers, so what they may hold open differs from what a web server may.
IS_CLUSTER = bool({"qcluster", "up", "worker"} & set(sys.argv))
ROLE = env.text("EVALPLATFORM_ROLE", "cluster" if IS_CLUSTER else "web")

if PRODUCTION:
    # Demanded rather than made: machines that share a database must share these too.
    for name in ("SECRET_KEY", "ENCRYPTION_KEY", "ALLOWED_HOSTS"):
        if not env.text(name):
            raise ImproperlyConfigured(f"{name} must be set when PRODUCTION is")
SECRET_KEY = env.kept_secret("SECRET_KEY", DATA_DIR, lambda: secrets.token_urlsafe(48))
# Several keys, newest first, allow a rotation: all decrypt, the first encrypts.
ENCRYPTION_KEYS = env.kept_secret(
    "ENCRYPTION_KEY", DATA_DIR, lambda: Fernet.generate_key().decode()
).split(",")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

# A vendor's API is a folder, and its line here: an app with routes, commands and pages of its own.
DIALECTS = [
    "evalplatform.dialects.openai",
    "evalplatform.dialects.spice",
]

INSTALLED_APPS = [
    # A cluster shows no pages of the admin; without loading them it starts a tenth sooner.
    f"django.contrib.admin.apps.{'SimpleAdminConfig' if ROLE == 'cluster' else 'AdminConfig'}",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "evalplatform",  # before django_q, whose qcluster command it replaces
    "django_q",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "apps.accounts",
    "apps.datasets",
    "apps.inference",
    "apps.evaluations",
    "apps.annotations",
    "apps.webhooks",
    *DIALECTS,
]

MIDDLEWARE = [
    "evalplatform.middleware.request_id",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "evalplatform.dialects.shared_routes.envelopes",
    "evalplatform.bodies.refuse_unmeasured",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "evalplatform.urls"
WSGI_APPLICATION = "evalplatform.wsgi.application"
# The dialects' paths never end in a slash, and a redirect would turn a POST into a GET.
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "evalplatform.sessions.account_choice",
            ],
        },
    },
]

# The engine's durations, in seconds; tests shorten them.
ENGINE_LEASE_SECONDS = env.seconds("ENGINE_LEASE_SECONDS", 20)
ENGINE_RENEW_SECONDS = env.seconds("ENGINE_RENEW_SECONDS", 5)
ENGINE_SLICE_SECONDS = env.seconds("ENGINE_SLICE_SECONDS", 120)
ENGINE_FLUSH_SECONDS = env.seconds("ENGINE_FLUSH_SECONDS", 0.25)
ENGINE_LOOK_SECONDS = env.seconds("ENGINE_LOOK_SECONDS", 0.5)  # for cancellation and new work
ENGINE_LINGER_SECONDS = env.seconds("ENGINE_LINGER_SECONDS", 1)  # an idle task stays this long
ENGINE_DRAIN_SECONDS = env.seconds("ENGINE_DRAIN_SECONDS", 8)  # after SIGTERM
ENGINE_SWEEP_SECONDS = env.seconds("ENGINE_SWEEP_SECONDS", 5)
ENGINE_STUCK_SECONDS = env.seconds("ENGINE_STUCK_SECONDS", 15)
ENGINE_CALL_SECONDS = env.seconds("ENGINE_CALL_SECONDS", 120)  # then a model call is cut
# So long do rows wait for a model server that refuses every call (429) before they are errored.
ENGINE_REFUSED_SECONDS = env.seconds("ENGINE_REFUSED_SECONDS", 600)
ENGINE_ATTEMPTS = env.integer("ENGINE_ATTEMPTS", 3)  # claims without progress

DATABASES = {
    "default": dj_database_url.parse(env.text("DATABASE_URL") or f"sqlite:///{DATA_DIR}/db.sqlite3")
}
DATABASE = DATABASES["default"]
if DATABASE["ENGINE"] == "django.db.backends.sqlite3":
    DATABASE["CONN_MAX_AGE"] = None
    DATABASE["OPTIONS"] = {
        # Taking the write lock at BEGIN is what removes "database is locked".
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        # auto_vacuum counts before the file is written: what is purged goes back to the disk.
        "init_command": (
            "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            " PRAGMA cache_size=-32000;"
        ),
    }
    # A file, not memory: workers are other processes.
    DATABASE["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
elif ROLE == "cluster":
    # Never a pool in a process that forks: its children would share the sockets.
    DATABASE["CONN_MAX_AGE"] = 600
else:
    DATABASE["CONN_MAX_AGE"] = 0
    DATABASE.setdefault("OPTIONS", {})["pool"] = {"min_size": 1, "max_size": 8}
DATABASE["CONN_HEALTH_CHECKS"] = True  # a restarted database must not cost a request
if DATABASE["ENGINE"] == "django.db.backends.postgresql":
    if "pool" in DATABASE.get("OPTIONS", {}):  # ours looks after its pool, at less cost
        DATABASE["ENGINE"], DATABASE["CONN_HEALTH_CHECKS"] = "evalplatform.postgresql", False
    # Both ends must see that a wire is cut, within a lease: ours would wait for an answer, theirs
    # keep the locks of a machine that is gone, each for hours.
    noticing: dict[str, object] = {
        "tcp_user_timeout": 15_000,
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "connect_timeout": 10,
    }
    theirs: dict[str, object] = {
        "tcp_user_timeout": "15s",
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
    }
    if ROLE == "cluster":  # nothing of the engine's rests within a transaction, unless it is frozen
        theirs["idle_in_transaction_session_timeout"] = int(1000 * ENGINE_LEASE_SECONDS)
    noticing["options"] = " ".join(f"-c {name}={value}" for name, value in theirs.items())
    DATABASE["OPTIONS"] = noticing | DATABASE.get("OPTIONS", {})
# Those of apps/prepared.py, on PostgreSQL. A pooler that gives a connection to each transaction may
# not know them.
PREPARED_STATEMENTS = env.flag("PREPARED_STATEMENTS", True)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.text("REDIS_URL")
# A queue behind a cut wire must not be waited for; those who listen do for a second at a time.
REDIS_PATIENCE = "socket_timeout=10&socket_connect_timeout=5&socket_keepalive=true"

WORKERS = env.integer("WORKERS", 2)
# Of the database, for each worker process; with 1 it asks and stores by turns.
WORKER_CONNECTIONS = env.integer("WORKER_CONNECTIONS", 2)
# By it machines tell themselves from others, and one that is started again from its dead self.
MACHINE_NAME = (env.text("MACHINE_NAME") or socket.gethostname())[:255]
Q_CLUSTER = {
    "name": "evals",
    "ALT_CLUSTERS": {},  # the key must exist if Q_CLUSTER_NAME is ever used
    "workers": WORKERS,
    "timeout": 300,
    "retry": 1800,  # >= timeout * (1 + ceil((queue_limit + 1) / workers)), with room
    "queue_limit": 1,  # take no more than can be started at once
    "bulk": 1,
    "poll": 0,  # of the queue in the database, whose broker waits for a bell instead
    "ack_failures": True,  # the engine does the retrying
    "max_attempts": 1,
    "save_limit": -1,  # keeping successes locks and reads the whole table after every task
    "recycle": 200,
    "max_rss": 350_000,
    "guard_cycle": 0.5,  # a binary fraction: the guard tests the timer for exact zero
    "catch_up": False,
    "scheduler": False,  # nothing is scheduled: supervisors sweep
    "log_level": env.text("LOG_LEVEL", "INFO"),
}
if REDIS_URL:
    Q_CLUSTER["redis"] = f"{REDIS_URL}{'&' if '?' in REDIS_URL else '?'}{REDIS_PATIENCE}"
else:
    Q_CLUSTER |= {"orm": "default", "broker_class": "apps.bell_broker.BellBroker"}

# Graders written in Python.
# auto takes bubblewrap where it works, else wasm (`make sandbox`), else refuses them; none refuses.
SANDBOX = env.text("SANDBOX", "auto")
# Of one call of grade(). The contract allows two minutes at most.
GRADER_SECONDS = env.seconds("GRADER_SECONDS", 10)
GRADER_MEMORY_BYTES = env.integer("GRADER_MEMORY_BYTES", 2 << 30)
GRADER_DISK_BYTES = env.integer("GRADER_DISK_BYTES", 64 << 20)

# Requests that wait for their run.
# Of one web process, which has three times as many threads: pages are answered as well.
WAITING_PLACES = env.integer("WAITING_PLACES", 32)
WAITING_SECONDS = env.seconds("WAITING_SECONDS", 3600)

# Deliveries that are settled and tasks of the queue that ended are removed after so long.
HISTORY_DAYS = env.integer("HISTORY_DAYS", 30)

# What is sent is a dialect's to spell: a function from a WebhookDelivery to a JSON object.
WEBHOOK_EVENT = "evalplatform.dialects.kit.dialect.webhook_body"
WEBHOOK_TIMEOUT_SECONDS = 10
WEBHOOK_LEASE_SECONDS = 60  # well over the timeout: what is being sent is nobody else's to send
WEBHOOK_RETRY_SECONDS = (5, 30, 2 * 60, 10 * 60, 60 * 60, 6 * 60 * 60)

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "web:sign_in"
LOGIN_REDIRECT_URL = "web:runs"
SESSION_COOKIE_NAME = "evalplatform_session"
CSRF_COOKIE_NAME = "evalplatform_csrf"

MAX_BODY_BYTES = env.integer("MAX_BODY_BYTES", 64 * 1024 * 1024)
MAX_UPLOAD_BYTES = env.integer("MAX_UPLOAD_BYTES", 512 * 1024 * 1024)
# Ours are checked in the dialects, which answer in their own envelope; Django's would be HTML.
DATA_UPLOAD_MAX_MEMORY_SIZE = None
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if PRODUCTION:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", True)
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
    SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", 31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Evalplatform",
    "VERSION": "1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "PREPROCESSING_HOOKS": ["evalplatform.dialects.kit.schema.without_doors"],
    # Enums stay where they are used: names for them all would clash between four vendors.
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enum_id_removal"],
}

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env.text("STATIC_ROOT", str(DATA_DIR / "static")))
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise warns about one that is missing
# Without a collected manifest (a laptop, tests) files are served from where they lie.
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "whitenoise.storage.CompressedManifestStaticFilesStorage"
            if PRODUCTION
            else "django.contrib.staticfiles.storage.StaticFilesStorage"
        )
    },
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        # It sets its own level, to DEBUG, when it is imported.
        "bm25s": {"propagate": False},
        "django-q": {"handlers": ["console"], "propagate": False, "level": "WARNING"},
    },
}
