"""The pages of the service, as a browser asks for them: a launch, errors, old links."""

from __future__ import annotations

import json
import re

import aiohttp
import pytest
from yarl import URL

from tests.support.scripted import spec


async def get(url: str):
    async with aiohttp.ClientSession() as session:
        async with session.get(URL(url, encoded=True), allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers


async def test_the_launch_page_brings_what_its_script_needs(hub, service):
    of = spec(lines=0)
    status, html, headers = await get(f"{service.url}v2/test/{of}?labpath=a.ipynb")
    assert status == 200 and headers["content-type"].startswith("text/html")
    config = json.loads(re.search(r'id="launch-config"[^>]*>(.*?)</script>', html, re.S)[1])
    assert config["buildUrl"] == f"/build/test/{of}" and config["ticket"] and config["homeUrl"] == "/"
    script = re.search(r'src="([^"]*dist/launch\.js[^"]*)"', html)[1]
    status, text, _ = await get(service.url.rstrip("/") + script)
    assert status == 200 and "EventSource" in text
    assert headers["Referrer-Policy"] == "no-referrer" and "nonce-" in headers["Content-Security-Policy"]
    assert await hub.users() == [], "a page alone launches nothing"


BAD = {
    "an unknown provider": ("nonsense/a/b", 404, "provider.unknown"),
    "a spec of the wrong form": ("test/no-ref", 400, "spec.invalid"),
    "a banned repository": (f"test/{spec(banned=1)}", 403, "repo.banned"),
    "NUL in a spec": ("test/a%00b/main", 400, "spec.invalid"),
    "markup in a spec": ("test/%3Cscript%3Ealert(1)%3C%2Fscript%3E", 400, "spec.invalid"),
    "a spec of 5,000 characters": ("test/" + "x" * 5000 + "/main", 400, "spec.invalid"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_wrong_link_is_explained_on_a_page(hub, service, name):
    path, expected, code = BAD[name]
    before = service.log.stat().st_size
    status, html, headers = await get(f"{service.url}v2/{path}")
    assert status == expected and headers["content-type"].startswith("text/html")
    assert code in html and "<script>alert(1)" not in html
    assert "Traceback" not in service.log.read_text()[before:]


@pytest.mark.parametrize(
    "query", ["", "?image=gcr.io%2Fx%3Ay&default_url=%2Ftree", "?image=%00&x=" + "y" * 3000]
)
async def test_the_old_redirect_page_answers_at_once_that_it_is_gone(hub, service, query):
    status, html, _ = await get(f"{service.url}run{query}")
    assert status == 410 and "gone" in html


async def test_links_of_the_first_binder_still_lead_somewhere(hub, service):
    status, _, headers = await get(service.url + "repo/user/name/notebooks/a.ipynb")
    assert status == 302 and headers["Location"].startswith("/v2/gh/user/name/master")
    assert (await get(service.url + "badge.svg"))[0] == 200
    assert (await get(service.url))[0] == 200
