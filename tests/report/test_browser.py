"""The page as a browser shows it: opened in headless Chromium, on a phone, in light and dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from entroreg.benchmarks.report_page import write_report

from .conftest import lost_cell, made_cell, made_summary

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",  # the page in a frame may be measured
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"
# A window cannot be as narrow as a phone, a frame can.
MEASURE = """<!DOCTYPE html><meta charset="utf-8">
<iframe id="page" src="report.html" width="390" height="844"></iframe>
<pre id="found"></pre><script>
document.getElementById("page").onload = (event) => {
  const page = event.target.contentDocument, width = page.documentElement.scrollWidth;
  page.querySelectorAll("details").forEach((one) => one.open = true);
  const px = (text) => {
    const svg = text.ownerSVGElement;
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    return scale * parseFloat(getComputedStyle(text).fontSize);
  };
  document.getElementById("found").textContent = JSON.stringify({
    width: width, opened: page.documentElement.scrollWidth, view: page.documentElement.clientWidth,
    charts: page.querySelectorAll("svg").length,
    smallest: Math.min(...[...page.querySelectorAll("svg text")].map(px)),
    beyond: [...page.querySelectorAll("svg text")].filter((text) => {
      const box = text.getBBox(), own = text.ownerSVGElement.viewBox.baseVal;
      return !text.hasAttribute("transform") && (box.x < -1 || box.x + box.width > own.width + 1);
    }).map((text) => text.textContent),
    pictures: [...page.images].filter((image) => image.naturalWidth > 0).length,
    top: page.querySelector(".headlines").getBoundingClientRect().top,
  });
};
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: install the package chromium")


def browse(folder, url, *flags):
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def screenshot(folder, url, scheme, width=1280, height=1600):
    images = pytest.importorskip("PIL.Image")
    path = folder / "page.png"
    browse(folder, url, f"--screenshot={path}", f"--window-size={width},{height}", scheme)
    with images.open(path) as image:
        return image.convert("RGB")


def on_a_phone(page, folder):
    """What MEASURE finds of a page."""
    shutil.copy(page, folder / "report.html")
    (folder / "measure.html").write_text(MEASURE)
    dom = browse(folder, (folder / "measure.html").as_uri(), "--dump-dom", "--virtual-time-budget=20000")
    return json.loads(re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)[1].replace("&amp;", "&"))


@pytest.fixture(scope="module")
def measured(committed, tmp_path_factory):
    return on_a_phone(committed.files["html"], tmp_path_factory.mktemp("phone"))


def test_nothing_is_wider_than_a_phone(measured):
    assert measured["view"] == 390
    assert measured["width"] == 390
    assert measured["opened"] == 390  # with all details open


def test_long_names_are_broken(tmp_path):
    name = "x" * 150
    cells = [made_cell(name, m + name, s, s, curve=[[1, 1], [2, s]]) for m in "ab" for s in range(2)]
    summary = made_summary(cells, (lost_cell(name, "c" + name, 0, name),))
    page = write_report([summary], [], tmp_path / "out")["html"]
    found = on_a_phone(page, tmp_path)
    assert (found["width"], found["opened"], found["beyond"]) == (390, 390, [])


def test_charts_are_readable_on_a_phone(measured):
    assert measured["charts"] > 50
    assert measured["smallest"] >= 8.5  # pixels
    assert measured["beyond"] == []


def test_pictures_are_shown(measured, committed):
    text = committed.files["html"].read_text(encoding="utf-8")
    assert measured["pictures"] == text.count("data:image/png") > 5


def test_headlines_are_on_the_first_screen_of_a_phone(measured):
    assert measured["top"] < 400


def test_page_is_shown_in_light_and_dark(committed, tmp_path):
    url = committed.files["html"].as_uri()
    light, dark = (screenshot(tmp_path, url, scheme) for scheme in (LIGHT, DARK))
    paper = {"light": light.getpixel((2, 2)), "dark": dark.getpixel((2, 2))}
    assert paper == {"light": (255, 255, 255), "dark": (20, 22, 26)}
    for image, own in ((light, paper["light"]), (dark, paper["dark"])):
        colours = image.getcolors(image.width * image.height)
        assert len(colours) > 100
        share = dict((colour, count) for count, colour in colours)[own] / (image.width * image.height)
        assert 0.2 < share < 0.9  # neither blank nor covered
    greys = [image.convert("L").resize((1, 1)).getpixel((0, 0)) for image in (light, dark)]
    assert greys[0] > 200
    assert greys[1] < 80


def test_text_has_contrast_in_light_and_dark(committed):
    css = re.search(r"<style>(.*?)</style>", committed.files["html"].read_text(encoding="utf-8"), re.S)[1]
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    for part in (light, dark[: dark.index("* {")]):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", part))
        for ink, paper, least in (
            ("ink", "paper", 7), ("soft", "paper", 4.5), ("soft", "card", 4.5), ("link", "paper", 4.5),
            ("good", "good-paper", 4.5), ("bad", "bad-paper", 4.5), ("ink", "even-paper", 7),
            *((f"c{index}", "paper", 3) for index in range(8)),
        ):  # fmt: skip
            assert contrast(colours[ink], colours[paper]) >= least, (ink, paper)


def contrast(first, second):
    """The ratio of WCAG 2.2."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
