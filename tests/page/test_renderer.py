"""The page is the operator's page, with our content."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from binderhub_ext.web.page import Link, PageRenderer, readable_spec, web_url
from binderhub_ext.web.script_policy import policed
from binderhub_ext.web.templating import with_block_main
from tests.support.page_server import PAGES, binderhub_environment

CONFIG = {
    "buildUrl": "/build/gh/u/r/HEAD",
    "ticket": "t",
    "spec": "u/r/HEAD",
    "providerName": "GitHub",
    "homeUrl": "/",
}


def render(
    kind: str, operator: Path | None = None, config: dict[str, Any] | None = None, **namespace: Any
) -> str:
    """Return the HTML of a launch page."""
    renderer = PageRenderer(binderhub_environment(PAGES[kind], operator))
    urls = {"static_url": lambda path: f"/static/{path}", "ext_static_url": lambda path: f"/ext/{path}"}
    return renderer.render_launch(
        {**urls, **namespace}, config={**CONFIG, **(config or {})}, title="u/r"
    ).html


either_kind = pytest.mark.parametrize("kind", list(PAGES))


@either_kind
def test_the_page_is_whole_in_both_kinds_of_binderhub(kind: str) -> None:
    html = render(kind)
    assert html.count('id="bhx-launch"') == 1
    assert "<title>u/r</title>" in html
    assert html.count("/ext/dist/launch.js") == html.count("/ext/dist/launch.css") == 1
    assert html.count('id="logo"') == 1
    assert html.index('name="viewport"') < html.index("</head>")
    assert "dist/bundle.js" not in html, "BinderHub's own script would start a launch too"


@either_kind
def test_what_the_operator_configured_is_on_the_page(kind: str) -> None:
    html = render(
        kind,
        banner="<b>Maintenance</b>",
        extra_footer_scripts={"01-a": "analytics('&')"},
        extra_header_html={"x": '<meta name="from-operator">'},
        google_analytics_code="UA-1",
    )
    assert "analytics('&')" in html
    if kind == "binderhub 0.1.0":  # which has no banner and no extra header
        assert "UA-1" in html
    else:
        assert html.count("<b>Maintenance</b>") == 1
        assert '<meta name="from-operator">' in html


def test_an_operators_own_page_is_used(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<html><head><title>{% block title %}{% endblock %}</title></head><body><nav>{{ organisation }}</nav>"
        "<div class='x' id='root' data-y><p>Loading</p></div>"
        "<script src='{{ static_url('dist/bundle.js') }}'></script>"
    )
    html = render("drawn by a script", tmp_path, organisation="Institute")
    assert "<nav>Institute</nav>" in html
    assert html.index("data-y") < html.index('id="bhx-launch"') < html.rindex("</div>")
    assert "Loading" not in html
    assert "bundle.js" not in html


def test_an_operators_page_may_extend_binderhubs(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '{% extends "templates/page.html" %}{% block meta_social %}<meta name="ours">{% endblock %}'
    )
    html = render("drawn by a script", tmp_path)
    assert '<meta name="ours">' in html
    assert 'id="bhx-launch"' in html


def test_an_operators_page_without_a_known_place_still_shows_the_launch(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html><body><main id='app'></main></body></html>")
    assert 'id="bhx-launch"' in render("drawn by a script", tmp_path)


def test_an_operator_may_replace_or_extend_our_template(tmp_path: Path) -> None:
    (tmp_path / "binderhub_ext").mkdir()
    (tmp_path / "binderhub_ext/launch.html").write_text(
        '{% extends "templates/binderhub_ext/launch.html" %}'
        "{% block main %}{{ super() }}<p>Preview</p>{% endblock %}"
    )
    html = render("drawn by a script", tmp_path)
    assert 'id="bhx-launch"' in html
    assert "<p>Preview</p>" in html


@either_kind
def test_what_comes_from_a_link_is_text(kind: str) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    html = render(
        kind, config={"spec": evil, "providerName": evil, "repoUrl": "javascript:alert(1)", "ticket": evil}
    )
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert 'href="javascript:' not in html
    config = re.search(r'id="launch-config">(.*?)</script>', html)
    assert config
    assert json.loads(config[1])["spec"] == evil


@either_kind
def test_every_script_has_the_nonce_of_its_own_answer(kind: str) -> None:
    renderer = PageRenderer(binderhub_environment(PAGES[kind]))
    urls = {
        "static_url": str,
        "ext_static_url": str,
        "extra_footer_scripts": {"a": "1"},
        "google_analytics_code": "U",
    }
    pages = [renderer.render_launch(urls, config=CONFIG, title="x") for _ in range(2)]
    nonces = []
    for page in pages:
        policy = page.headers["Content-Security-Policy"]
        nonce = re.search(r"script-src 'nonce-([^']+)' 'strict-dynamic'", policy)
        assert nonce
        assert page.html.count("<script") == page.html.count(f'<script nonce="{nonce[1]}"') >= 3
        nonces.append(nonce[1])
        assert "object-src 'none'" in policy
        assert page.headers["Referrer-Policy"] == "no-referrer"
    assert nonces[0] != nonces[1]


def test_headers_that_the_operator_set_win() -> None:
    environment = binderhub_environment(PAGES["drawn by a script"])
    renderer = PageRenderer(environment, operator_headers={"content-security-policy": "default-src *"})
    urls = {"static_url": str, "ext_static_url": str}
    headers = renderer.render_message(urls, status=404, title="No", message="x").headers
    assert "Content-Security-Policy" not in headers
    assert "Referrer-Policy" in headers


@either_kind
def test_a_message_says_what_and_where_to_go_on(kind: str) -> None:
    renderer = PageRenderer(binderhub_environment(PAGES[kind]))
    urls = {"static_url": str, "ext_static_url": str}
    link = Link("/v2/gh/u/r/HEAD", "Launch")
    html = renderer.render_message(
        urls, status=410, title="Gone <b>", message="Old", hint="Do this", link=link
    ).html
    for text in ("<title>Gone &lt;b&gt;</title>", "Old", "Do this", 'href="/v2/gh/u/r/HEAD"', "HTTP 410"):
        assert text in html
    assert "launch.js" not in html


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<script>a</script>", '<script nonce="N">a</script>'),
        ("<SCRIPT src=x></SCRIPT>\n\n <script>", '<SCRIPT nonce="N" src=x></SCRIPT>\n\n <script nonce="N">'),
        ("<!-- <script> --><p title='<script>'>", "<!-- <script> --><p title='<script>'>"),
        ("<script>'<script>'</script>", "<script nonce=\"N\">'<script>'</script>"),
        ("&lt;script> <scripty> a<b <script", "&lt;script> <scripty> a<b <script"),
        ("é\u2028\r\n<script nonce='x'>", "é\u2028\r\n<script nonce=\"N\" nonce='x'>"),
    ],
)
def test_only_scripts_get_the_nonce(html: str, expected: str) -> None:
    assert policed(html, "N")[0] == expected


def test_handlers_that_the_operator_wrote_are_named_by_their_hash() -> None:
    # the hash of "go('a')", as `openssl dgst -sha256 -binary | base64` says
    policy = policed("""<b onclick="go('a')"><i ONCLICK='go(&#39;a&#39;)'>""", "N")[1]
    assert "script-src-attr 'unsafe-hashes' 'sha256-jw3Kv+oMghIuCxHxXc1AyQL6r03Ai8GgQSC+byM4aKk=';" in policy
    assert "script-src-attr 'none';" in policed("<b title=onclick>", "N")[1]


@pytest.mark.parametrize(
    "source",
    [
        '<div id="root"></div>{% block main %}{% endblock %}',
        "{%- extends 'templates/page.html' -%}<div id='root'></div>",
        "just text",
    ],
)
def test_templates_that_need_no_block_are_left_alone(source: str) -> None:
    assert with_block_main(source) == source


def test_specs_are_shown_as_people_write_them() -> None:
    assert readable_spec("https%3A%2F%2Fexample.org%2Fr.git/HEAD") == "https://example.org/r.git/HEAD"
    assert readable_spec("%ff%zz") == "\ufffd%zz"


def test_only_addresses_of_the_web_become_links() -> None:
    assert web_url("https://example.org/") == "https://example.org/"
    for other in (None, 3, "", "javascript:x", "//example.org", "ftp://x", "http://[x"):
        assert web_url(other) is None
