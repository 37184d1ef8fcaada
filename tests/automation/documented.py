"""The Python snippets of the older document, word for word."""

CACHE_MANAGER = """\
from apps.automation.services.token.cache_manager import cache_manager

# 缓存Token
cache_manager.cache_token("court_zxfw", "test_account", "token_12345")

# 获取缓存的Token
token = cache_manager.get_cached_token("court_zxfw", "test_account")
"""

CONCURRENCY_CONFIG = """\
@dataclass
class ConcurrencyConfig:
    max_concurrent_acquisitions: int = 3  # 最大并发获取数
    max_concurrent_per_site: int = 2      # 每个站点最大并发数
    max_concurrent_per_account: int = 1   # 每个账号最大并发数
    acquisition_timeout: float = 300.0    # 获取超时时间（秒）
"""

REDIS_CACHES = """\
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://127.0.0.1:6379/0",
        "OPTIONS": {
            "CLIENT_CLASS": "django_redis.client.DefaultClient",
        },
    }
}
"""

ALERT_THRESHOLDS = """\
@dataclass
class AlertThresholds:
    min_success_rate: float = 80.0      # 最低成功率（%）
    max_avg_duration: float = 120.0     # 最大平均耗时（秒）
    max_timeout_rate: float = 10.0      # 最大超时率（%）
    max_concurrent_acquisitions: int = 5 # 最大并发获取数
    min_cache_hit_rate: float = 70.0    # 最低缓存命中率（%）
"""

FUNCTIONAL_TEST = """
from apps.automation.services.token.performance_monitor import performance_monitor
from apps.automation.services.token.cache_manager import cache_manager

# 测试性能监控
performance_monitor.record_acquisition_start('test_001', 'court_zxfw', 'test_account')
performance_monitor.record_acquisition_end('test_001', True, 10.5, 8.2)
print('性能监控测试完成')

# 测试缓存
cache_manager.cache_token('court_zxfw', 'test_account', 'test_token')
token = cache_manager.get_cached_token('court_zxfw', 'test_account')
print(f'缓存测试完成: {token}')
"""

# The command lines of the document, after `python manage.py optimize_token_performance`.
COMMAND_LINES = (
    "--health-check",
    "--cleanup-days 30",
    "--warm-cache court_zxfw",
    "--optimize-concurrency",
    "--reset-metrics",
    "--health-check --cleanup-days 7 --warm-cache court_zxfw",
)

# Method, and what stands after `/api/v1/automation/performance/`.
PATHS = (
    ("GET", "metrics"),
    ("GET", "statistics"),
    ("GET", "health"),
    ("GET", "resource-usage"),
    ("POST", "optimize-concurrency"),
    ("GET", "cache-stats"),
    ("POST", "cache/warm-up?site_name=court_zxfw"),
    ("DELETE", "cache/clear"),
    ("POST", "metrics/reset"),
    ("POST", "resources/cleanup"),
)
