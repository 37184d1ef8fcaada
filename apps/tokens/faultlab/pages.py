"""The page for people at `/`: what the lab is, its sites, their URLs and live counts."""

from typing import Final

from apps.tokens.faultlab.http import HTML, Exchange
from apps.tokens.faultlab.sites import Lab

_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>Fault lab</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}th,td{padding:.35rem .6rem;text-align:right}
th{font-weight:600;border-bottom:2px solid #ccc}td{border-bottom:1px solid #eee}
th:first-child,td:first-child{text-align:left}code{background:#f4f4f4;padding:.1rem .3rem}
</style></head><body><h1>Fault lab</h1>
<p>Login sites that misbehave on request, and count what is done to them. Nothing here is real:
any username logs in with <code>correct-horse</code> unless a site says otherwise.</p>
<table><thead><tr><th>site</th><th>started</th><th>succeeded</th><th>failed</th>
<th>disconnected</th><th>running</th><th>most at once</th><th>wrong secrets</th>
<th>repeated</th><th>token checks</th></tr></thead><tbody id="sites"></tbody></table>
<p id="none" hidden>There is no site yet.</p>
<h2>Make a site</h2>
<p><code>curl -X PUT <span class="url"></span>/_lab/sites/demo -d '{"latency_s": 2,
"faults": ["503", "ok"]}'</code></p>
<h2>Paths of a site</h2>
<ul><li><code>POST /{site}/api/login</code> JSON: username, password, otp?</li>
<li><code>GET, POST /{site}/login</code> HTML form with CSRF token and cookie;
<code>GET /{site}/home</code> behind it</li>
<li><code>POST /{site}/oauth/token</code> client_credentials, password, refresh_token</li>
<li><code>GET /{site}/api/me</code>, <code>POST /{site}/api/logout</code>,
<code>GET /{site}/health</code>, <code>GET /{site}/captcha</code></li></ul>
<h2>Control</h2>
<ul><li><code>PUT, PATCH, GET, DELETE /_lab/sites/{site}</code></li>
<li><code>GET /_lab/counts</code>, <code>GET /_lab/sites/{site}/counts</code>,
<code>GET /_lab/sites/{site}/log</code></li>
<li><code>POST /_lab/sites/{site}/invalidate</code>, <code>POST /_lab/reset</code></li></ul>
<script>
const names = ["logins_started", "logins_succeeded", "logins_failed", "disconnects",
  "concurrent_now", "concurrent_max", "wrong_secrets", "wrong_secret_repeats", "token_checks"];
document.querySelectorAll(".url").forEach(e => e.textContent = location.origin);
function row(title, counts, link) {
  const tr = document.createElement("tr"), first = tr.insertCell();
  if (link) {
    const a = document.createElement("a"); a.href = link; a.textContent = title; first.append(a);
  } else first.textContent = title;
  for (const name of names) tr.insertCell().textContent = counts[name];
  return tr;
}
async function refresh() {
  const counts = await (await fetch("/_lab/counts")).json();
  const sites = Object.entries(counts.sites);
  const rows = sites.map(([n, c]) => row(n, c, "/_lab/sites/" + encodeURIComponent(n)));
  document.getElementById("sites").replaceChildren(...rows, row("all", counts.all));
  document.getElementById("none").hidden = sites.length > 0;
}
refresh(); setInterval(() => refresh().catch(() => {}), 1000);
</script></body></html>"""


async def overview(lab: Lab, exchange: Exchange) -> None:
    """Serve the page; it fetches the counts every second."""
    await exchange.answer(200, _PAGE.encode(), HTML)
