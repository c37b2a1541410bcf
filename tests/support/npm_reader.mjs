// Launches with BinderHub's own npm client, unmodified, and prints each event as JSON: node npm_reader.mjs URL SPEC
// what the client takes from a browser beside fetch: timers, and to know whether its page is seen
globalThis.window = globalThis;
globalThis.document = { cookie: "", hidden: false, addEventListener() {}, removeEventListener() {} };
const { BinderRepository } = await import("@jupyterhub/binderhub-client/client.js");
const [url, spec] = process.argv.slice(2);
const repository = new BinderRepository(spec, new URL(url));
for await (const event of repository.fetch()) {
  console.log(JSON.stringify(event));
  if (event.phase === "ready" || event.phase === "failed") {
    repository.close();
    break;
  }
}
