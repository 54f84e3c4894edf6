"""The review in a browser: changes reach the disk, and no edit is lost or run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dallme.dataset import TABLE, DistilledDataset
from report_sets import HOSTILE, hostile_set, small_set
from review_server import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from dallme.review.app import Guard

Visit = Callable[..., "Page"]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Four texts; the comparison table is in the manifest."""
    distilled, _ = small_set(with_comparison=True)
    extra = DistilledDataset(
        (*distilled.texts, "Warm, but late."),
        distilled.labels.take([0, 1, 2, 2]),
        distilled.label_names,
        distilled.weights.take([0, 1, 2, 2]),
        (*distilled.lineage, distilled.lineage[2]),
        distilled.manifest,
    )
    return extra.save(tmp_path / "few")


@pytest.fixture
def server(few: Path) -> Iterator[Guard]:
    with serving(few) as guard:
        yield guard


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """Opens the page of a server in a tab of its own; whatever the console says fails the test."""
    said: list[str] = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(5_000)

    def go(guard: Guard) -> Page:
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"http://127.0.0.1:{guard.port}/")
        page.wait_for_selector("[data-reviewing]")
        return page

    go.said = said  # type: ignore[attr-defined]
    yield go
    context.close()
    # A refused save is an error to the browser, and that is what some tests are about.
    assert [line for line in said if "status of 409" not in line] == []


def press(page: Page, text: int, name: str) -> None:
    page.locator(f"#text-{text} .actions").get_by_role("button", name=name, exact=True).click()


def retype(page: Page, text: int, words: str) -> None:
    press(page, text, "Edit")
    page.locator(f"#text-{text} textarea").fill(words)


def save(page: Page, version: int) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_selector(f"[data-reviewing='{version}']")


def said(page: Page) -> str:
    return page.locator(".review-bar .said").inner_text()


def state(page: Page) -> str:
    return page.locator(".review-bar .state").inner_text()


def version(few: Path, number: int) -> DistilledDataset:
    return DistilledDataset.load(few / "versions" / f"{number:04}")


def test_what_is_decided_on_the_page_is_in_the_new_version(
    few: Path, server: Guard, visit: Visit, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in few.iterdir()}
    page = visit(server)
    assert state(page) == "Version 1 · 0 of 4 texts accepted · all saved"
    assert page.get_by_role("button", name="Save", exact=True).is_disabled()
    retype(page, 0, "A dull, slow film.")
    page.locator("#text-1 select").select_option(label="good")
    press(page, 2, "Drop")
    press(page, 3, "Accept")
    assert state(page) == "Version 1 · 1 of 4 texts accepted · 4 texts changed and not saved"
    page.screenshot(path=tmp_path / "review.png", full_page=True)
    save(page, 2)
    distilled = version(few, 2)
    assert distilled.texts == ("A dull, slow film.", "Bad, bad.", "Warm, but late.")
    assert distilled.labels.tolist() == [5, 9, 9]
    assert distilled.weights.tolist() == [2.0, 1.5, 4.5]
    assert [lineage.decoder for lineage in distilled.lineage] == ["edited", "extractive", "extractive"]
    assert distilled.lineage[0].cosine is None
    assert distilled.manifest["review"] == {"ids": [0, 1, 3], "accepted": [3]}
    assert [step["action"] for step in distilled.manifest["history"][0]["changes"]] == [
        "edit",
        "relabel",
        "drop",
        "accept",
    ]
    assert {path.name: path.read_bytes() for path in few.iterdir() if path.is_file()} == before
    assert page.locator(".card .text").all_text_contents() == list(distilled.texts)
    assert state(page) == "Version 2 · 1 of 3 texts accepted · all saved"
    assert said(page).startswith(
        f"Saved version 2 in {few / 'versions' / '0002'}. Note: the table that compares"
    )
    assert page.locator(".review-marks").all_text_contents() == ["edited by hand", "", "accepted"]
    assert page.locator("#accuracy").count() == 0
    page.screenshot(path=tmp_path / "saved.png", full_page=True)


