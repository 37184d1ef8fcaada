from rest_framework.routers import SimpleRouter

from apps.caching.viewsets import CachePolicyViewSet, CacheUsageViewSet

router = SimpleRouter(trailing_slash=False)
router.register("cache/policies", CachePolicyViewSet, basename="cache-policy")
router.register("cache/usage", CacheUsageViewSet, basename="cache-usage")

urlpatterns = router.urls
