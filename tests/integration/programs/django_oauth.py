"""A minimal Django project with django-oauth-toolkit, in one file.

Run by the environment of the login servers, never by ours:
`python django_oauth.py <folder> <port>`. What it needs to know comes as JSON in the environment
variable LOGIN_SERVER: users and clients.
"""

# mypy: ignore-errors
# Its packages are in the environment of the login servers, where nothing checks types.
import json
import os
import sys
from pathlib import Path

import django
from django.conf import settings

folder, port = Path(sys.argv[1]), int(sys.argv[2])
spec = json.loads(os.environ["LOGIN_SERVER"])

settings.configure(
    SECRET_KEY="for-a-test-server-only-" + "x" * 40,
    DEBUG=False,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    # Tables straight from the models: forty migrations would take a second.
    MIGRATION_MODULES={"auth": None, "contenttypes": None, "oauth2_provider": None},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3")}
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    USE_TZ=True,
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "Read", "write": "Write"},
        "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.models import Application  # noqa: E402
from oauth2_provider.views.generic import ProtectedResourceView  # noqa: E402


class WhoAmI(ProtectedResourceView):
    """The resource behind the token: says whose token and which client's it is."""

    def get(self, request: HttpRequest) -> JsonResponse:
        """Answer for a request the toolkit has let through."""
        owner = request.resource_owner
        return JsonResponse({"user": owner.username if owner else None})


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("whoami", WhoAmI.as_view()),
    path("up", lambda request: JsonResponse({"up": True})),
]


def prepare() -> None:
    """Make the tables, the users and the clients."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    for user in spec["users"]:
        User.objects.create_user(username=user["username"], password=user["password"])
    for client in spec["clients"]:
        Application.objects.create(
            name=client["client_id"],
            client_id=client["client_id"],
            client_secret=client["client_secret"],
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=client["grant"],
        )


if __name__ == "__main__":
    from waitress import serve

    prepare()
    serve(get_wsgi_application(), host="127.0.0.1", port=port, threads=4, _quiet=True)
