/** @file Reads photos, as the browser decodes them. */

/** @typedef {import("./pixels.js").Picture} Picture */

const HEAD = 1 << 15; // bytes of a file in which its kind is looked for

/**
 * Tell whether a file is a PNG or JPEG of opaque RGB in 8 bits, without a profile. Where in doubt it is not.
 * @param {Blob} file
 */
async function isPlain(file) {
  const head = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
  const text = new TextDecoder("latin1").decode(head);
  if (text.slice(1, 4) === "PNG") {
    return head[24] === 8 && head[25] === 2 && /^(?:(?!iCCP|tRNS|eXIf|acTL).)*IDAT/s.test(text);
  }
  const jpeg = head[0] === 0xff && head[1] === 0xd8 && !text.includes("ICC_PROFILE");
  const frames = [0xc0, 0xc1, 0xc2].map((kind) => [0xff, kind, 0, 17, 8]); // three colors in 8 bits
  return jpeg && head.some((_, at) => frames.some((frame) => frame.every((byte, i) => byte === head[at + i])));
}

/**
 * Read a picture file, and reduce it where a side is longer than asked. Transparent parts become white.
 * @param {Blob} file
 * @param {string} name for messages
 * @param {number} longest pixels of the longer side at most
 * @returns {Promise<Picture & {plain: boolean}>} plain where the command line takes the same pixels from the file
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
  const { data } = pen.getImageData(0, 0, width, height);
  return { data, width, height, plain: share === 1 && (await isPlain(file)) };
}

/**
 * Fetch a file of the page's own origin.
 * @param {string} path relative to the page
 */
export async function fetchPhoto(path) {
  if (!path) throw new Error("image= names no picture: name an example, or a path on this server.");
  const url = new URL(path, location.href);
  if (url.origin !== location.origin) throw new Error(`${path} is on another server: drop the file instead.`);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${path} is not on this server: name one of its pictures, or drop a file.`);
  return response.blob();
}
