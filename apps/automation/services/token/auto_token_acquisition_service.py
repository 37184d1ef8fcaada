"""`AutoTokenAcquisitionService`: a door to the acquisition of tokens."""

from apps.automation.services.token.caller import local_caller
from apps.tokens.services import acquisition, waiting
from apps.tokens.services.acquisition import AcquireSpec, HandOut
from apps.tokens.services.lookup import TokenView

PATIENCE_S = 60.0


class AutoTokenAcquisitionService:
    """Gets a token from storage, or has the workers log in for it. Every token is audited."""

    def acquire_token_if_needed(
        self, site_name: str, account: str | None = None, *, max_wait_s: float = PATIENCE_S
    ) -> str:
        """Return a valid bearer token. Raises what `acquire` does."""
        return self.acquire(site_name, account, max_wait_s=max_wait_s).material.bearer

    def acquire(
        self,
        site_name: str,
        account: str | None = None,
        *,
        force: bool = False,
        max_wait_s: float = PATIENCE_S,
    ) -> TokenView:
        """Return a valid token; wait for the login of it `max_wait_s` seconds at most.

        Raises TimeoutError when patience ends first (the login goes on), AcquisitionFailed,
        NoAccountAvailable, UnknownSite, UnknownAccount, SiteDisabled.
        """
        spec = AcquireSpec(site=site_name, account=account, force=force, purpose="python")
        caller = local_caller()
        found = acquisition.obtain(spec, principal=caller)
        if isinstance(found, HandOut):
            return found.token
        view = waiting.wait(found, max_wait_s=max_wait_s)
        if view is None:
            raise TimeoutError(
                f"No token yet; the request {found.request_id} goes on. Are the workers running?"
            )
        acquisition.hand_out(view, spec=spec, principal=caller, cached=False, remote_address="")
        return view
