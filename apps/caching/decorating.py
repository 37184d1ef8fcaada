"""`@cached(namespace)`: a function whose results are kept."""

import inspect
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

from apps.caching import services
from apps.caching.codec import pack
from apps.caching.keys import digest

F = TypeVar("F", bound=Callable[..., Any])


class Cached(Protocol):
    """What a decorated function can do besides being called."""

    def cache_key(self, *args: Any, **kwargs: Any) -> str: ...
    def invalidate(self, *args: Any, **kwargs: Any) -> None: ...


def cached(
    namespace: str,
    *,
    ttl_s: float | None = None,
    expires_at: Callable[[Any], datetime | None] | None = None,
    deadline_s: float = 30.0,
) -> Callable[[F], F]:
    """Keep the results of a function, or of a coroutine function, in a namespace.

    The key covers module, qualified name and all arguments by their parameters, so that `f(1)`
    and `f(a=1)` are one; arguments are plain data as in `codec.pack`. None is a value. The
    function gains `cache_key(...)` and `invalidate(...)`, which take its arguments.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        prefix = f"{function.__module__}.{function.__qualname__}"

        def cache_key(*args: Any, **kwargs: Any) -> str:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = [[name, _ordered(value)] for name, value in bound.arguments.items()]
            return f"{prefix}:{digest(namespace, pack(arguments).hex())}"

        def invalidate(*args: Any, **kwargs: Any) -> None:
            services.delete(namespace, cache_key(*args, **kwargs))

        wrapper: Any
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def awrapper(*args: Any, **kwargs: Any) -> Any:
                found = await services.alookup(
                    namespace, cache_key(*args, **kwargs), lambda: function(*args, **kwargs),
                    ttl_s=ttl_s, expires_at=expires_at, deadline_s=deadline_s,
                )  # fmt: skip
                return found.value

            wrapper = awrapper
        else:

            @wraps(function)
            def swrapper(*args: Any, **kwargs: Any) -> Any:
                return services.get_or_load(
                    namespace, cache_key(*args, **kwargs), lambda: function(*args, **kwargs),
                    ttl_s=ttl_s, expires_at=expires_at, deadline_s=deadline_s,
                )  # fmt: skip

            wrapper = swrapper
        wrapper.cache_key, wrapper.invalidate = cache_key, invalidate
        return cast("F", wrapper)

    return decorate


def _ordered(value: Any) -> Any:
    """Return the value with a fixed order where order means nothing."""
    if isinstance(value, dict):
        pairs = [[_ordered(key), _ordered(item)] for key, item in value.items()]
        return {"d": sorted(pairs, key=lambda pair: pack(pair[0]))}
    if isinstance(value, set | frozenset):
        return {"s": sorted((_ordered(item) for item in value), key=pack)}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(_ordered(item) for item in value)]
    return value
