"""The users, for Locust. `./run load` starts it; by itself it needs what that prepares:

    LOAD_FACTS=facts.json LOAD_SAMPLES=samples.jsonl locust -f tests/load/locustfile.py Mixed

Every request becomes one line of LOAD_SAMPLES: Locust's own percentiles are rounded.
"""

import json
import os
import random
import time
from itertools import count
from pathlib import Path
from typing import Any, Final

import gevent
from locust import FastHttpUser, between, events, task

from tests.load.operations import OPERATIONS, Call, Facts, Kind, choose, create_account

# After so many requests the run ends before its time; 0: it does not.
ENOUGH: Final = int(os.environ.get("LOAD_ENOUGH", "0"))
BEAT_S: Final = float(os.environ.get("LOAD_BEAT_S", "2"))
_facts: Final = Facts.read(Path(os.environ["LOAD_FACTS"]))
_names: Final = {f"{one.kind}|{one.name}": one for one in OPERATIONS}
_samples: Final[list[tuple[str, float, float, str]]] = []
_numbers: Final = count()


class _User(FastHttpUser):
    """A program with a key of its own."""

    abstract = True
    connection_timeout = 70.0
    network_timeout = 70.0

    def on_start(self) -> None:
        number = next(_numbers)
        self.dice = random.Random(number)
        self.key = _facts.keys[number % len(_facts.keys)]

    def send(self, name: str, call: Call) -> None:
        """Make the request; an answer that was not expected is a failure."""
        with self.client.request(
            call.method,
            call.path,
            name=name,
            json=call.body,
            headers={"X-API-Key": self.key},
            catch_response=True,
        ) as response:
            if response.status_code not in call.expected:
                response.failure(f"{response.status_code} {(response.text or '')[:300]}")

    def do_anything(self) -> None:
        chosen = choose(self.dice)
        self.send(f"{chosen.kind}|{chosen.name}", chosen.make(_facts, self.dice))


class Mixed(_User):
    """Does one thing after the other, and thinks for about a second in between."""

    wait_time = between(0.5, 1.5)
    anything = task(_User.do_anything)


def _to_the_next_beat(_user: Any) -> float:
    return BEAT_S - time.time() % BEAT_S


class Burst(_User):
    """All users act at the same instant, each as Mixed would."""

    wait_time = _to_the_next_beat
    anything = task(_User.do_anything)

    def on_start(self) -> None:
        super().on_start()
        self.wait()


class Writers(_User):
    """All users store a new account at the same instant."""

    wait_time = _to_the_next_beat

    def on_start(self) -> None:
        super().on_start()
        self.wait()

    @task
    def write(self) -> None:
        self.send(f"{Kind.STORE}|at once", create_account(_facts, self.dice))


@events.request.add_listener
def _note(
    name: str, response_time: float, start_time: float, exception: BaseException | None, **_: Any
) -> None:
    _samples.append((name, start_time, response_time, str(exception) if exception else ""))


@events.test_start.add_listener
def _end_early(environment: Any, **_: Any) -> None:
    def watch() -> None:
        while len(_samples) < ENOUGH:
            gevent.sleep(0.05)
        environment.runner.quit()

    if ENOUGH:
        gevent.spawn(watch)


@events.quitting.add_listener
def _write(**_: Any) -> None:
    with Path(os.environ["LOAD_SAMPLES"]).open("w") as file:
        file.writelines(json.dumps(sample) + "\n" for sample in _samples)
