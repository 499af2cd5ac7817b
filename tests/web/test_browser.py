"""A real browser on a served instance: what a person sees while runs are going."""

import os
import re
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.dialects.installed import needs
from tests.patience import patience, wait_until
from tests.shared_server import PASSWORD, Platform

pytestmark = [
    pytest.mark.slow,
    pytest.mark.once("the pages ask either database in the other tests of this folder"),
    needs("openai"),
]

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
EMAIL = "ada@example.com"
ACCOUNT = "Web"


def chromium() -> str | None:
    named = os.environ.get("E2E_CHROMIUM")
    return named or next(filter(None, map(shutil.which, CHROMIUMS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Open a browser for this module; until it is closed, Django takes the thread for async."""
    path = chromium()
    if path is None:
        pytest.skip("no Chromium: set E2E_CHROMIUM or put one on PATH")
    arguments = ["--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=arguments)


class Site(Platform):
    """The shared server as a person's scripts see it."""

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=self.openai_url, api_key=self.key)

    def start(self, model: str, rows: int, name: str) -> Any:
        """Start a run that asks `model` about rows; a model that repeats fails every second one."""
        with self.client as client:
            evaluation = client.evals.create(
                name="Echoes",
                data_source_config={
                    "type": "custom",
                    "item_schema": {"type": "object"},
                    "include_sample_schema": True,
                },
                testing_criteria=[
                    {
                        "type": "string_check",
                        "name": "same",
                        "input": "{{ sample.output_text }}",
                        "reference": "{{ item.wanted }}",
                        "operation": "eq",
                    }
                ],
            )
            items = [
                {"item": {"asked": f"text {n}", "wanted": f"text {n if n % 2 else 'x'}"}}
                for n in range(rows)
            ]
            return client.evals.runs.create(
                evaluation.id,
                name=name,
                data_source={
                    "type": "completions",
                    "model": model,
                    "source": {"type": "file_content", "content": items},
                    "input_messages": {
                        "type": "template",
                        "template": [{"role": "user", "content": "{{ item.asked }}"}],
                    },
                },
            )


@pytest.fixture(scope="module")
def site(browser: Browser, platform: Platform) -> Site:
    manage = platform.served.manage
    manage("createsuperuser", "--noinput", "--email", EMAIL)
    key = manage("create_api_key", "--account", ACCOUNT, "--email", EMAIL).strip()
    manage(
        *("add_endpoint", "--account", ACCOUNT, "--base-url", platform.models.base_url),
        *("--allow-private", "--concurrency", "2", "quick", "slow:0.4", "slow:60"),
    )
    return Site(platform.served, platform.models, key)


@pytest.fixture(scope="module")
def signed_in(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=site.served.base_url)
    page = context.new_page()
    sign_in(page, "/app/runs/")
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(signed_in: BrowserContext) -> Iterator[Page]:
    """Open a page, signed in, and fail the test for any error in the browser's console."""
    page = signed_in.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
    page.goto("/app/runs/")
    yield page
    page.close()
    assert errors == []


def sign_in(page: Page, path: str) -> None:
    page.goto(path)
    page.fill("#email", EMAIL)
    page.fill("#password", PASSWORD)
    page.click("main button")


def test_the_example_of_the_empty_list_runs_and_its_run_appears_by_itself(
    page: Page, site: Site
) -> None:
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    page.evaluate("window.untouched = true")
    program = page.inner_text("#start-code").replace("YOUR_KEY", site.key)
    exec(compile(program, "start-code", "exec"), {"print": lambda *_: None})
    line = page.get_by_role("row").filter(has_text="First run")
    expect(line).to_contain_text("Completed", timeout=1000 * patience(15))
    expect(line).to_contain_text("0%")
    assert page.evaluate("window.untouched"), "the page was loaded anew"


def test_a_run_moves_on_screen_without_reload(page: Page, site: Site) -> None:
    run = site.start("slow:0.4", 60, "Moving")
    page.goto(run.report_url)
    page.evaluate("window.untouched = true")
    shown = page.locator("#run .progress-line strong")
    expect(shown).to_have_text(re.compile(r"[1-9]"), timeout=1000 * patience(15))
    for _ in range(3):
        before = int(shown.inner_text())
        wait_until(lambda before=before: int(shown.inner_text()) > before, 15)
    assert page.evaluate("window.untouched")
    assert page.locator("#results tbody tr").count() > 0


def test_a_run_is_canceled_and_retried_on_its_page(page: Page, site: Site) -> None:
    run = site.start("slow:0.4", 60, "Stopped")
    page.goto(run.report_url)
    page.click("#ask-cancel")
    # A question stays while the page behind it changes.
    page.wait_for_timeout(1_600)
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator(".alert-success")).to_contain_text("The run is canceled.")
    expect(page.locator("#run .head .badge")).to_have_text("Canceled")
    site.served.manage(
        *("add_endpoint", "--account", ACCOUNT, "--base-url", site.models.base_url),
        *("--allow-private", "--concurrency", "64"),
    )
    page.click("#ask-retry")
    page.get_by_role("button", name="Start the retry").click()
    expect(page.locator("h1")).to_have_text("Stopped (retry)")
    expect(page.locator("#run .head .badge")).to_have_text("Completed", timeout=1000 * patience(20))
    expect(page.locator("#results-title + nav [aria-current]")).to_have_text("All 60")


def test_failures_are_stepped_through_with_the_arrow_keys(page: Page, site: Site) -> None:
    run = site.start("quick", 9, "Stepped")
    page.goto(run.report_url)
    expect(page.locator("#run .head .badge")).to_have_text("Completed", timeout=1000 * patience(15))
    page.get_by_role("link", name=re.compile("^Failed")).click()
    page.get_by_role("link", name="Row 0", exact=True).click()
    expect(page.locator("h1")).to_have_text("Row 0")
    expect(page.locator("#expected")).to_have_text("text x")
    for row in (2, 4, 6, 8):
        page.keyboard.press("ArrowRight")
        expect(page.locator("h1")).to_have_text(f"Row {row}")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("h1")).to_have_text("Row 6")
    page.get_by_role("link", name="Stepped").click()
    expect(page).to_have_url(re.compile(r"state=failed&row=6#results$"))