def test_a_stale_save_is_refused_and_keeps_the_draft(few: Path, server: Guard, visit: Visit) -> None:
    one, two = visit(server), visit(server)
    retype(one, 0, "From tab one.")
    press(one, 1, "Drop")
    save(one, 2)
    retype(two, 0, "From tab two.")
    retype(two, 1, "Typed in vain?")
    press(two, 2, "Accept")
    two.locator("#text-3 select").select_option(label="bad")
    two.keyboard.press("Control+s")
    two.wait_for_selector(".review-bar .said.warns")
    assert said(two).startswith(
        "expected changes to version 2, which is the newest, found changes to version 1"
    )
    assert sorted(path.name for path in (few / "versions").iterdir()) == [".lock", "0002"]
    assert two.locator("#text-0 textarea").input_value() == "From tab two."

    two.get_by_role("button", name="Continue with the newest version").click()
    two.wait_for_selector("[data-reviewing='2']")
    # The text that the other tab dropped is gone, not what was typed for it.
    assert two.locator(".lost pre").inner_text() == "Typed in vain?"
    # The text that the other tab changed is shown with both.
    assert two.locator("#text-0 .text").inner_text() == "From tab one."
    assert two.locator("#text-0 textarea").input_value() == "From tab two."
    two.get_by_role("button", name="Save", exact=True).click()
    assert said(two) == "Some texts have changed since you saw them: choose on each whether to keep yours."
    two.get_by_role("button", name="Keep mine").click()
    assert not two.locator("#text-0 .text").is_visible()
    save(two, 3)
    distilled = version(few, 3)
    assert distilled.texts == ("From tab two.", "Fine and warm.", "Warm, but late.")
    assert distilled.labels.tolist() == [5, 9, 5]
    assert distilled.manifest["review"] == {"ids": [0, 2, 3], "accepted": [2]}
    assert two.locator(".lost pre").inner_text() == "Typed in vain?"
    two.get_by_role("button", name="Throw away").click()
    assert two.locator(".lost").count() == 0


def test_theirs_can_be_taken(server: Guard, visit: Visit) -> None:
    one, two = visit(server), visit(server)
    retype(two, 0, "From tab two.")
    retype(one, 0, "From tab one.")
    save(one, 2)
    two.evaluate(
        "document.dispatchEvent(new Event('visibilitychange'))"
    )  # the reviewer comes back to the tab
    two.wait_for_selector(".review-bar .said.warns")
    assert said(two) == "Version 2 was saved in the meantime. Your changes stay in this tab."
    two.get_by_role("button", name="Continue with the newest version").click()
    two.get_by_role("button", name="Take theirs").click()
    assert two.locator("#text-0 .text").inner_text() == "From tab one."
    assert two.locator("textarea").count() == 0
    assert state(two) == "Version 2 · 0 of 4 texts accepted · all saved"


def test_what_was_typed_survives_a_reload_and_a_new_server(few: Path, visit: Visit) -> None:
    with serving(few) as guard:
        page = visit(guard)
        retype(page, 0, "Typed\nand kept.")
        press(page, 1, "Drop")
        page.reload()
        assert page.locator("#text-0 textarea").input_value() == "Typed\nand kept."
        assert page.locator("#text-1.dropped").count() == 1
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_selector(".review-bar .said.warns")
    assert (
        said(page)
        == "The server does not answer: is dallme review still running? Your changes stay in this tab."
    )
    visit.said.clear()  # type: ignore[attr-defined]
    with serving(few, guard.port):
        page.get_by_role("button", name="Save", exact=True).click()
        page.wait_for_selector(".review-bar .said:has-text('secret')")
        page.get_by_role("button", name="Continue with the newest version").click()
        page.wait_for_selector("#text-0 textarea")
        save(page, 2)
    assert version(few, 2).texts == ("Typed\nand kept.", "Fine and warm.", "Warm, but late.")
    assert all("403" in line or "CONNECTION" in line for line in visit.said)  # type: ignore[attr-defined]
    visit.said.clear()  # type: ignore[attr-defined]


def test_undo_takes_back_what_is_not_saved(server: Guard, visit: Visit) -> None:
    page = visit(server)
    retype(page, 0, "Other words.")
    press(page, 0, "Accept")
    assert page.locator("#text-0 .review-marks").inner_text() == "edited, accepted · not saved"
    press(page, 0, "Undo")
    assert page.locator("#text-0 .text").is_visible()
    retype(page, 0, "Other words.")
    page.locator("#text-0 textarea").fill("A dull film. It was slow.")  # as it was
    assert state(page) == "Version 1 · 0 of 4 texts accepted · all saved"
    press(page, 1, "Drop")
    press(page, 2, "Accept")
    page.get_by_role("button", name="Undo all").click()
    assert state(page) == "Version 1 · 0 of 4 texts accepted · all saved"


