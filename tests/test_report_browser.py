"""The report in a browser without network: charts, search, keyboard, phone, colours and hostile texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dallme.report.exports import Material, few_shot
from dallme.report.page import render
from dallme.text import to_unicode
from report_sets import HOSTILE, audit_of, hostile_set, small_set

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]

#: Where the diamond of a distilled text stands, in the page's coordinates.
PLACE = """(index) => {
  const place = document.querySelector(".plane"), view = place.vegaView;
  const box = place.querySelector("canvas").getBoundingClientRect();
  const { left, top } = view.padding(), { x, y } = view.data("own").find((datum) => datum.index === index);
  return [box.x + left + view.scale("x")(x), box.y + top + view.scale("y")(y)];
}"""

#: Smallest contrast of a visible text to the ground behind it, after WCAG 2, and where.
CONTRAST = """() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = (part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg")) continue;
    const [one, two] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < worst[0]) worst = [ratio, `${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`];
  }
  return worst;
}"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages on disk: a plain one and a hostile one. The map is drawn by components, which is fast."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)
        for name, (distilled, evidence) in {
            "plain": small_set(with_comparison=True),
            "hostile": hostile_set(),
        }.items():
            audit = audit_of(distilled, HOSTILE if name == "hostile" else None)
            html = render(distilled, evidence=evidence, audit=audit)
            (folder / f"{name}.html").write_text(html, encoding="utf-8", newline="")
    return {path.stem: path for path in folder.glob("*.html")}


@pytest.fixture
def visit(chromium: Browser, files: dict[str, Path]) -> Iterator[Open]:
    """Opens a page with the network cut; whatever the console says, or a dialog, fails the test."""
    said: list[str] = []
    contexts = []

    def go(name: str = "plain", *, drawn: bool = True, **options: Any) -> Page:
        context = chromium.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        context.set_default_timeout(5_000)
        context.set_offline(True)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "blob:")) or said.append(f"request: {request.url}")
            ),
        )
        page.goto(files[name].as_uri())
        if drawn:
            page.wait_for_selector(".plane[data-drawn]")
        return page

    go.said = said  # type: ignore[attr-defined]
    yield go
    for context in contexts:
        context.close()
    assert said == []


def texts(page: Page) -> list[str]:
    """The texts of the cards that are shown."""
    return page.locator(".card:not([hidden]) .text").all_text_contents()


def unfold(page: Page) -> None:
    """Opens all details, and has the browser lay out the cards that are out of sight as well."""
    page.evaluate("""() => {
      document.querySelectorAll("details").forEach((details) => { details.open = true; });
      document.querySelectorAll(".card").forEach((card) => { card.style.contentVisibility = "visible"; });
    }""")


def show_map(page: Page) -> None:
    """Scrolls to the map, and waits until the page has noticed: a tooltip goes when the page is scrolled."""
    page.locator(".plane").scroll_into_view_if_needed()
    page.evaluate("() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")


def test_the_map_and_the_chart_are_drawn(visit: Open, tmp_path: Path) -> None:
    page = visit()
    counts = page.evaluate(
        "() => ['rows', 'own'].map((name) => document.querySelector('.plane').vegaView.data(name).length)"
    )
    assert counts == [8, 3]
    colours = page.evaluate("""() => {
      const canvas = document.querySelector(".plane canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const found = new Set();
      for (let at = 0; at < data.length; at += 4) if (data[at + 3] === 255) found.add(data.slice(at, at + 3).join());
      return [...found];
    }""")
    assert {"68,119,170", "238,102,119"} <= set(colours)  # the diamonds of both classes
    assert page.locator(".bars svg").count() == 2
    assert page.locator(".bars").first.locator("text").all_text_contents() == [
        "random", "extractive", "full", "0.600", "0.750", "0.850",
    ]  # fmt: skip
    page.screenshot(path=tmp_path / "page.png", full_page=True)


def test_hovering_shows_the_text_and_leaving_hides_it(visit: Open) -> None:
    page = visit()
    show_map(page)
    page.mouse.move(*page.evaluate(PLACE, 2))
    page.wait_for_selector("#tip:not([hidden])")
    assert page.locator("#tip").inner_text().split("\n") == ["good · distilled text 2", "Fine and warm."]
    page.mouse.move(5, 5)
    page.wait_for_selector("#tip", state="hidden")


def test_a_click_on_the_map_selects_a_card(visit: Open) -> None:
    page = visit()
    show_map(page)
    page.mouse.click(*page.evaluate(PLACE, 2))
    assert page.locator(".card[aria-current]").get_attribute("id") == "text-2"
    assert page.evaluate("document.activeElement.id") == "text-2"
    assert page.locator("#picked").inner_text() == "Text 2 stands for the 4 rows in colour."
    assert page.evaluate("document.querySelector('.plane').vegaView.signal('picked')") == 2
    page.keyboard.press("Escape")
    assert page.locator(".card[aria-current]").count() == 0
    assert page.evaluate("document.querySelector('.plane').vegaView.signal('picked')") == -1


