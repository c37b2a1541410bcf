// Launches with BinderHub's own npm client, unmodified, and prints each event as JSON: node npm_reader.mjs URL SPEC
// what the client takes from a browser beside fetch: timers, and to know whether its page is seen
globalThis.window = globalThis;
globalThis.document = { cookie: "", hidden: false, addEventListener() {}, removeEventListener() {} };
// when a launch failed, the client throws into a promise that nobody awaits: a browser only logs that
process.on("unhandledRejection", (error) => console.error(String(error)));
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
