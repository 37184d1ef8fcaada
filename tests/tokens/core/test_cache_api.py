"""Keys at the cache's own endpoints."""

import pytest
from rest_framework.test import APIClient

from apps.access.authentication import KeyUser
from tests.tokens.factories import caller


@pytest.mark.parametrize(("scopes", "status"), [(["operate"], 200), (["tokens:read"], 403)])
def test_a_key_needs_the_scope_of_operators(scopes, status):
    client = APIClient()
    client.force_authenticate(KeyUser(pk=1, username="u"), token=caller(scopes=scopes))
    assert client.get("/api/v1/automation/cache/policies").status_code == status
