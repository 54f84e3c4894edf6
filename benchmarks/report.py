"""Measures the report pages of IMDB, AG-News and SST-2: size, and seconds to make and to open in a browser.

Each page is made in a new process. Run: python benchmarks/report.py [--store FOLDER] [--opens 5]
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import SMOKE, data_folder, make_parser, peak_memory_gb, pick, run_part, write

PER_CLASS = pick({"imdb": 10, "ag_news": 30, "sst2": 10}, {"sst2": 2})

#: Seconds from the start of loading to the first paint and to the drawn map.
MARKS = """() => ({
  paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime / 1000,
  drawn: performance.now() / 1000,
})"""


def make(name: str, store: str, page: Path) -> dict[str, Any]:
    """Distils one data set and writes its page."""
    from dallme.auditing.inputs import gather
    from dallme.distiller import Distiller
    from dallme.evaluation.compare import compare
    from dallme.evaluation.evaluate import LINEAR, make_classifiers
    from dallme.readers import read
    from dallme.report.page import render

    source = read(data_folder() / name / "train.parquet")
    test = read(data_folder() / name / "test.parquet", like=source)
    distiller = Distiller(per_class=PER_CLASS[name], store=store, seed=0)
    distillation = distiller.run(source)
    methods = ["random", "nearest", "extractive", "full"]
    table = compare(distiller, distillation, test, methods, make_classifiers(LINEAR))
    distilled = distillation.distilled.with_comparison(table.as_dict())
    evidence = gather(distilled, source, store=store)
    started = time.perf_counter()
    evidence.confidence  # noqa: B018 - trains the probe before the clock of the page starts
    probed = time.perf_counter()
    html = render(distilled, evidence=evidence)
    seconds = time.perf_counter() - probed
    page.write_text(html, encoding="utf-8", newline="")
    shown = json.loads(html.split('id="data-map">')[1].split("</script>")[0])
    return {
        "rows": len(source),
        "points": len(shown["x"]),
        "texts": len(distilled),
        "map": shown["method"],
        "characters_a_point": max(map(len, shown["text"])),
        "bytes": len(html.encode()),
        "bytes_gzip": len(gzip.compress(html.encode())),
        "probe_seconds": round(probed - started, 2),
        "page_seconds": round(seconds, 2),
        "peak_memory_gb": peak_memory_gb(),
    }


def find_browser() -> str:
    """Returns the path of the browser; exits if there is none."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    return program or sys.exit("no browser: install chromium, or set CHROMIUM to one")


def open_page(page: Path, opens: int) -> dict[str, float]:
    """Returns median seconds to the first paint and to the drawn map, in new browsers without network."""
    from playwright.sync_api import sync_playwright

    program, marks = find_browser(), []
    with sync_playwright() as driver:
        for _ in range(opens):
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
            tab = context.new_page()
            tab.goto(page.as_uri(), wait_until="commit")
            tab.wait_for_selector(".plane[data-drawn]")
            marks.append(tab.evaluate(MARKS))
            browser.close()
    return {
        f"{name}_seconds": round(statistics.median(mark[name] for mark in marks), 2)
        for name in ("paint", "drawn")
    }


def main() -> None:
    """Makes each page in a new process and opens it."""
    parser = make_parser(__doc__)
    parser.add_argument("--store", help="folder of embeddings; by default a new one")
    parser.add_argument("--opens", type=int, default=pick(5, 1))
    parser.add_argument("--only", choices=PER_CLASS, help="make this page in this process and print JSON")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(make(options.only, options.store, options.page)))
        return
    find_browser()  # before the pages are made
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        store = options.store or str(Path(scratch) / "store")
        for name in PER_CLASS:
            page = Path(scratch) / f"{name}.html"
            made = run_part(__file__, "--only", name, "--store", store, "--page", str(page), fork=SMOKE)
            results[name] = made | open_page(page, options.opens)
    write("report", {"opens": options.opens, "data": results})


if __name__ == "__main__":
    main()
