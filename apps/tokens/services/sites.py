"""Sites as connectors see them, and the checks before one is saved."""

from apps.common.errors import BusinessRuleViolated, ValidationFailed
from apps.common.fields import readable
from apps.tokens.connectors.registry import connector_for
from apps.tokens.contracts import Connector, SiteConfig
from apps.tokens.models import Account, Site
from apps.tokens.services import directory, hours, locks, lookup, requests

DEFAULT_USER_AGENT = "Mozilla/5.0 (compatible; Latchkey)"


def connector_of(site: Site) -> Connector:
    """Return the connector of a site. Raises RecipeError if it is not installed any more."""
    return connector_for(site.connector)


def site_config(site: Site) -> SiteConfig:
    """Return the frozen view of a site that a connector works with."""
    return SiteConfig(
        slug=site.slug,
        connector=site.connector,
        recipe=site.recipe,
        allowed_hosts=tuple(site.allowed_hosts),
        login_timeout_s=site.login_timeout_s,
        request_timeout_s=site.request_timeout_s,
        user_agent=site.user_agent or DEFAULT_USER_AGENT,
        proxy=site.proxy or "",
    )


def check(site: Site) -> None:
    """Check what the fields alone cannot.

    Raises InvalidRecipe, or ValidationFailed naming the field.
    """
    hosts = site.allowed_hosts
    if not isinstance(hosts, list) or not all(isinstance(host, str) and host for host in hosts):
        raise ValidationFailed(
            "allowed_hosts must be a list of host names.",
            details={"errors": {"allowed_hosts": ["Must be a list of host names."]}},
        )
    hours.check(site.closed_hours, site.time_zone)
    hours.check(site.warm_hours, site.time_zone, field="warm_hours")
    connector_of(site).validate(site.recipe)


def save(site: Site) -> None:
    """Check and save a site; fingerprints follow where the recipe now sends other secrets."""
    check(site)
    with locks.admission():
        rows = Site.objects.filter(pk=site.pk)
        before = rows.values_list("connector", "recipe").first()
        site.save()
        directory.forget_site(site.slug)
        lookup.forget_site(site)
        if before not in (None, (site.connector, site.recipe)):
            _follow_recipe(site)
        requests.reconsider_site(site)


def _follow_recipe(site: Site) -> None:
    """Bring the fingerprints of the accounts' secrets up to what the recipe now sends."""
    from apps.tokens.services.accounts import secret_fingerprint  # accounts builds on sites

    for account in site.accounts.all():
        if (secrets := readable(account, "secrets")) is None:
            continue  # nothing there, or nothing that could be sent
        account.site = site
        mark = secret_fingerprint(account, secrets)
        if mark != account.secret_fingerprint:
            Account.objects.filter(pk=account.pk).update(secret_fingerprint=mark)


def remove(site: Site) -> None:
    """Delete a site with its accounts. Raises BusinessRuleViolated while a login runs there."""
    with locks.admission():
        if site.logins.filter(outcome="").exists():
            raise BusinessRuleViolated("A login at this site is running; try again when done.")
        lookup.forget_site(site)
        directory.forget_site(site.slug)
        site.delete()
