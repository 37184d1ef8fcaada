"""Settings common to every way of running. docs/configuration.md explains each variable."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import dj_database_url

from config import env
from config.logs import logging_config

BASE_DIR = Path(__file__).resolve().parents[2]
DATA_DIR = Path(env.text("LATCHKEY_DATA_DIR", str(BASE_DIR / ".latchkey")))

# Secrets -----------------------------------------------------------------------------------
SECRET_KEY = env.text("LATCHKEY_SECRET_KEY")
LATCHKEY_KEYS = env.text("LATCHKEY_KEYS")
LATCHKEY_FINGERPRINT_KEY = env.text("LATCHKEY_FINGERPRINT_KEY")

# Django ------------------------------------------------------------------------------------
DEBUG = False
ALLOWED_HOSTS = env.words("LATCHKEY_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("LATCHKEY_TRUSTED_ORIGINS")
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
LOGIN_REDIRECT_URL = "admin:index"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
    "apps.common",
    "apps.access",
    "apps.caching",
    "apps.history",
    "apps.tokens",
    "apps.performance",
    "apps.automation",
]

MIDDLEWARE = [
    "apps.common.middleware.RequestContextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

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
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "apps" / "common" / "locale"]
TIME_ZONE = env.text("LATCHKEY_TIME_ZONE", "UTC")
USE_TZ = True

UNFOLD = {
    "SITE_TITLE": "Latchkey",
    "SITE_HEADER": "Latchkey",
    "SITE_SYMBOL": "key",
    "SHOW_HISTORY": True,
    "DASHBOARD_CALLBACK": "apps.performance.dashboard_views.fill_index",
}

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"

# No page or upload of this software is large; a body over this is refused before it is read.
LATCHKEY_MAX_BODY_BYTES = env.integer(
    "LATCHKEY_MAX_BODY_BYTES", 256 * 1024, minimum=16 * 1024, maximum=16 * 1024 * 1024
)
DATA_UPLOAD_MAX_MEMORY_SIZE = LATCHKEY_MAX_BODY_BYTES

# Database ----------------------------------------------------------------------------------
DATABASE_URL = env.text("DATABASE_URL", f"sqlite:///{DATA_DIR / 'latchkey.sqlite3'}")
DATABASES = {"default": dj_database_url.parse(DATABASE_URL)}
# Opening one costs more than most requests, on SQLite too: 3 ms of processor time.
DATABASES["default"]["CONN_MAX_AGE"] = 60
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Readers never wait, writers queue for at most `timeout` s instead of failing half way.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"]["ENGINE"] = "apps.common.postgresql"
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": env.integer("LATCHKEY_DB_CONNECT_TIMEOUT_S", 3, minimum=1, maximum=60),
        "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s",
        # A database that vanishes without a word (a cut cable, a host that is gone) is noticed in
        # half a minute; by the system's own settings it takes from a quarter of an hour to two.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    }

# Redis, optional: it makes things faster and decides nothing --------------------------------
REDIS_URL = env.redis_url()
# What all waiting of one operation adds up to. A read may cost 150 ms; waking up takes a few.
REDIS_TIMEOUT_S = env.seconds("LATCHKEY_REDIS_TIMEOUT_S", 0.14, minimum=0.02, maximum=5)
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
if REDIS_URL:
    CACHES["shared"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {
            "CLIENT_CLASS": "django_redis.client.DefaultClient",
            "SERIALIZER": "apps.caching.codec.BytesSerializer",
            "SOCKET_CONNECT_TIMEOUT": REDIS_TIMEOUT_S,
            "SOCKET_TIMEOUT": REDIS_TIMEOUT_S,
            "CONNECTION_POOL_CLASS": "redis.connection.BlockingConnectionPool",
            "CONNECTION_POOL_KWARGS": {"max_connections": 32, "timeout": REDIS_TIMEOUT_S},
        },
    }

# How long entries live in this process, and how long they may serve while the database is down.
LATCHKEY_L1_MAX_AGE_S = env.seconds("LATCHKEY_L1_MAX_AGE_S", 5, minimum=0, maximum=5)
LATCHKEY_OUTAGE_GRACE_S = env.seconds("LATCHKEY_OUTAGE_GRACE_S", 900, minimum=0, maximum=86_400)

# API ---------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.access.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["apps.access.throttling.KeyRateThrottle"],
    "DEFAULT_FILTER_BACKENDS": [
        "apps.common.moments.FilterBackend",
        "rest_framework.filters.OrderingFilter",
    ],
    "DEFAULT_PAGINATION_CLASS": "apps.common.pagination.Pages",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.common.parsers.StrictJSONParser"],
    "EXCEPTION_HANDLER": "apps.common.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Latchkey",
    "DESCRIPTION": "A self-hosted token broker.",
    "VERSION": "0.1.0",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "apps.common.schema.add_problems",
    ],
    "ENUM_NAME_OVERRIDES": {
        "BreakerStateEnum": "apps.tokens.models.breakers.BreakerState.choices",
        "ReportStateEnum": "apps.tokens.services.reports.ReportState",
        "RequestStatusEnum": "apps.tokens.models.requests.Status.choices",
        "HistoryStatusEnum": "apps.history.contracts.HistoryStatus",
        "SeverityEnum": ["low", "medium", "high"],
    },
}
LATCHKEY_RATE_LIMIT_PER_MINUTE = env.integer("LATCHKEY_RATE_LIMIT_PER_MINUTE", 600, minimum=1)
LATCHKEY_MAX_WAIT_S = env.seconds("LATCHKEY_MAX_WAIT_S", 300, minimum=1, maximum=3_600)
LATCHKEY_WSGI_WAIT_S = 0.0  # how long DRF waits when the caller does not say
LATCHKEY_WSGI_THREADS = env.integer("LATCHKEY_WSGI_THREADS", 32, minimum=1, maximum=1_000)
# How many of a web process's requests run at a time; those that take long do not count.
LATCHKEY_TURNS = env.integer("LATCHKEY_TURNS", 1, minimum=1, maximum=64)
LATCHKEY_EDGE_WAIT_S = env.seconds("LATCHKEY_EDGE_WAIT_S", 30, minimum=0, maximum=300)

# Logins ------------------------------------------------------------------------------------
LATCHKEY_CONNECTORS = env.pairs("LATCHKEY_CONNECTORS")
LATCHKEY_ALLOW_FAULT_LAB = False

# Workers -----------------------------------------------------------------------------------
# One process of each cluster stays free of logins, for schedules and heartbeats.
LATCHKEY_WORKERS = env.integer("LATCHKEY_WORKERS", 2, minimum=2, maximum=64)
LATCHKEY_SLOTS = env.integer("LATCHKEY_SLOTS", 200, minimum=1, maximum=1_000)
LATCHKEY_DRAIN_S = env.seconds("LATCHKEY_DRAIN_S", 60, minimum=1, maximum=600)
LATCHKEY_POLL_S = env.seconds("LATCHKEY_POLL_S", 0.2, minimum=0.05, maximum=10)
# Which cluster serves which queue, as queue=cluster; what is not named goes to `default`.
LATCHKEY_QUEUES = env.pairs("LATCHKEY_QUEUES")

# A drain takes work for DRAIN_S and then finishes what it holds; the queue's own time-out must
# outlast that, because its signal would cancel every login of the process at once.
_LONGEST_LOGIN_S = 3_600
_LONGEST_DRAIN_S = int(LATCHKEY_DRAIN_S + _LONGEST_LOGIN_S + 60)
Q_CLUSTER = {
    "name": env.text("Q_CLUSTER_NAME", "default"),
    "label": "Queue",
    "orm": "default",
    "workers": LATCHKEY_WORKERS,
    "timeout": _LONGEST_DRAIN_S,
    "retry": _LONGEST_DRAIN_S * 4,
    "max_attempts": 1,
    "ack_failures": True,
    "poll": LATCHKEY_POLL_S,
    "queue_limit": LATCHKEY_WORKERS + 1,
    "bulk": 1,
    "catch_up": False,
    "save_limit": 100,
    "recycle": 10_000,
    "ALT_CLUSTERS": {
        name: {"timeout": _LONGEST_DRAIN_S, "retry": _LONGEST_DRAIN_S * 4}
        for name in sorted(set(LATCHKEY_QUEUES.values()) - {"default"})
    },
}

# Metrics -----------------------------------------------------------------------------------
# What Prometheus shows at /metrics; empty means that only API keys are taken there.
LATCHKEY_METRICS_TOKEN = env.text("LATCHKEY_METRICS_TOKEN", "")

# Traces, off unless there is an endpoint ---------------------------------------------------
# The names are OpenTelemetry's own, so that what sets them for other programs serves us too.
LATCHKEY_TRACES_ENDPOINT = env.traces_endpoint()
LATCHKEY_TRACES_HEADERS = {
    name: unquote(value) for name, value in env.pairs("OTEL_EXPORTER_OTLP_HEADERS").items()
}
LATCHKEY_TRACES_SERVICE = env.text("OTEL_SERVICE_NAME", "latchkey")
LATCHKEY_TRACES_RATIO = env.number("LATCHKEY_TRACES_RATIO", 1, minimum=0, maximum=1)

# Mail, for alerts --------------------------------------------------------------------------
EMAIL_HOST = env.text("LATCHKEY_MAIL_HOST", "localhost")
EMAIL_PORT = env.integer("LATCHKEY_MAIL_PORT", 25, minimum=1, maximum=65_535)
EMAIL_HOST_USER = env.text("LATCHKEY_MAIL_USER", "")
EMAIL_HOST_PASSWORD = env.text("LATCHKEY_MAIL_PASSWORD", "")
_MAIL_TLS = env.choice("LATCHKEY_MAIL_TLS", "none", allowed=["none", "starttls", "tls"])
EMAIL_USE_TLS, EMAIL_USE_SSL = _MAIL_TLS == "starttls", _MAIL_TLS == "tls"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("LATCHKEY_MAIL_FROM", "latchkey@localhost")

# Audit and logs ----------------------------------------------------------------------------
# Longer than the history, which a clean-up ends after 30 days unless it is told otherwise.
LATCHKEY_AUDIT_KEEP_DAYS = env.integer("LATCHKEY_AUDIT_KEEP_DAYS", 365, minimum=31, maximum=36_500)
LATCHKEY_AUDIT_DIR = Path(env.text("LATCHKEY_AUDIT_DIR", str(DATA_DIR / "audit")))
LATCHKEY_LOG_FORMAT = env.choice("LATCHKEY_LOG_FORMAT", "console", allowed=["console", "json"])
LATCHKEY_LOG_LEVEL = env.choice(
    "LATCHKEY_LOG_LEVEL", "INFO", allowed=["DEBUG", "INFO", "WARNING", "ERROR"]
)
LOGGING = logging_config(level=LATCHKEY_LOG_LEVEL, form=LATCHKEY_LOG_FORMAT)
