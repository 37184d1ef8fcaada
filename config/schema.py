"""The description of the API, made once a process: making it takes half a second."""

import threading
from typing import Any, Final

from django.conf import settings
from django.http import HttpResponse
from django.utils.translation import get_language
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request


class SchemaView(SpectacularAPIView):
    """The schema, kept in each form and language that was asked for."""

    _made: Final[dict[tuple[str, str], tuple[bytes, str]]] = {}
    _making: Final = threading.Lock()

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Return the schema; one thread makes it while others wait for it."""
        renderer: Any = request.accepted_renderer
        language = request.query_params.get("lang") or get_language() or ""
        if language not in dict(settings.LANGUAGES) or request.query_params.get("version"):
            return self._make(request, *args, **kwargs)
        wanted = (renderer.media_type, language)
        with self._making:
            if wanted not in self._made:
                response = self._make(request, *args, **kwargs)
                body = renderer.render(response.data, renderer.media_type, {})
                self._made[wanted] = (body, response.headers["Content-Disposition"])
        body, name = self._made[wanted]
        answer = HttpResponse(body, content_type=f"{renderer.media_type}; charset=utf-8")
        answer["Content-Disposition"] = name
        return answer

    def _make(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
