"""The environment of the login servers: made from hashed pins, or a reason why not."""

import subprocess

import pytest

from tests.integration import environment


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """No environment yet, and a package manager that fails as `says` tells it to."""
    monkeypatch.setattr(environment, "ENVIRONMENT", tmp_path / "env")
    monkeypatch.setattr(environment, "_uv", lambda: "uv")
    monkeypatch.delenv("CI", raising=False)

    def says(text):
        def run(command, **_options):
            return subprocess.CompletedProcess(command, 1, stdout="", stderr=text)

        monkeypatch.setattr(subprocess, "run", run)

    says("error sending request for url")
    return says


def test_without_a_network_the_tests_are_skipped_with_the_reason(empty):
    with pytest.raises(pytest.skip.Exception, match="cannot be downloaded: error sending"):
        environment.python()


def test_without_uv_the_tests_are_skipped_with_the_reason(empty, monkeypatch):
    monkeypatch.setattr(environment, "_uv", lambda: None)

    with pytest.raises(pytest.skip.Exception, match="uv is not installed"):
        environment.python()


def test_in_ci_nothing_is_skipped(empty, monkeypatch):
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="cannot be downloaded"):
        environment.python()


def test_a_package_that_is_not_the_pinned_one_is_a_failure(empty):
    empty("Hash mismatch for devpi-server")

    with pytest.raises(pytest.fail.Exception, match="Hash mismatch"):
        environment.python()
