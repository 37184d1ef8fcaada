"""What each receiver expects: body, signature, and what in its answer means that it took it.

The robots answer HTTP 200 to refusals too and say the truth in the body, so each kind has its own
reading of answers. Sources: open.dingtalk.com "custom robot security settings",
open.feishu.cn "custom bot guide", developer.work.weixin.qq.com path 91770, docs.slack.dev
"incoming webhooks", standardwebhooks.com specification 1.0.
"""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

import orjson

from apps.performance.models.alerts import ChannelKind

JSON: Final = "application/json; charset=utf-8"
# WeCom refuses a markdown text over 4096 bytes, Slack a header over 150 and a section over 3000
# characters; DingTalk and Feishu take 20 kB.
WECOM_BYTES: Final = 4_096
SLACK_HEADER: Final = 150
SLACK_SECTION: Final = 2_900
COLOURS: Final = {"high": "red", "medium": "orange", "low": "blue"}
BY_STATUS: Final = frozenset({ChannelKind.WEBHOOK, ChannelKind.SLACK})  # the others answer 200
BUSY: Final = frozenset(
    {
        -1,  # DingTalk and WeCom: busy
        130_101,  # DingTalk: more than 20 a minute
        410_100,  # DingTalk: too fast
        45_009,  # WeCom: more than 20 a minute
        9_499,  # Feishu: too many requests
        11_232,  # Feishu: too many for this tenant
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is to be said: a title, some lines of `name: value`, and the same as data."""

    id: str
    title: str
    severity: str
    lines: tuple[tuple[str, str], ...]
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request that is ready to go; its address and signature are secrets."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def webhook(notice: Notice, url: str, secret: str) -> Request:
    """Sign as Standard Webhooks does: HMAC-SHA256 of `id.timestamp.body`, in base64.

    The key is what follows `whsec_` in base64, or the text itself where it is not of that form.
    """
    at, body = _now_s(), orjson.dumps(notice.data)
    headers = {"Content-Type": JSON, "webhook-id": notice.id, "webhook-timestamp": at}
    if secret:
        signed = f"{notice.id}.{at}.".encode() + body
        headers["webhook-signature"] = f"v1,{_hmac64(webhook_key(secret), signed)}"
    return Request(url=url, body=body, headers=headers)


def dingtalk(notice: Notice, url: str, secret: str) -> Request:
    """Sign `milliseconds\\nsecret` with the secret, in the query; a markdown message."""
    if secret:
        at = str(round(time.time() * 1000))
        sign = quote_plus(_hmac64(secret.encode(), f"{at}\n{secret}".encode()))
        url = f"{url}{'&' if '?' in url else '?'}timestamp={at}&sign={sign}"
    text = "\n\n".join([f"### {notice.title}", *(f"**{k}**: {v}" for k, v in notice.lines)])
    content = {"msgtype": "markdown", "markdown": {"title": notice.title, "text": text}}
    return _json(url, content)


def feishu(notice: Notice, url: str, secret: str) -> Request:
    """Sign nothing with `seconds\\nsecret` as the key, in the body; an interactive card."""
    content: dict[str, Any] = {
        "msg_type": "interactive",
        "card": {
            "config": {"wide_screen_mode": True},
            "header": {
                "title": {"tag": "plain_text", "content": notice.title},
                "template": COLOURS.get(notice.severity, "green"),
            },
            "elements": [
                {
                    "tag": "div",
                    "text": {
                        "tag": "lark_md",
                        "content": "\n".join(f"**{k}**: {v}" for k, v in notice.lines),
                    },
                }
            ],
        },
    }
    if secret:
        at = _now_s()
        content |= {"timestamp": at, "sign": _hmac64(f"{at}\n{secret}".encode(), b"")}
    return _json(url, content)


def wecom(notice: Notice, url: str, _secret: str) -> Request:
    """Send markdown; the key in the address is the only secret there is."""
    lines = [f"### {notice.title}", *(f"> {k}: {v}" for k, v in notice.lines)]
    text = _cut_bytes("\n".join(lines), WECOM_BYTES)
    return _json(url, {"msgtype": "markdown", "markdown": {"content": text}})


def slack(notice: Notice, url: str, _secret: str) -> Request:
    """Send blocks, and the text that notifications show; the address is the secret."""
    escaped = "\n".join(f"*{_slack(k)}*: {_slack(v)}" for k, v in notice.lines)
    title = {"type": "plain_text", "text": notice.title[:SLACK_HEADER]}
    section = {"type": "mrkdwn", "text": escaped[:SLACK_SECTION] or " "}
    blocks = [{"type": "header", "text": title}, {"type": "section", "text": section}]
    return _json(url, {"text": _slack(notice.title), "blocks": blocks})


FORMATS: Final[Mapping[str, Callable[[Notice, str, str], Request]]] = {
    ChannelKind.WEBHOOK: webhook,
    ChannelKind.DINGTALK: dingtalk,
    ChannelKind.FEISHU: feishu,
    ChannelKind.WECOM: wecom,
    ChannelKind.SLACK: slack,
}


def refusal(kind: str, body: bytes) -> tuple[int, str] | None:
    """Return the code and words of a refusal in a 200 answer; None if the receiver took it."""
    if kind in BY_STATUS:
        return None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return 0, "the answer is not JSON"
    if not isinstance(answer, dict):
        return 0, "the answer is not a JSON object"
    names = ("code", "StatusCode") if kind == ChannelKind.FEISHU else ("errcode",)
    code = next((answer[name] for name in names if name in answer), None)
    if code == 0:
        return None
    words = str(answer.get("errmsg") or answer.get("msg") or answer.get("StatusMessage") or "")
    return code if isinstance(code, int) else 0, words


def webhook_key(secret: str) -> bytes:
    """Return the bytes a webhook is signed with."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return secret.encode()


def _json(url: str, content: Mapping[str, Any]) -> Request:
    return Request(url=url, body=orjson.dumps(content), headers={"Content-Type": JSON})


def _hmac64(key: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode()


def _now_s() -> str:
    return str(int(time.time()))


def _cut_bytes(text: str, most: int) -> str:
    raw = text.encode()
    return text if len(raw) <= most else raw[: most - 3].decode(errors="ignore") + "…"


def _slack(text: str) -> str:
    """Escape what would be markup: `<!channel>` in an error would wake everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
