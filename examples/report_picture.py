"""Make the README's picture of a study's report: python examples/report_picture.py examples/report.png

It runs `examples/studies/quick.toml`, and takes the top of its page by Chromium. It needs the extra `study`.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from pidsampler import study

WIDTH, HEIGHT = 1280, 1440  # of the window


def main(target):
    """Write the picture."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("Chromium is not installed: install chromium, or google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        study.read_study(Path(__file__).with_name("studies") / "quick.toml").run(Path(folder) / "quick")
        page, shot = Path(folder) / "quick" / "report.html", Path(folder) / "shot.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        options += ["--virtual-time-budget=8000", f"--screenshot={shot}"]
        subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True)
        with Image.open(shot) as image:
            image.convert("RGB").save(target, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/report_picture.py TARGET.png")
    main(sys.argv[1])
