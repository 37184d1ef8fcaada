"""Receivers on the loopback that enforce what the real ones do, written from their documents.

Each checks address, body and signature by arithmetic of its own, and answers as the real one:
the robots with HTTP 200 and a code in the body.
"""

import base64
import hashlib
import hmac
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SECRET = "SEC-of-the-robot"
KEY = "0123456789abcdef"


class Receiver(ThreadingHTTPServer):
    """Remembers what it took; `answers` are statuses to give first, whatever comes."""

    daemon_threads = True

    def __init__(self, judge):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.judge, self.taken, self.refused, self.answers = judge, [], [], []
        self.headers_first, self.delay_s, self.seen_paths = {}, 0.0, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen_paths.append(self.path)
        time.sleep(self.server.delay_s)
        if self.server.answers:
            return self._answer(self.server.answers.pop(0), b"busy", self.server.headers_first)
        status, answer, taken = self.server.judge(self.path, self.headers, body)
        (self.server.taken if taken else self.server.refused).append((dict(self.headers), body))
        return self._answer(status, answer, {})

    def do_GET(self):
        self.server.seen_paths.append(self.path)
        self._answer(200, b"", {})

    def _answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def receiving(judge):
    with Receiver(judge) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _robot(code, words, *, names=("errcode", "errmsg")):
    return 200, json.dumps({names[0]: code, names[1]: words}).encode(), code == 0


def _sha(key, message):
    return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()


def dingtalk(path, headers, body):
    """open.dingtalk.com: timestamp in ms and sign in the query; msgtype markdown."""
    parts = urlsplit(path)
    query = parse_qs(parts.query)
    if parts.path != "/robot/send" or query.get("access_token") != [KEY]:
        return _robot(300001, "token is not exist")
    at, sign = query.get("timestamp", [""])[0], query.get("sign", [""])[0]
    if len(at) != 13 or abs(int(at) / 1000 - time.time()) > 3600:
        return _robot(310000, "timestamp is wrong")
    if sign != _sha(SECRET.encode(), f"{at}\n{SECRET}".encode()):
        return _robot(310000, "sign not match")
    content = json.loads(body)
    markdown = content.get("markdown", {})
    fits = content.get("msgtype") == "markdown" and markdown.get("title") and markdown.get("text")
    return _robot(0, "ok") if fits else _robot(40035, "missing parameter")


def feishu(path, headers, body):
    """open.feishu.cn: timestamp in s and sign in the body; the key is `timestamp\\nsecret`."""
    content, names = json.loads(body), ("code", "msg")
    if path != f"/open-apis/bot/v2/hook/{KEY}":
        return _robot(19001, "param invalid: incoming webhook access token invalid", names=names)
    at = str(content.get("timestamp", "0"))
    good = content.get("sign") == _sha(f"{at}\n{SECRET}".encode(), b"")
    if len(at) != 10 or abs(int(at) - time.time()) > 3600 or not good:
        return _robot(19021, "sign match fail or timestamp is not within one hour", names=names)
    card = content.get("card", {})
    fits = (
        content.get("msg_type") == "interactive"
        and card.get("header", {}).get("title", {}).get("tag") == "plain_text"
        and card.get("elements")
    )
    return _robot(0, "success", names=names) if fits else _robot(9499, "Bad Request", names=names)


def wecom(path, headers, body):
    """developer.work.weixin.qq.com: key in the query; markdown up to 4096 bytes."""
    parts = urlsplit(path)
    if parts.path != "/cgi-bin/webhook/send" or parse_qs(parts.query) != {"key": [KEY]}:
        return _robot(93000, "invalid webhook url")
    content = json.loads(body)
    text = content.get("markdown", {}).get("content", "")
    if content.get("msgtype") != "markdown" or not text:
        return _robot(40008, "invalid message type")
    if len(text.encode()) > 4096:
        return _robot(40058, "markdown.content exceed max length 4096")
    return _robot(0, "ok")


def slack(path, headers, body):
    """docs.slack.dev: text and blocks; plain words for answers."""
    if path != f"/services/T000/B000/{KEY}":
        return 404, b"no_service", False
    content = json.loads(body)
    blocks = content.get("blocks", [])
    heads = [b["text"] for b in blocks if b["type"] == "header"]
    sections = [b["text"] for b in blocks if b["type"] == "section"]
    fits = all(h["type"] == "plain_text" and 0 < len(h["text"]) <= 150 for h in heads)
    fits &= all(s["type"] == "mrkdwn" and 0 < len(s["text"]) <= 3000 for s in sections)
    if not content.get("text") or not blocks or not fits:
        return 400, b"invalid_blocks", False
    return 200, b"ok", True


def webhook(path, headers, body):
    """standardwebhooks.com: HMAC of id.timestamp.body, within five minutes."""
    message_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "0")
    signed = _sha(SECRET.encode(), f"{message_id}.{at}.".encode() + body)
    if abs(int(at) - time.time()) > 300 or f"v1,{signed}" not in headers.get(
        "webhook-signature", ""
    ).split(" "):
        return 401, b"", False
    return 204, b"", True


ADDRESSES = {
    "dingtalk": f"/robot/send?access_token={KEY}",
    "feishu": f"/open-apis/bot/v2/hook/{KEY}",
    "wecom": f"/cgi-bin/webhook/send?key={KEY}",
    "slack": f"/services/T000/B000/{KEY}",
    "webhook": f"/hooks/{KEY}",
}
JUDGES = {
    "dingtalk": dingtalk, "feishu": feishu, "wecom": wecom, "slack": slack, "webhook": webhook,
}  # fmt: skip
