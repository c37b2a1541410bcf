/**
 * Where the browser goes when the server is ready: below the server's own URL, or exactly there.
 *
 * A launch link is written by anybody, and the token of the reader's server is added to the
 * address; so what the link asks for can choose a page of that server and nothing else.
 */

// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
const SCHEME = /^[a-z][a-z0-9+.-]*:/i;

/**
 * The path that a launch link asks for, relative to the server: `labpath`, else `filepath`, else `urlpath`.
 *
 * @param {URLSearchParams} query of the launch link
 * @returns {string} may be anything: see `isInside`
 */
export function requestedPath(query) {
  const file = (name) => (query.get(name) ?? "").replace(/\/$/, "");
  if (query.has("labpath")) return "doc/tree/" + encodePath(file("labpath"));
  if (query.has("filepath")) return "tree/" + encodePath(file("filepath"));
  return query.get("urlpath") ?? "";
}

/**
 * Escape a file's path. As in BinderHub, `?` and `#` keep their meaning: links with
 * `labpath=index.ipynb#heading` exist.
 *
 * @param {string} path
 */
function encodePath(path) {
  if (CONTROL.test(path)) return path; // it will be refused
  try {
    return encodeURI(path.replace(/^\/+/, ""));
  } catch {
    return "\\"; // half of a surrogate pair: no file has this name
  }
}

/**
 * Undo what a server or proxy between here and there may undo, twice over.
 *
 * @param {string} path
 */
function decodeDots(path) {
  let decoded = path;
  for (let round = 0; round < 5; round++) {
    const next = decoded
      .replace(/%25/g, "%")
      .replace(/%2e/gi, ".")
      .replace(/%2f/gi, "/")
      .replace(/%5c/gi, "\\");
    if (next === decoded) break;
    decoded = next;
  }
  return decoded;
}

/**
 * Whether a relative path stays below the URL that it is put behind.
 *
 * @param {string} path with its query and fragment
 * @param {URL} base ends with a slash
 */
function isInside(path, base) {
  if (CONTROL.test(path)) return false;
  const pathOnly = path.split(/[?#]/, 1)[0];
  if (pathOnly.includes("\\") || pathOnly.includes("//") || SCHEME.test(pathOnly)) return false;
  const url = new URL(base.href + path);
  if (url.origin !== base.origin || !url.pathname.startsWith(base.pathname)) return false;
  // [spec] the URL parser has removed "..", "%2e%2e" and their mixtures; what hides deeper
  // ("..%2f", "%252e%252e") is for a server to find, and not for this one
  const below = decodeDots(url.pathname.slice(base.pathname.length));
  return !below.split(/[/\\]/).some((segment) => segment === "..");
}

/**
 * @param {string} serverUrl from the event `ready`
 * @param {string} token for that server; may be empty
 * @param {string} search the query of the launch link
 * @param {string} pageUrl
 * @returns {string | null} an absolute URL; null when the server's own URL is not one to open
 */
export function destination(serverUrl, token, search, pageUrl) {
  if (typeof serverUrl !== "string" || serverUrl === "") return null;
  if (CONTROL.test(serverUrl) || serverUrl.includes("\\")) return null;
  let base;
  try {
    base = new URL(serverUrl, pageUrl);
  } catch {
    return null;
  }
  if (base.protocol !== "http:" && base.protocol !== "https:") return null;
  base.search = base.hash = base.username = base.password = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";

  const path = requestedPath(new URLSearchParams(search)).replace(/^\/+/, "");
  const url = new URL(isInside(path, base) ? base.href + path : base.href);
  if (token) url.searchParams.set("token", token);
  return url.href;
}
