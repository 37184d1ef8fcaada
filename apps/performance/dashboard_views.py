"""The first page of the admin, and what it asks for every few seconds while somebody looks."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.performance.services import dashboard
from apps.performance.services.dashboard import Dashboard


def fill_index(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the dashboard to the context of the admin's index."""
    return context | _context(request)


def refresh(request: HttpRequest) -> HttpResponse:
    """Answer the parts of the page that change, as htmx swaps them in by their ids.

    Who is not signed in any more is told to load the whole page, which asks them to.
    """
    if not admin.site.has_permission(request):
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    context = _context(request) | {"swap": True}
    answer = render(request, "performance/dashboard/parts.html", context)
    answer["Cache-Control"] = "no-store"
    return answer


def _context(request: HttpRequest) -> dict[str, Any]:
    chosen = dashboard.window(request.GET.get("window", ""))
    found = dashboard.read(chosen, may=request.user.has_perm)
    return {"dashboard": found, "windows": dashboard.WINDOWS, "chart_data": _chart_data(found)}


def _chart_data(found: Dashboard) -> dict[str, Any]:
    """Return what the script draws."""
    return {
        "labels": found.span.labels() if found.charts else [],
        "charts": [
            {
                "name": chart.name,
                "unit": chart.unit,
                "bars": chart.bars,
                "most": chart.most,
                "empty": chart.is_empty,
                "lines": [
                    {"name": line.name, "tone": line.tone, "values": line.values}
                    for line in chart.lines
                ],
            }
            for chart in found.charts
        ],
    }
