"""The token app's pages in the admin. Facts are read-only; actions call the services."""

from apps.tokens.admin import accounts, rows, sites

__all__ = ["accounts", "rows", "sites"]
