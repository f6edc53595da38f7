/** @file Service worker: gives what the server sends the headers that isolate a page. It stores nothing. */

const scope = /** @type {any} */ (self); // a ServiceWorkerGlobalScope, whose types exclude those of a page

scope.addEventListener("install", () => scope.skipWaiting());
scope.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (/** @type {any} */ event) => {
  if (new URL(event.request.url).origin === location.origin) event.respondWith(answer(event.request));
});

/** @param {Request} request */
async function answer(request) {
  const response = await fetch(request);
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  const body = response.status === 204 || response.status === 304 ? null : response.body;
  return new Response(body, { status: response.status, statusText: response.statusText, headers });
}
