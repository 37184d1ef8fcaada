"""Canaries: no secret passes the sink, whatever way it takes."""

import io
import json
import logging
import os
import subprocess
import sys
import textwrap

import pytest
import structlog
from django.conf import settings

from apps.common import redaction
from apps.common.redaction import REDACTED, guard
from apps.common.request_context import bind
from config.logs import SafeStreamHandler, logging_config, redacted_formatter

CANARY = 'Canary-9f!ü"x'
KEY = "lk_" + "Ab3dEf6hIj9kLm2nOp5q"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
log = structlog.stdlib.get_logger("tests.canary")
plain = logging.getLogger("tests.canary.plain")


@pytest.fixture(params=["json", "console"])
def lines(request):
    """What the configured formatter writes while a test runs."""
    stream = io.StringIO()
    handler = SafeStreamHandler(stream)
    handler.setFormatter(redacted_formatter(request.param))
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def fail_with(text: str) -> None:
    local_secret = "local-canary"  # noqa: F841
    raise ValueError(text)


def log_failure(logger, text: str) -> None:
    try:
        fail_with(text)
    except ValueError:
        logger.exception("failed")


WAYS = {
    "event": lambda secret: log.info(f"password={secret}"),
    "value": lambda secret: log.info("x", note=f"token='{secret}'"),
    "key": lambda secret: log.info("x", password=secret),
    "nested key": lambda secret: log.info("x", a={"b": [{"refresh_token": secret}]}),
    "header": lambda secret: log.info("x", headers={"Authorization": secret, "Cookie": secret}),
    "camel case": lambda secret: log.info("x", accessToken=secret),
    "bytes": lambda secret: log.info("x", api_key=secret.encode()),
    "stdlib argument": lambda secret: plain.warning("Set-Cookie: sid=%s", secret),
    "stdlib mapping": lambda secret: plain.warning("%(password)s", {"password": f"pwd='{secret}'"}),
    "url user": lambda secret: plain.warning("GET https://me:%s@host/", "p4ss"),
    "url query": lambda secret: plain.warning("GET https://h/?a=1&access_token=%s", secret),
    "exception text": lambda secret: log_failure(log, f"secret='{secret}'"),
    "stdlib exception text": lambda secret: log_failure(plain, f"secret='{secret}'"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_with_a_name_does_not_pass(lines, way):
    WAYS[way]("hunter2canary")
    assert lines.getvalue()
    assert "canary" not in lines.getvalue().replace("tests.canary", "").replace("log_failure", "")


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        JWT,
        f"Bearer {'abc.def-ghi' * 2}",
        "Basic dXNlcjpodW50ZXIy",
        "https://user:hunter2@portal.example/x",
        "redis://:hunter2@10.0.0.1:6379/0",
        "postgres://latchkey:hunter2@db/latchkey",
        "Zm9vYmFyMDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=",
        "Pq3_x-7Kd9LmN2oP4rS6tU8vW0yZ1aB3cD5eF7gH9iJ",
    ],
)
def test_what_looks_like_a_secret_does_not_pass(lines, secret):
    log.info("x", note=f"it said {secret} and left", objects=[Opaque(secret)])
    plain.error("it said %s and left", secret)
    log_failure(plain, f"it said {secret} and left")
    assert "hunter2" not in lines.getvalue()
    assert secret not in lines.getvalue()


class Opaque:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"<Opaque {self.text}>"


@pytest.mark.parametrize(
    "harmless",
    [
        "/usr/lib/python3.11/site-packages/Django/core/management/commands/Check1.py",
        "8f14e45fceea167a5a36dedd4bea2543",
        "123e4567-e89b-12d3-a456-426614174000",
        "token expired: https://portal.example/login?page=2",
        "the token of court_zxfw is stored",
        "a" * 300,
    ],
)
def test_what_an_operator_needs_passes(lines, harmless):
    log.info("x", note=harmless, token_id=4711, tokens=3, site="court_zxfw", ok=True)
    text = lines.getvalue()
    assert all(part in text for part in (harmless, "4711", "court_zxfw"))


