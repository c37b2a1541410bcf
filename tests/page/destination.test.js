/** The browser is sent below the server's own URL, whatever the link asks for. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { destination } from "../../binderhub_ext/web/static/page/destination.js";

const SERVER = "https://hub.example.org/user/joe-x1/";
const PAGE = "https://binder.example.org/v2/gh/u/r/HEAD";
const to = (search, { server = SERVER, token = "t" } = {}) => destination(server, token, search, PAGE);
const query = (name, value) => "?" + new URLSearchParams({ [name]: value });

test("without a path, the server's own URL is opened with the token", () => {
  assert.equal(to(""), SERVER + "?token=t");
  assert.equal(to("?urlpath="), SERVER + "?token=t");
  assert.equal(to("", { token: "" }), SERVER);
  assert.equal(to("", { token: "a b&c=d" }), SERVER + "?token=a+b%26c%3Dd");
});

test("labpath comes before filepath, and filepath before urlpath", () => {
  assert.equal(to("?urlpath=rstudio&filepath=a.ipynb&labpath=b.ipynb"), SERVER + "doc/tree/b.ipynb?token=t");
  assert.equal(to("?urlpath=rstudio&filepath=a.ipynb"), SERVER + "tree/a.ipynb?token=t");
  assert.equal(to("?urlpath=rstudio"), SERVER + "rstudio?token=t");
});

test("names of files are escaped, and their last slash is left out", () => {
  assert.equal(to(query("labpath", "my dir/Übung 1.ipynb")), SERVER + "doc/tree/my%20dir/%C3%9Cbung%201.ipynb?token=t");
  assert.equal(to(query("filepath", "dir/")), SERVER + "tree/dir?token=t");
  assert.equal(to(query("filepath", "100%.ipynb")), SERVER + "tree/100%25.ipynb?token=t");
  assert.equal(to(query("labpath", "/notebook.ipynb")), SERVER + "doc/tree/notebook.ipynb?token=t");
  assert.equal(to(query("labpath", "a.ipynb#part-2")), SERVER + "doc/tree/a.ipynb?token=t#part-2");
});

test("the path's own query and fragment are kept", () => {
  assert.equal(to(query("urlpath", "lab/tree/a.ipynb?reset&x=1#top")), SERVER + "lab/tree/a.ipynb?reset=&x=1&token=t#top");
  const puller = "git-pull?repo=https://github.com/u/content&urlpath=lab/tree/content//a.ipynb&branch=main";
  const url = new URL(to(query("urlpath", puller)));
  assert.equal(url.pathname, "/user/joe-x1/git-pull");
  assert.equal(url.searchParams.get("repo"), "https://github.com/u/content");
  assert.equal(url.searchParams.get("token"), "t");
});

test("a token in the link does not replace the server's", () => {
  const url = new URL(to(query("urlpath", "lab?token=evil&token=worse")));
  assert.deepEqual(url.searchParams.getAll("token"), ["t"]);
});

test("dots that stay inside are normalized out", () => {
  assert.equal(to("?urlpath=lab/../tree/./x"), SERVER + "tree/x?token=t");
  assert.equal(to("?urlpath=lab/%252e%252e/tree"), SERVER + "tree?token=t"); // the query decodes once
  assert.equal(to("?urlpath=notes..ipynb"), SERVER + "notes..ipynb?token=t");
});

const TRICKS = [
  "https://evil.example/",
  "HTTPS://evil.example/",
  "https:evil.example",
  "https:\\\\evil.example",
  "//evil.example/x",
  "///evil.example/x",
  "/\\evil.example",
  "\\\\evil.example\\x",
  "\\evil.example",
  "\\/evil.example",
  "javascript:alert(document.domain)",
  "JaVaScRiPt:alert(1)",
  "java\tscript:alert(1)",
  "java\nscript:alert(1)",
  "\u0001javascript:alert(1)",
  " javascript:alert(1)",
  "data:text/html,<script>alert(1)</script>",
  "vbscript:x",
  "blob:https://evil.example/1",
  "file:///etc/passwd",
  "view-source:https://evil.example",
  "@evil.example",
  ":@evil.example/",
  ".evil.example",
  "..",
  "../",
  "../joe-x2/lab",
  "../../hub/logout",
  "lab/../../../hub/token",
  "..//evil.example",
  ".//evil.example",
  "%2e%2e/",
  "%2E%2e/joe-x2/",
  ".%2e/joe-x2/",
  "%252e%252e/joe-x2/",
  "%25252e%25252e%25252fx",
  "..%2f..%2fhub%2flogout",
  "lab/..%2f..%2f..%2fhub",
  "lab/..%5c..%5chub",
  "..%5chub",
  "..\\hub",
  "..;/hub/logout",
  "/\t/evil.example",
  "/\n/evil.example",
  "\t//evil.example",
  "lab\r\nLocation: https://evil.example",
  "\u0000//evil.example",
  "\u007f//evil.example",
  "\u0085//evil.example",
  "\uff0f\uff0fevil.example",
  "\u2044\u2044evil.example",
  "\u2215\u2215evil.example",
  "\u29f8evil.example",
  "\ufe68\ufe68evil.example",
  "\u3002\u3002/\u3002\u3002/hub",
  "\uff0e\uff0e/hub",
  "\u202e//evil.example",
  "?next=//evil.example",
  "#@evil.example",
  "?@evil.example/",
  "%",
  "%zz/../../hub",
  "\ud800",
  "\ud800/../../hub",
  "[::1]/x",
  "user:password@evil.example/x",
];

for (const trick of TRICKS) {
  for (const parameter of ["urlpath", "labpath", "filepath"]) {
    test(`${parameter}=${JSON.stringify(trick)} stays below the server`, () => {
      // as a link that was escaped properly, and as one that was not
      const ways = ["?" + parameter + "=" + trick];
      if (!/[\ud800-\udfff]/.test(trick)) ways.push(`?${parameter}=${encodeURIComponent(trick)}`);
      for (const search of ways) {
        const url = new URL(to(search));
        assert.equal(url.origin, "https://hub.example.org");
        assert.ok(url.pathname.startsWith("/user/joe-x1/"), url.href);
        assert.equal(url.username + url.password, "");
        assert.deepEqual(url.searchParams.getAll("token"), ["t"]);
        const decoded = decodeAll(url.pathname.slice("/user/joe-x1/".length));
        assert.ok(!decoded.split(/[/\\]/).includes(".."), decoded);
      }
    });
  }
}

test("what tries to leave is dropped as a whole: the server's own URL is opened", () => {
  for (const trick of ["https://evil.example/", "//evil.example", "../hub", "\\\\evil", "javascript:x", "a\nb", "%2e%2e/hub"]) {
    const expected = trick === "//evil.example" ? SERVER + "evil.example?token=t" : SERVER + "?token=t";
    assert.equal(to(`?urlpath=${encodeURIComponent(trick)}`), expected, trick);
  }
});

test("a server's URL that is none of the web is not opened", () => {
  for (const server of ["javascript:alert(1)", "data:text/html,x", "ftp://hub/", "https://a\\b/", "https://h/\n", "http://", "", null, undefined, 7]) {
    assert.equal(destination(server, "t", "", PAGE), null, String(server));
  }
});

test("the server's URL is cleaned of what does not belong there", () => {
  assert.equal(to("?urlpath=lab", { server: "http://joe:pw@hub.example.org/user/x?y=1#z" }), "http://hub.example.org/user/x/lab?token=t");
});

function decodeAll(path) {
  let decoded = path;
  for (let i = 0; i < 5; i++) decoded = decoded.replace(/%25/g, "%").replace(/%2e/gi, ".").replace(/%2f/gi, "/").replace(/%5c/gi, "\\");
  return decoded;
}