def test_a_text_that_cannot_be_saved_says_why_and_stays(few: Path, server: Guard, visit: Visit) -> None:
    page = visit(server)
    retype(page, 2, "  ")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_selector(".review-bar .said.warns")
    assert said(page) == "text 2 has a blank text; nothing was saved"
    assert page.evaluate("document.activeElement.closest('.card').id") == "text-2"
    assert (few / "versions" / "0002").exists() is False
    assert ["status of 422" in line for line in visit.said] == [True]  # type: ignore[attr-defined]
    visit.said.clear()  # type: ignore[attr-defined]


def test_hostile_words_stay_text(few: Path, server: Guard, visit: Visit) -> None:
    page = visit(server)
    words = HOSTILE[:8]
    for number, half in enumerate((words[:4], words[4:])):
        retype(page, number, "\n".join(half))
    page.reload()
    assert page.locator("#text-0 textarea").input_value() == "\n".join(words[:4])
    save(page, 2)
    assert version(few, 2).texts[:2] == ("\n".join(words[:4]), "\n".join(words[4:]))
    assert page.locator(".text").all_text_contents()[:2] == ["\n".join(words[:4]), "\n".join(words[4:])]
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main b, main style, main script").count() == 0


def test_a_hostile_set_can_be_reviewed(tmp_path: Path, visit: Visit) -> None:
    distilled, _ = hostile_set()
    texts = tuple(text for text in distilled.texts if "\ud83d" not in text)
    keep = [row for row, text in enumerate(distilled.texts) if text in texts]
    manifest: dict[str, Any] = json.loads(
        json.dumps(distilled.manifest.as_dict()).replace("\\ud83d", "?").replace("\\udc00", "?")
    )
    lineage = tuple(distilled.lineage[row] for row in keep)
    few = DistilledDataset(
        texts, distilled.labels[keep], distilled.label_names, distilled.weights[keep], lineage, manifest
    ).save(tmp_path / "few")
    with serving(few) as guard:
        page = visit(guard)
        assert page.locator("#text-2 select option").all_inner_texts() == [HOSTILE[0], HOSTILE[1]]
        page.locator("#text-2 select").select_option(index=0)
        press(page, 0, "Accept")
        save(page, 2)
        assert page.evaluate("window.hacked") is None
    assert version(few, 2).texts == texts  # line ends and all
    assert version(few, 2).labels.tolist()[:3] == [0, 1, 0]


def test_a_review_without_a_mouse(few: Path, server: Guard, visit: Visit) -> None:
    page = visit(server)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skip to the texts
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.id") == "text-0"
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("Typed and nothing else: n p a d.")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.keyboard.press("d")
    page.keyboard.press("n")
    page.keyboard.press("a")
    page.keyboard.press("n")
    for _ in range(10):  # to the class of text 3, as Tab goes
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SELECT":
            break
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Control+s")
    page.wait_for_selector("[data-reviewing='2']")
    distilled = version(few, 2)
    assert distilled.texts == ("Typed and nothing else: n p a d.", "Fine and warm.", "Warm, but late.")
    assert distilled.labels.tolist() == [5, 9, 5]
    assert distilled.manifest["review"] == {"ids": [0, 2, 3], "accepted": [2]}
    for _ in range(60):  # Save is reached by Tab as well, when there is something to save
        page.keyboard.press("Tab")
    assert page.get_by_role("button", name="Save", exact=True).is_disabled()


def test_every_control_of_the_review_has_a_name_and_can_be_seen(server: Guard, visit: Visit) -> None:
    page = visit(server)
    retype(page, 0, "Other words.")
    unnamed = page.evaluate("""() => {
      const controls = document.querySelectorAll("button, input, select, textarea, [tabindex='0']");
      const named = (at) => at.labels?.length || at.getAttribute("aria-label") || at.textContent.trim();
      return [...controls].filter((at) => !named(at)).map((at) => at.outerHTML);
    }""")
    assert unnamed == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_table_that_only_gained_marks_is_the_same_bytes(few: Path, server: Guard, visit: Visit) -> None:
    page = visit(server)
    press(page, 0, "Accept")
    save(page, 2)
    assert (few / "versions" / "0002" / TABLE).read_bytes() == (few / TABLE).read_bytes()
    assert page.locator("#accuracy").count() == 1
    press(page, 0, "Accept")
    assert page.locator("#text-0 .review-marks").inner_text() == "no longer accepted · not saved"
    save(page, 3)
    assert version(few, 3).manifest["review"]["accepted"] == []
