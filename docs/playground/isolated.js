/** @file Isolates the page from other origins where the server does not: only so may ONNX Runtime use several threads. */

const TRIED = "isolation was tried";

/** Resolve once the page is isolated, or cannot be. It may load the page anew, once. */
export async function isolated() {
  if (crossOriginIsolated || !isSecureContext || !("serviceWorker" in navigator)) return;
  if (sessionStorage.getItem(TRIED)) return;
  try {
    sessionStorage.setItem(TRIED, "yes");
    await navigator.serviceWorker.register("service.js");
    await navigator.serviceWorker.ready;
  } catch {
    return; // such as in a private window: one thread will do
  }
  location.reload();
  await new Promise(() => {});
}