GUARDED = {
    "event": lambda: log.info(CANARY),
    "value": lambda: log.info("x", note=CANARY),
    "key name": lambda: log.info("x", note={CANARY: 1}),
    "repr": lambda: log.info("x", note=Opaque(CANARY)),
    "tuple": lambda: log.info("x", note=(CANARY,)),
    "escaped repr": lambda: log.info("x", note=repr([CANARY])),
    "ascii": lambda: log.info("x", note=ascii(CANARY)),
    "json": lambda: log.info("x", note=json.dumps({"a": CANARY})),
    "url": lambda: plain.error("GET /?q=%s", "Canary-9f%21%C3%BC%22x"),
    "number": lambda: log.info("x", note=271828),
    "stdlib": lambda: plain.error("%s", CANARY),
    "stdlib dict": lambda: plain.error("%s", {"a": CANARY}),
    "exception": lambda: log_failure(log, CANARY),
    "stdlib exception": lambda: log_failure(plain, CANARY),
    "stack": lambda: plain.error("x %s", CANARY, stack_info=True),
}


@pytest.mark.parametrize("way", GUARDED)
def test_a_guarded_value_does_not_pass(lines, way):
    with guard([CANARY, "271828"]):
        GUARDED[way]()
    assert lines.getvalue()
    assert "Canary-9f" not in lines.getvalue()
    assert "271828" not in lines.getvalue()


@pytest.mark.parametrize("message", ["%d", "%s %s", "%(a)s"])
def test_a_line_that_cannot_be_written_does_not_show_its_arguments(message, capsys):
    stream = io.StringIO()
    handler = SafeStreamHandler(stream)
    handler.setFormatter(redacted_formatter("json"))
    handler.handle(logging.LogRecord("a", logging.ERROR, "f.py", 7, message, (CANARY,), None))
    assert stream.getvalue().startswith("log line lost: ")
    assert stream.getvalue().endswith(" at f.py:7\n")
    assert "Canary" not in stream.getvalue() + capsys.readouterr().err


def test_a_failure_logged_just_after_the_login_is_still_redacted(lines):
    try:
        with guard([CANARY]):
            fail_with(CANARY)
    except ValueError:
        plain.exception("failed")
    assert "Canary-9f" not in lines.getvalue()


