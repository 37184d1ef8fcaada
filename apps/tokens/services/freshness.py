"""When a token is renewed: early enough for a login of its site, spread, and as the site taught.

The window before the end fits the site: the 95th percentile of its last login times, times a
safety factor, at least the site's own lead, at most a quarter of the token's life. Where tokens
stopped working before their declared end, renewal comes before that, too.
"""

import random
from datetime import datetime, timedelta
from typing import Final

from apps.common.clock import database_now
from apps.tokens.models import LoginAttempt, Site, StoredToken
from apps.tokens.models.attempts import Outcome

LEARN_FROM: Final = 50
SAFETY: Final = 3.0  # a failed login, its back-off and another login fit in
LONGEST_SHARE: Final = 0.25
JITTER: Final = 0.2  # downwards, so that nothing is renewed too late
EARLIER_END_SHARE: Final = 0.8


def refresh_after(site: Site, *, issued_at: datetime, usable_until: datetime) -> datetime:
    """Return from when on a token is to be renewed, jittered."""
    life_s = (usable_until - issued_at).total_seconds()
    wanted_s = max(float(site.refresh_lead_s), SAFETY * p95_login_s(site))
    lead_s = min(wanted_s, life_s * LONGEST_SHARE)
    renewal_s = life_s - lead_s
    if site.learned_ttl_s is not None:
        renewal_s = min(renewal_s, site.learned_ttl_s * EARLIER_END_SHARE)
    # Earlier by up to a fifth of the lead: tokens acquired together are not renewed together.
    jitter_s = lead_s * JITTER * random.random()  # noqa: S311 - no secret
    return issued_at + timedelta(seconds=max(renewal_s - jitter_s, life_s * LONGEST_SHARE))


def p95_login_s(site: Site) -> float:
    """Return the 95th percentile of the site's last successful logins; 0 before there are any."""
    recent = LoginAttempt.objects.filter(site=site, outcome=Outcome.SUCCEEDED)
    times = recent.order_by("-started_at").values_list("started_at", "finished_at")[:LEARN_FROM]
    took = sorted((end - begin).total_seconds() for begin, end in times if end)
    return took[int(0.95 * (len(took) - 1))] if took else 0.0


def learn_end(token: StoredToken, *, at: datetime | None = None) -> None:
    """Note that a token stopped working before its declared end.

    Half of the difference is taken over each time, so that one odd session end teaches little
    and a rule of the site is learned in a few.
    """
    age_s = max(1.0, ((at or database_now()) - token.issued_at).total_seconds())
    declared_s = (token.expires_at - token.issued_at).total_seconds()
    site = Site.objects.get(pk=token.account.site_id)
    before_s = float(site.learned_ttl_s or declared_s)
    Site.objects.filter(pk=site.pk).update(learned_ttl_s=int((before_s + age_s) / 2))


def unlearn(token: StoredToken, *, at: datetime) -> None:
    """A token older than what was learned still works: the site has become better."""
    age_s = int((at - token.issued_at).total_seconds())
    Site.objects.filter(pk=token.account.site_id, learned_ttl_s__lt=age_s).update(
        learned_ttl_s=age_s
    )