def test_a_card_can_be_shown_on_the_map_without_a_mouse(visit: Open) -> None:
    page = visit()
    button = page.locator("#text-1 [data-action=show]")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.querySelector('.plane').vegaView.signal('picked')") == 1
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"


def test_the_wheel_zooms_the_map_only_with_shift(visit: Open) -> None:
    page = visit()
    domain = "() => document.querySelector('.plane').vegaView.scale('x').domain().map(Math.round)"
    show_map(page)
    before, scrolled = page.evaluate(domain), page.evaluate("scrollY")
    box = page.locator(".plane").bounding_box()
    assert box
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.wheel(0, 120)
    page.wait_for_function("(before) => scrollY > before", arg=scrolled)
    assert page.evaluate(domain) == before
    page.keyboard.down("Shift")
    page.mouse.wheel(0, -240)
    page.wait_for_function(f"(before) => ({domain})()[0] !== before", arg=before[0])


def test_search_and_filter(visit: Open) -> None:
    page = visit()
    count = page.locator("#count")
    assert count.get_attribute("aria-live") == "polite"
    assert count.inner_text() == "3 texts"
    page.fill("#search", "  FILM ")
    assert texts(page) == ["A dull film. It was slow."]
    assert count.inner_text() == "1 of 3 texts"
    page.fill("#search", "nowhere")
    assert count.inner_text() == "0 of 3 texts; none fits, change the search"
    page.fill("#search", "")
    page.select_option("#class", "1")
    assert texts(page) == ["Fine and warm."]
    assert page.evaluate("document.querySelector('.plane').vegaView.signal('chosen')") == 1
    show_map(page)
    page.mouse.click(*page.evaluate(PLACE, 0))  # of the other class: the filter makes way
    assert page.locator("#count").inner_text() == "3 texts"
    assert page.evaluate("document.activeElement.id") == "text-0"


def test_tab_order_and_visible_focus(visit: Open) -> None:
    page = visit(drawn=False)
    names = []
    for _ in range(50):
        page.keyboard.press("Tab")
        name, outline = page.evaluate("""() => {
          const at = document.activeElement, style = getComputedStyle(at);
          const name = at.id || at.getAttribute("aria-label") || at.textContent.trim();
          return [at === document.body ? "" : name, `${style.outlineStyle} ${style.outlineWidth}`];
        }""")
        if not name:
            break
        assert outline == "solid 3px", name
        names.append(name)
    assert names[:7] == ["Skip to the texts", "Accuracy", "Map", "Audit", "Texts", "Run", "theme"]
    assert names[7:14] == [
        "The comparison table",
        "Summary of the audit",
        "search",
        "class",
        "format",
        "copy",
        "download",
    ]
    assert names[14:19] == [
        "Sentences and the rows they are from (2)",
        "Nearest real texts (2)",
        "Audit",
        "Copy",
        "Show on the map",
    ]
    assert names[-1] == "The run’s manifest"
    assert len(names) == 14 + 3 * 5 + 1


