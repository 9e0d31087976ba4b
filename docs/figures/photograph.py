"""Takes a picture of a page of `isocost web` for docs/web.md: python docs/figures/photograph.py OUT PATH FILE.png

OUT is a folder of `isocost run`, PATH a page such as /campaigns/microworld. It needs Chromium and playwright.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright


def photograph(out: str, path: str, file: str) -> None:
    """Serves the folder, signs in as ann, and stores what a window of 1,000 x 760 pixels shows, but its empty end."""
    server = subprocess.Popen(["isocost", "web", "--out", out, "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = server.stdout.readline().split()[-1]
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1000, "height": 760})
            page.goto(url + path)
            page.fill("#name", "ann")
            page.keyboard.press("Enter")
            page.wait_for_selector("#live:has-text('live'), #asking:not([hidden])")
            height = min(page.evaluate("document.body.scrollHeight"), 760)
            page.screenshot(path=file, clip={"x": 0, "y": 0, "width": 1000, "height": height})
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    photograph(*sys.argv[1:4])
