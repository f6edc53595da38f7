"""The playground's page in a browser: what a test does on it, and what it shows."""

import base64
import io

import numpy as np

import pidsampler as ps

SMALL = {"image": "small.png", "list": "uniform", "steps": 2}
LONG = {**SMALL, "image": "half.png", "scheduler": "heun", "steps": 8}
DROP = """([bytes, name, type]) => {
    const transfer = new DataTransfer();
    const content = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([content], name, { type }));
    const event = (kind) => new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event("dragover"));
    const dropping = document.body.classList.contains("dropping");
    document.body.dispatchEvent(event("drop"));
    return [dropping, document.body.classList.contains("dropping")];
}"""
PIXELS = """(i) => {
    const { data, width, height } = window.result.samplers[i].picture;
    let text = "";
    for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
    return [btoa(text), height, width];
}"""


def result(page, state="done"):
    page.locator(":root[data-state]").wait_for(state="attached")
    found = page.evaluate(
        "() => ({ ...window.result, samplers: window.result.samplers?.map(({ picture, ...rest }) => rest) })"
    )
    assert found["state"] == state, found
    return found


def picture(page, i=0):
    text, height, width = page.evaluate(PIXELS, i)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def upscaled(image, sampler, *, model="tiny", tiling=None, **options):
    up = ps.Upscaler.load(model, "cpu")
    return (up.with_tiling(tiling) if tiling else up)(image, sampler, **options).array.astype(int)


def near(page, expected, i=0):
    found = picture(page, i)
    assert found.shape == expected.shape
    return np.mean(abs(found - expected) <= 1) >= 0.999 and found.std() > 10


def said(page, words):
    """Wait until the page says so."""
    page.locator(".told").filter(has_text=words).wait_for()


def encoded(image, kind="PNG", **options):
    """Return the bytes of a `PIL.Image.Image` as a file."""
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def drop(page, content, name):
    """Drop a file; return whether the page showed that it takes one, before and after."""
    return page.evaluate(DROP, [base64.b64encode(content).decode(), name, ""])
