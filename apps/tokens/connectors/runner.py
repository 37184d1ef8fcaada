"""Runs the steps of a recipe, one after the other."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx

from apps.common import tracing
from apps.tokens.connectors import flow, pictures, sending
from apps.tokens.connectors.answers import Answer
from apps.tokens.connectors.captures import capture
from apps.tokens.connectors.conditions import compared
from apps.tokens.connectors.scope import ONE_TIME_CODE, Scope
from apps.tokens.connectors.verdicts import LOGIN, Failure, Rules, judge
from apps.tokens.contracts import Challenge, LoginContext, StepTrace
from apps.tokens.errors import ChallengeUnanswered, LoginFailure, UnexpectedPage

MAX_CHALLENGES: Final = 5
LONG: Final = 32

Step = Mapping[str, Any]


@dataclass
class Runner:
    """One run: a context, its client and cookies, and the variables so far.

    `sent_at` is when the latest step was sent, in seconds since the epoch: what the site gives
    with it cannot have begun to age before.
    """

    context: LoginContext
    client: httpx.AsyncClient
    scope: Scope
    rules: Rules = LOGIN
    sent_at: float = field(default_factory=time.time)
    code_sent: bool = False

    def check(self, steps: Sequence[Step], after: Mapping[str, Any]) -> None:
        """Find variables that nothing can set, such as a secret the account lacks, before
        anything is sent. `after` is what is rendered when the steps are done. Raises RecipeError.
        """
        later = flow.defined(self.context.site.recipe) | {ONE_TIME_CODE, "token", "refresh_token"}
        for step in steps:
            self._check_names(step.get("name", "verify"), _rendered_parts(step), later)
        for name, value in after.items():
            self._check_names(name, value, later)

    async def run(self, steps: Sequence[Step]) -> None:
        """Run all steps; a challenge that was answered continues where the recipe says.

        Raises LoginFailure.
        """
        places = {step["name"]: place for place, step in enumerate(steps)}
        place = challenges = 0
        while place < len(steps):
            resume = await self.step(steps[place])
            if resume is None:
                place += 1
                continue
            challenges += 1
            if challenges > MAX_CHALLENGES:
                said = f"The site asked again after {MAX_CHALLENGES} answers."
                raise ChallengeUnanswered(said, step=self.scope.step)
            place = places[resume]

    async def step(self, step: Step, *, name: str = "") -> str | None:
        """Run one step; return the step to go on with after a challenge. Raises LoginFailure."""
        self.scope.step = step.get("name", name)
        with tracing.span(f"step {self.scope.step}"):
            failure, answer = await self._judged(step)
        if failure is None:
            return None
        try:
            return await self._ask(failure, answer)
        except LoginFailure as error:
            _name_step(error, self.scope.step)
            raise

    async def _judged(self, step: Step) -> tuple[Failure | None, Answer]:
        """Send a step; return its answer, and the question in it that a person has to answer."""
        trace = StepTrace(step=self.scope.step, method=step.get("method", "GET"))
        started = time.monotonic()
        try:
            request = await self._prepare(step)
            trace = replace(trace, url=sending.shown_url(step, request, self.scope))
            answer = await self._send(step, request)
            trace = replace(trace, status=answer.status)
            failure = judge(step, answer, self.scope, code_sent=self.code_sent, rules=self.rules)
            captured = {} if failure else self._capture(step.get("capture", {}), answer)
            trace = replace(
                trace, verdict="challenge_needed" if failure else "ok", captured=captured
            )
        except LoginFailure as error:
            _name_step(error, self.scope.step)
            trace = replace(trace, verdict=error.code)
            raise
        finally:
            self.context.trace(replace(trace, took_s=time.monotonic() - started))
        return failure, answer

    def _check_names(self, step: str, value: Any, later: set[str]) -> None:
        self.scope.step = step
        missing = self.scope.needs(value) - self.scope.values.keys() - later
        if missing:
            raise self.scope.wrong(f"variable {min(missing)!r} is not known")

    async def _prepare(self, step: Step) -> httpx.Request:
        """Fill in everything; after this the only thing left is to send."""
        scope = self.scope
        parts = sending.variables_of(step)
        await scope.fetch_code(scope.needs([step.get("let", {}), parts]))
        for name, expression in step.get("let", {}).items():
            scope.let(name, expression)
        request = sending.build(self.client, step, scope)
        scope.native(_compared_parts(step))
        carried = scope.needs(parts)
        if carried & scope.secret:
            await self.context.sending_secret()
        self.code_sent = self.code_sent or bool(carried & scope.codes)
        return request

    async def _send(self, step: Step, request: httpx.Request) -> Answer:
        self.sent_at = time.time()
        response = await self.client.send(
            request, follow_redirects=step.get("follow_redirects", False)
        )
        return Answer(response, cookies=self.client.cookies, encoding=step.get("encoding", ""))

    def _capture(self, captures: Mapping[str, Any], answer: Answer) -> dict[str, str]:
        """Set the captured variables; return them redacted."""
        shown = {}
        for name, spec in captures.items():
            value = capture(spec, answer)
            if value is None:
                raise UnexpectedPage(f"{name!r} is not in the answer.", step=self.scope.step)
            self.scope.put(name, value)
            shown[name] = redacted(value)
        return shown

    async def _ask(self, failure: Failure, answer: Answer) -> str:
        """Have a person answer the site's question; return the step to go on with."""
        asked = failure["challenge"]
        self._capture(asked.get("capture", {}), answer)
        image = await self._picture(asked["image"], answer) if "image" in asked else b""
        reply = await self.context.challenge(
            Challenge(
                kind=asked["kind"],
                prompt=self.scope.text(asked["prompt"]),
                image=image,
                image_type=pictures.media_type(image),
            )
        )
        self.scope.put(asked["answer"], reply)
        self.scope.forget_code()
        return str(asked["resume"])

    async def _picture(self, spec: Mapping[str, Any], answer: Answer) -> bytes:
        if "url" in spec:
            if self.scope.needs(spec["url"]) & self.scope.secret:
                await self.context.sending_secret()
            return await self._fetch(self.scope.text(spec["url"]))
        found = capture(spec, answer)
        if found is None:
            raise UnexpectedPage("The challenge's image is not there.", step=self.scope.step)
        inline = pictures.inline(str(found))
        if inline is not None:
            return inline
        return await self._fetch(pictures.absolute(answer.url, str(found)))

    async def _fetch(self, url: str) -> bytes:
        try:
            response = await self.client.get(url, follow_redirects=True)
        except httpx.InvalidURL:
            raise self.scope.wrong("the image's url is not valid") from None
        if not response.is_success:
            raise UnexpectedPage("The challenge's image is not there.", step=self.scope.step)
        return response.content


def redacted(value: Any) -> str:
    """Return what may be shown of a captured value: the start and the length of a long one."""
    text = str(value)
    return f"{text[:4]}… ({len(text)} characters)" if len(text) >= LONG else "***"


def _rendered_parts(step: Step) -> list[Any]:
    return [step.get("let", {}), sending.variables_of(step), _compared_parts(step)]


def _compared_parts(step: Step) -> list[Any]:
    whens = [failure["when"] for failure in step.get("failures", [])]
    return [compared(condition) for condition in (*step.get("success", []), *whens)]


def _name_step(error: LoginFailure, step: str) -> None:
    if step and not error.step:
        error.step = step
        error.details["step"] = step