def test_other_criteria_are_tried_and_then_grade_the_answers_that_are_there(
    page: Page, site: Site
) -> None:
    run = site.start("quick", 9, "Graded")
    page.goto(run.report_url)
    expect(page.locator("#run .head .badge")).to_have_text("Completed", timeout=1000 * patience(15))
    answered = site.models.counts()["answered"]
    page.get_by_role("link", name="Grade again…").click()
    criteria = page.get_by_label("Criteria")
    criteria.fill(criteria.input_value().replace('"eq"', '"ne"'))
    page.get_by_role("button", name="Try", exact=True).click()
    marks = page.locator("#trial tbody .mark")
    expect(marks).to_have_text(["passed", "failed", "passed", "failed", "passed"])
    page.get_by_role("button", name="Start grading 9 results").click()
    expect(page.locator("h1")).to_have_text("Graded (graded again)")
    expect(page.locator("#run .head .badge")).to_have_text("Completed", timeout=1000 * patience(15))
    expect(page.get_by_role("link", name="Passed 5")).to_be_visible()
    page.get_by_role("link", name="Graded", exact=True).click()
    expect(page.get_by_role("link", name="Passed 4")).to_be_visible()
    assert site.models.counts()["answered"] == answered


def test_the_pages_work_without_scripts(browser: Browser, site: Site) -> None:
    run = site.start("slow:60", 60, "Plain")
    context = browser.new_context(base_url=site.served.base_url, java_script_enabled=False)
    page = context.new_page()
    sign_in(page, f"/app/runs/?q={run.id}")
    page.get_by_role("link", name="Plain").click()
    page.click("#ask-cancel")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#run .head .badge")).to_have_text("Canceled")
    context.close()


def test_no_page_is_wider_than_its_window(page: Page, site: Site) -> None:
    run = site.start("quick", 3, "A name without any spaces " + "x" * 200)
    with site.client as client:
        wait_until(
            lambda: client.evals.runs.retrieve(run.id, eval_id=run.eval_id).status == "completed",
            15,
        )
    page.goto(run.report_url)
    result = page.locator(".row-link").first.get_attribute("href")
    evaluation = page.locator(".crumbs a").last.get_attribute("href")
    for path in (
        run.report_url,
        result,
        evaluation,
        f"{evaluation}criteria/",
        f"{run.report_url}regrade/",
        "/app/runs/",
        "/app/evaluations/",
        "/app/datasets/",
    ):
        page.goto(path)
        for width, scheme in product((1280, 390), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            excess = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert excess <= 0, (path, width, scheme)


@needs("spice")
def test_a_spicepod_is_uploaded_looked_at_and_loaded_in_the_admin(
    page: Page, site: Site, tmp_path: Path
) -> None:
    rows, pod = tmp_path / "capitals.csv", tmp_path / "spicepod.yaml"
    rows.write_text("input,ideal\nTokyo,Tokyo\nRome,Paris\n", encoding="utf-8")
    pod.write_text(
        "datasets: [{name: capitals, from: 'file:data/capitals.csv'}]\n"
        "evals: [{name: exact, dataset: capitals, scorers: [match]}]\n",
        encoding="utf-8",
    )
    page.goto("/admin/evaluations/evaluation/")
    page.get_by_role("link", name="Load a spicepod").click()
    page.select_option("[name=account]", label=ACCOUNT)
    page.set_input_files("[name=spicepod]", pod)
    page.set_input_files("[name=data_files]", [rows])
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("2 rows, version 1")).to_be_visible()
    page.get_by_role("button", name="Load").click()
    expect(page.get_by_text(f"Loaded 2 components into {ACCOUNT}.")).to_be_visible()
    answer = httpx.post(
        f"{site.served.base_url}/v1/evals/exact",
        json={"model": "builtin/echo"},
        headers={"X-API-Key": site.key},
        timeout=patience(60),
    )
    assert answer.json()["metrics"] == {"match/mean": 0.5}
