"""Callers that want tokens all the time, over HTTP, with patience and without."""

import asyncio
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import httpx

from tests.chaos.plan import Plan

API: Final = "/api/v1/automation/tokens/acquire"
FORCED: Final = 0.85
NAMED: Final = 0.8


@dataclass(slots=True)
class Callers:
    """A thread with many callers. `answers` counts them as `status code`."""

    plan: Plan
    url: str
    key: str
    slugs: list[str]
    answers: Counter[str] = field(default_factory=Counter)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="callers")
        self._thread.start()

    def stop(self) -> None:
        """Ask for no more, and wait for the last answers."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=self.plan.callers)
        async with httpx.AsyncClient(
            base_url=self.url, trust_env=False, timeout=60, limits=limits
        ) as http:
            await asyncio.gather(*(self._call(http, n) for n in range(self.plan.callers)))

    async def _call(self, http: httpx.AsyncClient, number: int) -> None:
        dice = random.Random(f"{self.plan.seed}/{number}")
        while not self._stopping.is_set():
            body = self._wish(dice)
            try:
                answer = await http.post(API, json=body, headers={"X-API-Key": self.key})
            except httpx.HTTPError as error:
                self.answers[f"no answer: {type(error).__name__}"] += 1
                continue
            code = answer.json().get("code", "")
            self.answers[f"{answer.status_code} {code}".strip()] += 1
            if answer.status_code != 200:
                await asyncio.sleep(dice.uniform(0.1, 0.8))

    def _wish(self, dice: random.Random) -> dict[str, object]:
        slug = dice.choice(self.slugs)
        wish: dict[str, object] = {
            "site": slug,
            "force": dice.random() < FORCED,
            "max_wait_s": dice.choice([0, 1, 5, 10]),
        }
        if dice.random() < NAMED:
            wish["account"] = f"{slug}-{dice.randrange(self.plan.accounts)}@example.org"
        return wish
