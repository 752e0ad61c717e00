"""The page in a real browser, where one is installed: it fits on a telephone, can be read, and asks for nothing."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_runs import image_source, table_source

from autodidact.report import write_report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

# Runs inside the page: what sticks out sideways without a box that scrolls, text below 9.5 pixels, what was fetched.
PROBE = """<script>addEventListener('load', () => {
  const width = document.documentElement.clientWidth, out = [], small = [];
  const boxed = e => { for (let p = e.parentElement; p; p = p.parentElement)
    if (getComputedStyle(p).overflowX != 'visible') return true; return false };
  document.querySelectorAll('body *').forEach(e => { const r = e.getBoundingClientRect();
    if (r.width && (r.right > width + 1 || r.left < -1) && !boxed(e)) out.push(e.tagName) });
  document.querySelectorAll('svg text').forEach(e => {
    const svg = e.ownerSVGElement, scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const size = parseFloat(getComputedStyle(e).fontSize) * scale; if (size < 9.5) small.push(size) });
  const fetched = performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('data:'));
  const pictures = [...document.images].filter(i => !i.naturalWidth).length;
  parent.postMessage(JSON.stringify({out, small, fetched, pictures,
    wide: document.documentElement.scrollWidth - width}), '*') })</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("kind", ["labelled", "table"])
def test_the_page_fits_its_window_and_fetches_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, width: int, kind: str
) -> None:
    source = image_source() if kind == "labelled" else table_source()
    page = write_report(request.getfixturevalue(f"{kind}_run"), source=source, out=tmp_path / "page.html")
    page.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    # A browser without a window cannot be made as narrow as a telephone, a frame can.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<body><iframe src='page.html' style='border:0;width:{width}px;height:900px'></iframe>"
        "<script>onmessage = e => { document.body.dataset.said = e.data }</script>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    shown = subprocess.run(
        [str(BROWSER), *options, frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    said = re.search(r'data-said="([^"]*)"', shown)
    assert said is not None
    assert json.loads(html.unescape(said[1])) == {"out": [], "small": [], "fetched": [], "pictures": 0, "wide": 0}
