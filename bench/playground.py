"""What the playground takes: a photo of 128x128 to 512x512 in headless Chromium, from opening the page to the picture.

    python docs/playground/build.py && python bench/playground.py

The server is Python's own, which isolates no page: so the page's service worker does, or one thread computes where it
may not. `within one level` is the share of values that are at most one level of 255 from those of `pidsampler upscale`.
"""

import base64
import shutil
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import pidsampler as ps

ROOT = Path(__file__).parent.parent
SAMPLERS = ("flow-sde(eta=1)@pid:4", "dpmpp-2m@karras:4", "heun@uniform:4")
RUNS = 3
ONE_THREAD = "delete Navigator.prototype.serviceWorker"
PICTURE = """() => {
    let text = "";
    const { data } = window.result.samplers[0].picture;
    for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
    return btoa(text);
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def once(browser, address, init):
    """The seconds of one run in a new profile, its threads, and the picture."""
    context = browser.new_context()
    context.add_init_script(init)
    page = context.new_page()
    began = time.perf_counter()
    page.goto(address)
    page.locator(":root[data-state=done]").wait_for(state="attached", timeout=120_000)
    seconds = time.perf_counter() - began
    pixels = np.frombuffer(base64.b64decode(page.evaluate(PICTURE)), np.uint8).reshape(512, 512, 4)[..., :3]
    threads = page.evaluate("window.result.threads")
    context.close()
    return seconds, threads, pixels.astype(int)


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "playground"
    with Image.open(ROOT / "examples" / "chameleon.jpg") as photo:
        photo.convert("RGB").crop((64, 64, 192, 192)).save(folder / "photo.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    up = ps.Upscaler.load("tiny", "cpu")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        print("sampler | threads | seconds, median and best of", RUNS, "| within one level")
        for init in ("", ONE_THREAD):
            for sampler in SAMPLERS:
                name, _, times = sampler.partition("@")
                times, _, steps = times.partition(":")
                asked = f"image=photo.png&scheduler={name.split('(')[0]}&list={times}&steps={steps}"
                address = f"http://127.0.0.1:{server.server_port}/?{asked}"
                seconds, threads, pictures = zip(*(once(browser, address, init) for _ in range(RUNS)), strict=True)
                difference = abs(pictures[0] - up(folder / "photo.png", sampler, seed=0).array)
                share = f"{np.mean(difference <= 1):.4%}, equal {np.mean(difference == 0):.4%}"
                print(f"{sampler} | {threads[0]} | {np.median(seconds):.1f}, {min(seconds):.1f} | {share}", flush=True)
        browser.close()
    (folder / "photo.png").unlink()
    server.shutdown()


if __name__ == "__main__":
    main()
