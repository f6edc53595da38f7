/** @file Reads photos, as the browser decodes them. */

/** @typedef {import("./pixels.js").Picture} Picture */

/**
 * Read a picture file, and reduce it where a side is longer than asked. Transparent parts become white.
 * @param {Blob} file
 * @param {string} name for messages
 * @param {number} longest pixels of the longer side at most
 * @returns {Promise<Picture>}
 */
export async function readPhoto(file, name, longest) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${name} is no picture that this browser reads: choose a PNG, JPEG or WebP file.`);
  }
  const share = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * share)));
  if (share < 1) {
    const size = { resizeWidth: width, resizeHeight: height };
    bitmap = await createImageBitmap(bitmap, { ...size, resizeQuality: "high" });
  }
  const canvas = new OffscreenCanvas(width, height);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0);
  return { data: pen.getImageData(0, 0, width, height).data, width, height };
}

/**
 * Fetch a file of the page's own origin.
 * @param {string} path relative to the page
 */
export async function fetchPhoto(path) {
  const url = new URL(path, location.href);
  if (url.origin !== location.origin) throw new Error(`${path} is on another server: drop the file instead.`);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${path} is not on this server: name one of its pictures, or drop a file.`);
  return response.blob();
}
