// Keeps the page for use without a network, and isolates it, so that the network may use several threads.

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

/** The response with the headers that make a page isolated, which a plain static host does not send. */
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