def test_the_skip_link_leads_to_the_texts(visit: Open) -> None:
    page = visit(drawn=False)
    page.keyboard.press("Tab")
    assert page.locator(".skip").bounding_box()["y"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "texts"


def test_every_control_has_a_name(visit: Open) -> None:
    page = visit(drawn=False)
    unnamed = page.evaluate("""() => {
      const controls = document.querySelectorAll("button, input, select, a, summary, [role=img], [tabindex='0']");
      const named = (at) => at.labels?.length || at.getAttribute("aria-label") || at.textContent.trim();
      return [...controls].filter((at) => !named(at)).map((at) => at.outerHTML);
    }""")
    assert unnamed == []
    levels = page.evaluate("() => [...document.querySelectorAll('h1, h2, h3')].map((at) => at.tagName)")
    assert levels == ["H1"] + ["H2"] * 5
    assert page.evaluate("document.documentElement.lang") == "en"
    assert (
        page.evaluate("new Set([...document.querySelectorAll('[id]')].map((at) => at.id)).size")
        == page.locator("[id]").count()
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(visit: Open, scheme: Any, tmp_path: Path) -> None:
    page = visit(color_scheme=scheme)
    unfold(page)
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where
    assert ratio < 21  # else nothing was measured
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)


def test_the_theme_can_be_switched_and_the_charts_follow(visit: Open) -> None:
    page = visit(color_scheme="light")
    ground, ink = (
        "getComputedStyle(document.body).backgroundColor",
        "document.querySelector('.plane').vegaView.signal('ink')",
    )
    before = page.evaluate(ground), page.evaluate(ink)
    assert before == ("rgb(250, 249, 246)", "rgb(31, 35, 40)")
    page.click("#theme")
    assert (page.evaluate(ground), page.evaluate(ink)) == ("rgb(20, 22, 25)", "rgb(232, 230, 225)")
    page.wait_for_timeout(500)  # a browser stores it in the background
    page.reload()  # it is remembered
    page.wait_for_selector(".plane[data-drawn]")
    assert (page.evaluate(ground), page.evaluate(ink)) == ("rgb(20, 22, 25)", "rgb(232, 230, 225)")
    page.click("#theme")
    assert (page.evaluate(ground), page.evaluate(ink)) == before


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_a_phone_need_not_scroll_sideways(visit: Open, name: str, tmp_path: Path) -> None:
    page = visit(name, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("visualViewport.scale") == 1
    page.screenshot(path=tmp_path / f"phone-{name}.png", full_page=True)


def test_hostile_texts_are_shown_and_never_run(visit: Open, tmp_path: Path) -> None:
    page = visit("hostile")
    distilled, _ = hostile_set()
    assert texts(page) == [to_unicode(text) for text in HOSTILE]
    unfold(page)
    show_map(page)
    for index in range(len(distilled)):
        page.mouse.move(*page.evaluate(PLACE, index))
        page.wait_for_selector("#tip:not([hidden])")
        page.mouse.move(2, 2)
        page.wait_for_selector("#tip", state="hidden")
    page.fill("#search", "</script>")
    assert texts(page) == [HOSTILE[0], HOSTILE[1]]
    page.fill("#search", "")
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main b, main style, main script").count() == 0
    assert page.locator("option").all_inner_texts()[1:3] == [
        f"{HOSTILE[0]} (1)",
        f"{HOSTILE[1]} ({len(HOSTILE) - 1})",
    ]
    page.screenshot(path=tmp_path / "hostile.png", full_page=True)


def test_the_policy_stops_what_would_run(visit: Open) -> None:
    """Were a text to come through as markup, the browser would refuse to run it."""
    page = visit("plain")
    stopped = page.evaluate("""() => new Promise((tell) => {
      document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) =>
      tell(effectiveDirective), { once: true }); const script = document.createElement("script");
      script.textContent = "window.hacked = 1";
      document.body.append(script);
    })""")
    assert stopped == "script-src-elem"
    assert page.evaluate("window.hacked") is None
    (complaint,) = visit.said  # type: ignore[attr-defined]
    assert "Content Security Policy" in complaint
    visit.said.clear()  # type: ignore[attr-defined]


def downloaded(page: Page, kind: str) -> tuple[str, bytes]:
    page.select_option("#format", kind)
    with page.expect_download() as waiting:
        page.click("#download")
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def test_downloads(visit: Open) -> None:
    page = visit(drawn=False)
    distilled, _ = small_set()
    name, content = downloaded(page, "jsonl")
    assert name == "texts.jsonl"
    assert [json.loads(line) for line in content.decode().splitlines()] == [
        {"text": "A dull film. It was slow.", "label": 5, "label_text": "bad", "weight": 2},
        {"text": "Bad, bad.", "label": 5, "label_text": "bad", "weight": 1.5},
        {"text": "Fine and warm.", "label": 9, "label_text": "good", "weight": 4.5},
    ]
    name, content = downloaded(page, "csv")
    assert name == "texts.csv"
    assert content.decode() == (
        'text,label,label_text,weight\r\n"A dull film. It was slow.","5","bad","2"\r\n'
        '"Bad, bad.","5","bad","1.5"\r\n'
        '"Fine and warm.","9","good","4.5"\r\n'
    )
    name, content = downloaded(page, "prompt")
    assert name == "prompt.txt"
    assert content == few_shot(Material(distilled, "."))


def test_a_spreadsheet_runs_no_cell_of_a_hostile_set(visit: Open) -> None:
    page = visit("hostile", drawn=False)
    cells = downloaded(page, "csv")[1].decode()
    assert '"\'=HYPERLINK(""http://example.com"")"' in cells
    assert not any(f'"{sign}' in cells.replace('""', "") for sign in "=+-@\t\n")
    lines = [json.loads(line) for line in downloaded(page, "jsonl")[1].decode().split("\n") if line]
    assert [line["text"] for line in lines] == [to_unicode(text) for text in HOSTILE]


def test_copying(visit: Open) -> None:
    page = visit(drawn=False, permissions=["clipboard-read", "clipboard-write"])
    page.click("#text-2 [data-action=copy]")
    page.wait_for_selector("#text-2 [data-action=copy]:text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == "Fine and warm."


def test_a_page_without_scripts_still_shows_the_texts(visit: Open) -> None:
    page = visit(drawn=False, java_script_enabled=False)
    assert page.locator(".card .text").all_text_contents() == list(small_set()[0].texts)
    assert page.locator("table").count() == 2
