"""Routes of the history under /api/v1/automation/."""

from rest_framework.routers import SimpleRouter

from apps.history.viewsets import HistoryViewSet

router = SimpleRouter(trailing_slash=False)
router.register("history", HistoryViewSet, basename="history")

urlpatterns = router.urls
