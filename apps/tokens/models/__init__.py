"""The rows of the token app.

Supply: `Site`, `Account`, `StoredToken`, `RefreshToken`. Demand: `TokenRequest`, `Interest`.
Work: `LoginAttempt`, `WorkerProcess`, `RecoveryAction`. Rules: `AdmissionLimits`, `SiteBreaker`.
"""

from apps.tokens.models.attempts import ClusterBeat, LoginAttempt, RecoveryAction, WorkerProcess
from apps.tokens.models.breakers import BreakerTransition, SiteBreaker
from apps.tokens.models.limits import AdmissionLimits
from apps.tokens.models.requests import Interest, TokenRequest
from apps.tokens.models.sites import Account, SecretVerdict, Site
from apps.tokens.models.stored import RefreshToken, StoredToken, TokenReport

__all__ = [
    "Account",
    "AdmissionLimits",
    "BreakerTransition",
    "ClusterBeat",
    "Interest",
    "LoginAttempt",
    "RecoveryAction",
    "RefreshToken",
    "SecretVerdict",
    "Site",
    "SiteBreaker",
    "StoredToken",
    "TokenReport",
    "TokenRequest",
    "WorkerProcess",
]
