"""Try a site's recipe and show every step."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.common.clock import database_now
from apps.common.errors import ValidationFailed
from apps.tokens.contracts import StepTrace
from apps.tokens.errors import RecipeError
from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, Site
from apps.tokens.models.attempts import Outcome
from apps.tokens.services import checking, selection, sites


class Command(BaseCommand):
    help = (
        "Log in at a site once, showing each step, what it captured (redacted), its time, and "
        "the verdict. All limits hold, and a token that comes of it is kept."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("site", help="slug of the site")
        parser.add_argument("--account", help="username; the one selection prefers without it")
        parser.add_argument("--recipe-only", action="store_true", help="check the recipe, no login")

    def handle(self, **options: Any) -> None:
        site = Site.objects.filter(slug=options["site"]).first()
        if site is None:
            raise CommandError(f"There is no site {options['site']!r}; see: manage.py export_sites")
        try:
            sites.check(site)
        except RecipeError as error:  # the connector is not installed
            raise CommandError(error.message) from error
        except ValidationFailed as error:
            faults = error.details.get("errors", [])
            raise CommandError("\n".join([error.message, *map(str, faults)])) from error
        self.stdout.write(f"The recipe of {site.slug} is well formed.")
        if options["recipe_only"]:
            return
        account = self._account(site, options["account"])
        attempt = checking.check(site, account, on_trace=self._show)
        if attempt is None:
            raise CommandError(self._why_not(site, account))
        self._verdict(attempt)

    def _account(self, site: Site, username: str | None) -> Account | None:
        if username is None:
            return None
        account = site.accounts.filter(username=username).first()
        if account is None:
            raise CommandError(f"{site.slug} has no account {username!r}.")
        return account

    def _show(self, step: StepTrace) -> None:
        status = step.status if step.status is not None else "-"
        line = f"{step.step}: {step.method} {step.url} → {status} in {step.took_s * 1000:.0f} ms"
        self.stdout.write(line + (f" — {step.verdict}" if step.verdict else ""))
        for name, value in step.captured.items():
            self.stdout.write(f"    {name} = {value}")
        self.stdout.flush()

    def _verdict(self, attempt: LoginAttempt) -> None:
        took_s = 0.0
        if attempt.finished_at:
            took_s = (attempt.finished_at - attempt.started_at).total_seconds()
        if attempt.outcome == Outcome.SUCCEEDED:
            self.stdout.write(
                self.style.SUCCESS(f"Logged in as {attempt.account.username} in {took_s:.2f} s.")
            )
            return
        raise CommandError(
            f"The login failed after {took_s:.2f} s: {attempt.error_message} "
            f"[{attempt.error_code}, blamed on: {attempt.blame or 'nobody'}]"
        )

    def _why_not(self, site: Site, account: Account | None) -> str:
        at, limits = database_now(), AdmissionLimits.current()
        rows = site.accounts.filter(pk=account.pk) if account else site.accounts.all()
        reasons = [
            f"{found.account.username}: {why.code}"
            + (f" until {why.until:%F %T %Z}" if why.until else "")
            for found in selection.judge(rows, site=site, at=at, limits=limits)
            if (why := found.why_not)
        ]
        told = "; ".join(reasons) or "a limit is reached, or the same login is being made already"
        return f"No login could start: {told}."
