"""Five sites of the lab with their accounts, and the person who changes them meanwhile."""

import random
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from apps.common.clock import database_now
from apps.tokens.faultlab.client import LabClient
from apps.tokens.faultlab.recipes import allowed_hosts, json_recipe
from apps.tokens.models import Account, AdmissionLimits, LoginAttempt, Site, StoredToken
from apps.tokens.services import accounts, selection, sites
from tests.chaos.clock import now_s
from tests.chaos.facts import Change
from tests.chaos.plan import Plan

FAULTS: Final = {
    "503": 0.03, "reset": 0.02, "hang": 0.01, "garbage": 0.01, "slow_body": 0.02, "429": 0.01,
    "401": 0.005,
}  # fmt: skip


@dataclass(slots=True)
class World:
    """The sites, and what was changed. `url` is where workers reach the lab."""

    plan: Plan
    lab: LabClient
    changes: list[Change] = field(default_factory=list)
    healed: int = 0
    _numbers: Any = field(default_factory=lambda: count(1))
    _passwords: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def slugs(self) -> list[str]:
        return [f"site-{n + 1}" for n in range(self.plan.sites)]

    @property
    def limits(self) -> dict[str, int]:
        sites = dict(zip(self.slugs, self.plan.site_limits, strict=True))
        return {"": self.plan.max_concurrent, **sites}

    def build(self) -> None:
        """Make everything: the limits, the sites on both sides, their accounts."""
        AdmissionLimits.objects.update_or_create(
            pk=1,
            defaults={
                "max_concurrent": self.plan.max_concurrent,
                "max_concurrent_per_site": 2,
                "lease_s": self.plan.lease_s,
                "acquisition_timeout_s": 20,
                "background_timeout_s": 20,
                "max_attempts": 5,
            },
        )
        for number, slug in enumerate(self.slugs):
            names = [f"{slug}-{n}@example.org" for n in range(self.plan.accounts)]
            self._passwords[slug] = {name: self._password() for name in names}
            self._build_site(slug, number)

    def _build_site(self, slug: str, number: int) -> None:
        slow = number % 2 == 1
        self.lab.put(
            slug,
            accounts=self._passwords[slug],
            # A slow site still works on a login when a stopped worker's lease is over.
            latency_s=3.5 if slow else 0.1,
            latency_jitter_s=0.5 if slow else 0.6,
            fault_mix=FAULTS,
            retry_after_s=1,
            hang_s=3,
            slow_body_s=1,
            seed=self.plan.seed + number,
            rotate_refresh=True,
        )
        recipe = json_recipe(self.lab.url, slug, refresh=number == self.plan.sites - 1)
        # Two logins in a row: after the first answer there is something left to send.
        first = {key: value for key, value in recipe["steps"][0].items() if key != "capture"}
        recipe["steps"].insert(0, {**first, "name": "enter"})
        site = Site(
            slug=slug,
            connector="noted",
            recipe=recipe,
            allowed_hosts=list(allowed_hosts(self.lab.url)),
            max_concurrent=self.plan.site_limits[number],
            login_timeout_s=self.plan.login_timeout_s,
            request_timeout_s=self.plan.login_timeout_s,
            budget_per_account=10_000,
            budget_per_site=100_000,
            breaker_open_s=1,
        )
        sites.save(site)
        for name, password in self._passwords[slug].items():
            accounts.create(Account(site=site, username=name), {"password": password})

    def edit(self, account: Account, *, wrong: bool = False) -> None:
        """Change the password at the site and here; `wrong` enters one the site does not have."""
        password = self._password()
        slug = account.site.slug
        self._passwords[slug][account.username] = f"{password}-not" if wrong else password
        self.lab.patch(slug, accounts=self._passwords[slug])
        begun_s = now_s()
        accounts.set_secrets(account, {"password": password})
        self._note(account, "edit", begun_s)

    def revoke(self, account: Account) -> bool:
        """Take the account's token out of circulation; False if it has none."""
        token = StoredToken.objects.filter(account=account).select_related("account__site").first()
        if token is None:
            return False
        begun_s = now_s()
        if not accounts.revoke(token, reason="chaos"):
            return False
        self._note(account, "revoke", begun_s)
        return True

    def heal(self) -> None:
        """Do what a person does for accounts that ask for one: enter the right password."""
        limits, at = AdmissionLimits.current(), database_now()
        for site in Site.objects.all():
            for found in selection.judge(site.accounts.all(), site=site, at=at, limits=limits):
                if found.why_not and found.why_not.code in (
                    "secret_known_wrong",
                    "secret_in_doubt",
                ):
                    found.account.site = site
                    self.edit(Account.objects.select_related("site").get(pk=found.account.pk))
                    self.healed += 1
        # Our own cooldowns and open breakers would only make the run longer.
        Account.objects.exclude(cooldown_until=None).update(cooldown_until=None)

    def in_flight(self) -> Account | None:
        """Return the account whose login began last: it goes on for longest."""
        newest = LoginAttempt.objects.filter(outcome="").order_by("-started_at").first()
        if newest is None:
            return None
        return Account.objects.select_related("site").get(pk=newest.account_id)

    def with_token(self, dice: random.Random) -> Account | None:
        """Return an account that is being logged in while its older token is in circulation."""
        busy = StoredToken.objects.filter(revoked_at=None, account__logins__outcome="")
        rows = list(busy.values_list("account_id", flat=True))
        if not rows:
            return None
        return Account.objects.select_related("site").get(pk=dice.choice(rows))

    def _note(self, account: Account, kind: str, begun_s: float) -> None:
        done_s = now_s()
        row = Account.objects.get(pk=account.pk)
        change = Change(
            account=account.username,
            kind=kind,
            begun_s=begun_s,
            done_s=done_s,
            credential_version=row.credential_version,
            fence=row.fence,
        )
        self.changes.append(change)

    def _password(self) -> str:
        return f"pw-{self.plan.seed}-{next(self._numbers)}"
