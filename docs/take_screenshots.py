"""Remakes the README's picture from a running demo, with playwright and the system's Chromium.

    make demo                                       # in one terminal
    .venv/bin/python docs/take_screenshots.py       # in another

The picture shows the demo's last run. DATA_DIR is where the demo keeps its password.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

DOCS = Path(__file__).resolve().parent
EMAIL = "admin@example.com"
RUN = "a[href^='/app/runs/']:has-text('The nearest ticket')"


def chromium() -> str:
    """The browser's path. Exits when there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("E2E_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        sys.exit("There is no Chromium on PATH: name one in E2E_CHROMIUM.")
    return found


def password() -> str:
    folder = Path(os.environ.get("DATA_DIR", DOCS.parent / "var"))
    try:
        return (folder / "demo_admin_password.txt").read_text(encoding="utf-8").strip()
    except OSError as error:
        sys.exit(f"Run `make demo` first: {error}")


def sign_in(page: Page, root: str) -> None:
    page.goto(f"{root}/app/runs/")
    page.get_by_label("E-mail").fill(EMAIL)
    page.get_by_label("Password").fill(password())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/app/runs/")


def take_run_page(browser: Browser, root: str) -> None:
    page = browser.new_page(
        viewport={"width": 1280, "height": 860}, device_scale_factor=1.5, color_scheme="light"
    )
    sign_in(page, root)
    page.locator(RUN).first.click()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=DOCS / "run-page.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Remake the README's picture.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of a running demo")
    root = parser.parse_args().url.rstrip("/")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if is_root else [])]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=arguments)
        take_run_page(browser, root)
        browser.close()


if __name__ == "__main__":
    main()
