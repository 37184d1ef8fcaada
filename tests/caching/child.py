"""Processes that do what a test tells them, one JSON line at a time.

The first one only loads the code and forks the others: loading takes longer than any test.
"""

import json
import os
import random
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import django


def _read(path: Path) -> str:
    value = path.read_text()
    time.sleep(random.random() * 0.003)
    return value


def _count(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")


class Child:
    def prepare(self, namespace: str) -> dict:
        from apps.caching.runtime import current

        current().space(namespace)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            runtime = current()
            shared = runtime.shared
            heard = shared is None or (runtime.background.listening and shared.guard.writable)
            if runtime.generations.known and heard:
                return {"ready": True}
            time.sleep(0.01)
        return {"ready": False}

    def stampede(self, key: str, callers: int, load_s: float, counter: str, at: float) -> dict:
        from apps.caching import services

        def load():
            _count(counter)
            time.sleep(load_s)
            return "loaded"

        values = []
        waits = [
            threading.Thread(
                target=lambda: values.append(services.get_or_load("blacklist", key, load))
            )
            for _ in range(callers)
        ]
        time.sleep(max(0, at - time.time()))
        for wait in waits:
            wait.start()
        for wait in waits:
            wait.join()
        return {"values": sorted(set(values)), "n": len(values)}

    def load_and_die(self, key: str) -> None:
        from apps.caching import services

        def load():
            os.kill(os.getpid(), signal.SIGKILL)

        services.get_or_load("blacklist", key, load)

    def hold(self, key: str, hold_s: float) -> dict:
        from apps.caching import services

        return {"value": services.get_or_load("blacklist", key, lambda: time.sleep(hold_s) or "v")}

    def read_all(self, folder: str, for_s: float) -> dict:
        from apps.caching import services

        paths = sorted(Path(folder).iterdir())
        ends = time.monotonic() + for_s
        while time.monotonic() < ends:
            path = random.choice(paths)
            services.get_or_load("race", path.name, lambda path=path: _read(path))
        return {}

    def change_all(self, folder: str, for_s: float) -> dict:
        from apps.caching import services

        paths = sorted(Path(folder).iterdir())
        ends, version = time.monotonic() + for_s, 0
        while time.monotonic() < ends:
            path = random.choice(paths)
            version += 1
            path.write_text(str(version))
            services.delete("race", path.name)
        return {"changes": version}

    def old_values(self, folder: str) -> dict:
        from apps.caching import services

        paths = sorted(Path(folder).iterdir())
        return {
            "old": sum(
                services.get_or_load("race", path.name, lambda path=path: _read(path))
                != path.read_text()
                for path in paths
            )
        }

    def count(self, reads: int) -> dict:
        from apps.caching import services

        for _ in range(reads):
            services.get("blacklist", "nothing here")
        return {"rows": services.flush_statistics()}

    def fork(self, key: str) -> dict:
        """Fork with locks held and threads running; the child must find a working cache."""
        from apps.caching import services
        from apps.caching.runtime import current

        services.set("blacklist", key, "before")
        space = current().space("blacklist")
        reader, writer = os.pipe()
        with space.lock, current().flights._lock:
            pid = os.fork()
            if pid == 0:
                signal.alarm(60)
                services.set("blacklist", key, "from the child")
                os.write(writer, str(services.get("blacklist", key)).encode())
                os._exit(0)
        os.close(writer)
        said = os.read(reader, 100).decode()
        os.waitpid(pid, 0)
        deadline = time.monotonic() + 60
        while services.get("blacklist", key) == "before" and time.monotonic() < deadline:
            time.sleep(0.01)
        return {"said": said, "parent": services.get("blacklist", key)}


def serve(address: str, redis: bool) -> None:
    """Connect to the test and obey."""
    from django.conf import settings

    if not redis:
        settings.CACHES.pop("shared")
    child = Child()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        with connection.makefile("rw") as stream:
            for line in stream:
                order = json.loads(line)
                answer = getattr(child, order.pop("do"))(**order)
                stream.write(json.dumps(answer) + "\n")
                stream.flush()


def main() -> None:
    """Fork as many processes as each line says, until the test goes away."""
    django.setup()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        for _ in range(order["count"]):
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                serve(order["address"], order["redis"])
                os._exit(0)


if __name__ == "__main__":
    main()
