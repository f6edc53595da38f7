/** @file Isolates the page from other origins where the server does not: only so may ONNX Runtime use several threads. */

const TRIED = "isolation was tried";
const PATIENCE = 5000; // milliseconds

/** Resolve once the page is isolated, or cannot be. It may load the page anew, once. */
export async function isolated() {
  if (crossOriginIsolated || !isSecureContext || !("serviceWorker" in navigator)) return;
  try {
    if (sessionStorage.getItem(TRIED)) return;
    sessionStorage.setItem(TRIED, "yes");
    await navigator.serviceWorker.register("service.js");
    const late = new Promise((_, reject) => setTimeout(reject, PATIENCE));
    await Promise.race([navigator.serviceWorker.ready, late]);
  } catch {
    return; // such as in a private window: one thread will do
  }
  location.reload();
  await new Promise(() => {});
}
