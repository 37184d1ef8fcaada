"""Who asks when Python code of this installation does."""

from apps.access.contracts import ANY_SITE, Grant, Principal, Scope


def local_caller() -> Principal:
    """Return the caller behind these doors: whoever runs code here may read the database."""
    return Principal(
        kind="user",
        id="python",
        name="python",
        user_id=0,
        scopes=frozenset(Scope),
        grants=(Grant(site=ANY_SITE),),
    )