def test_a_process_forked_in_the_middle_of_a_line_can_still_log():
    code = """
    import os, signal
    from apps.common import redaction
    with redaction.guard(["hunter2"]), redaction._State.lock:
        if (child := os.fork()) == 0:
            signal.alarm(5)
            os._exit(0 if redaction.redact_text("hunter2") == "[redacted]" else 1)
    raise SystemExit(os.waitpid(child, 0)[1])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


@pytest.mark.parametrize("word", ["wrong", "secret", "known"])
def test_a_password_that_is_an_ordinary_word_spoils_no_code(word):
    answer = {"code": "secret_known_wrong", "reasons": {"secret_known_wrong": 2}, "wrong": 1}
    with guard([word]):
        assert redaction.redact(answer)["code"] == "secret_known_wrong"
        assert redaction.redact(answer)["reasons"] == {"secret_known_wrong": 2}
        for text in (f"The {word} one.", word, f"{word}!", f"a-{word}", f"a_{word} b", f"A_{word}"):
            assert word not in redaction.redact_text(text)
        assert word not in redaction.redact({word: 1, f"{word} x": 1})


def test_a_password_that_looks_like_a_code_does_not_pass():
    with guard(["secret_known_wrong", "hunter2_x"]):
        for text in ("secret_known_wrong", "a secret_known_wrong b", "hunter2_x", "a_hunter2_x_b"):
            assert redaction.redact_text(text).replace(REDACTED, "") in ("", "a  b", "a__b")
        assert REDACTED in redaction.redact({"secret_known_wrong": 1})


def test_the_causes_of_an_exception_are_redacted(lines):
    with guard([CANARY]):
        try:
            try:
                fail_with(CANARY)
            except ValueError as cause:
                error = RuntimeError("outer")
                error.add_note(CANARY)
                raise error from cause
        except RuntimeError:
            log.exception("failed")
    assert "outer" in lines.getvalue()
    assert "Canary-9f" not in lines.getvalue()


def test_local_variables_are_never_logged(lines):
    log_failure(log, "x")
    assert "fail_with" in lines.getvalue()
    assert "local-canary" not in lines.getvalue().replace('"local-canary"', "")


def test_a_line_has_the_request_id(lines):
    with bind("request-4711"):
        log.info("ours")
        plain.warning("theirs")
    assert lines.getvalue().count("request-4711") == 2


def test_djangos_late_lines_have_the_request_id(lines):
    request = type("Request", (), {"request_id": "request-4712"})()
    plain.error("late", extra={"request": request})
    assert "request-4712" in lines.getvalue()


def test_json_lines_are_json():
    record = logging.LogRecord("a.b", logging.WARNING, "f.py", 1, "很 %s", ("\n好",), None)
    line = json.loads(redacted_formatter("json").format(record))
    assert (line["event"], line["level"], line["logger"]) == ("很 \n好", "warning", "a.b")
    assert line["timestamp"].endswith("Z")


def written(form: str, text: str) -> str:
    record = logging.LogRecord("a", logging.WARNING, "f.py", 1, "GET /%s 404", (text,), None)
    return redacted_formatter(form).format(record)


def test_a_line_break_in_a_value_stays_in_its_line():
    assert "\n" not in written("json", "x\nlevel=critical")


@pytest.mark.parametrize(
    "text", ["\n2026 [info] forged", "\x1b[2J", "\r", "\x9b0m", "\u2028", "\u202e"]
)
def test_a_stranger_cannot_write_lines_or_steer_a_terminal(text):
    line = written("console", text)
    assert text not in line
    assert "GET /\\" in line
    assert "404" in line


def test_a_traceback_keeps_its_lines_and_nothing_else(lines):
    log_failure(log, "first\n\x1b[2Jsecond")
    assert "Traceback" in lines.getvalue()
    assert "\x1b[2J" not in lines.getvalue()


def test_what_a_caller_did_wrong_is_logged_once():
    assert not logging.getLogger("django.request").isEnabledFor(logging.WARNING)
    assert logging.getLogger("django.request").isEnabledFor(logging.ERROR)


@pytest.mark.parametrize("form", ["console", "json"])
def test_every_handler_redacts(form):
    config = logging_config("INFO", form)
    assert {handler["formatter"] for handler in config["handlers"].values()} == {"redacted"}
    assert config["root"]["handlers"] == ["stderr"]


def test_no_logger_of_django_or_the_servers_has_a_handler_of_its_own():
    code = """
    import logging, sys
    from uvicorn.config import LOGGING_CONFIG
    import logging.config
    logging.config.dictConfig(LOGGING_CONFIG)
    import django
    django.setup()
    import django_q.conf, config.logs
    root = logging.getLogger()
    loggers = [l for l in root.manager.loggerDict.values() if isinstance(l, logging.Logger)]
    own = [l.name for l in loggers if any(type(h) is not logging.NullHandler for h in l.handlers)]
    assert own == [], own
    assert [type(h) for h in root.handlers] == [config.logs.SafeStreamHandler], root.handlers
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    assert not logging.getLogger("uvicorn.access").isEnabledFor(logging.INFO)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment())


def test_uncaught_exceptions_and_warnings_are_redacted():
    # The secret is in no line of code: Python 3.13 shows those of -c too.
    code = """
    import django, sys, threading, warnings
    django.setup()
    warnings.warn("secret=" + sys.argv[1])
    thread = threading.Thread(target=int, args=("token=" + sys.argv[1],))
    thread.start(); thread.join()
    raise ValueError("password=" + sys.argv[1])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), "hunter2canary"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1
    for name in ("UserWarning", "uncaught_exception_in_thread", "uncaught_exception "):
        assert name in done.stderr
    assert "canary" not in done.stderr


def environment() -> dict[str, str]:
    return os.environ | {"DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE}
