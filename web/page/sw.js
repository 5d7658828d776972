// The service worker. It caches the page for offline use, and adds the headers that isolate the page, so that the model
// may use several threads.

// `mossformer-jax page` fills in these two lines.
const VERSION = "development";
const FILES = [];

const CACHE = `mossformer-jax ${new URL(self.registration.scope).pathname} ${VERSION}`;

self.addEventListener("install", (event) => {
  const fresh = FILES.map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(fresh)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const prefix = CACHE.slice(0, -VERSION.length);
  const removeOld = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith(prefix) && name !== CACHE).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(removeOld());
});

/** The response with the headers that isolate a page. Plain static hosts do not send them. */
function isolated(response) {
  if (!response || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  const answer = async () => {
    const cache = await caches.open(CACHE);
    const stored = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
    return isolated(stored ?? (await fetch(request)));
  };
  event.respondWith(answer());
});
