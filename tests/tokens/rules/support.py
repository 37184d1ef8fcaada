"""Short words for the tests of the rules: asking, claiming, ending logins, letting time pass."""

from datetime import timedelta

from django.utils import timezone

from apps.tokens import errors
from apps.tokens.contracts import LoginGrant, TokenMaterial
from apps.tokens.models import (
    Account,
    LoginAttempt,
    Site,
    SiteBreaker,
    TokenRequest,
)
from apps.tokens.models.requests import Queue, Reason
from apps.tokens.services import acquisition, completion, explain, requests
from apps.tokens.services.acquisition import AcquireSpec
from apps.tokens.services.requests import Asker, Demand
from tests.tokens.factories import caller
from tests.tokens.work import claim, claim_some

SITE = "court_zxfw"


def obtain(site=SITE, account=None, *, principal=None, **spec):
    spec = AcquireSpec(site=site, account=account, **spec)
    return acquisition.obtain(spec, principal=principal or caller())


def ask(site=SITE, account=None, **spec):
    """Ask for a token that needs a login; return the request's id."""
    return obtain(site, account, **spec).request_id


def ask_batch(account, *, queue=Queue.BATCH, asker=None, any_account=False):
    demand = Demand(
        site=account.site,
        account=None if any_account else account,
        reason=Reason.WARM_UP,
        queue=queue,
    )
    return requests.ask(demand, asker=asker)


def batch(name):
    return Asker(kind="batch", id=name, name=name)


def claim_names():
    """Claim everything that can start; return (site, account) in the order of admission."""
    found = []
    while claims := claim_some():
        found += [(one.site.slug, one.credentials.username) for one in claims]
    return found


def grant(bearer="t", **fields):
    fields = {"expires_at": timezone.now() + timedelta(hours=1)} | fields
    return LoginGrant(material=TokenMaterial(bearer=bearer), **fields)


def send(claimed):
    """Record that the secret left, as every login does before it sends one."""
    LoginAttempt.objects.filter(pk=claimed.attempt_id).update(
        secret_fingerprint=claimed.secret_fingerprint, secret_sent_at=timezone.now()
    )


def succeed(claimed=None, **fields):
    claimed = claimed or claim()
    send(claimed)
    assert completion.succeed(claimed.attempt_id, grant(**fields))
    return claimed


def fail(error="SiteUnavailable", claimed=None, *, sent=True, **fields):
    claimed = claimed or claim()
    if sent:
        send(claimed)
    assert completion.fail(claimed.attempt_id, getattr(errors, error)(**fields))
    return claimed


def row(pk):
    return TokenRequest.objects.select_related("site", "account").get(pk=pk)


def codes(pk):
    """Return what explain says the request waits for."""
    return [wait.code for wait in explain.request(row(pk)).waiting_for]


def breaker(site):
    return SiteBreaker.objects.get(site=site)


def state(site):
    """Return the breaker's state; a site without a row is closed."""
    found = SiteBreaker.objects.filter(site=site).first()
    return str(found.state) if found else "closed"


def no_wait():
    """Let the back-off of all requests be over."""
    TokenRequest.objects.update(not_before=timezone.now())


def ago(**delta):
    return timezone.now() - timedelta(**delta)


def ahead(**delta):
    return timezone.now() + timedelta(**delta)


def refreshed(instance):
    instance.refresh_from_db()
    return instance


def set_site(site, **fields):
    Site.objects.filter(pk=site.pk).update(**fields)


def set_account(account, **fields):
    Account.objects.filter(pk=account.pk).update(**fields)
