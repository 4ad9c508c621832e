"""report.html and report.md: they are well-formed, load nothing, escape, and say what is missing."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import pytest
from scipy.stats import trim_mean

from entroreg.benchmarks.report_page import write_report
from entroreg.benchmarks.report_page.page import LIMIT
from entroreg.benchmarks.report_page.pictures import LARGE, embedded

from .conftest import RESULTS, lost_cell, made_cell, made_summary

EMPTY = {"meta", "img"}
NASTY = "<script>alert('x')</script>|*_`&\"\n# x"


class Page(HTMLParser):
    """All tags, links, ids and the text of a page; refuses tags that do not balance."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.ids, self.words = [], set(), [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        assert len({name for name, _ in attrs}) == len(attrs)
        self.links += [value for name, value in attrs if name in {"src", "href", "xlink:href", "data", "action"}]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def text_of(page):
    return " ".join("".join(page.words).split())


def reported(tmp_path, cells, failed=()):
    files = write_report([made_summary(cells, failed)], [], tmp_path)
    return files["html"].read_text(), files["markdown"].read_text()


def test_committed_page_is_whole_and_loads_nothing(committed):
    text = committed.files["html"].read_text(encoding="utf-8")
    page = Page(text)
    assert len(text.encode()) < 5_000_000
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    for link in page.links:
        assert link.startswith("data:image/png;base64,") or link.removeprefix("#") in page.ids
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base"}
    assert not re.search(r"@import|url\(", text)
    assert "://" not in re.sub(r"base64,[^\"]*", "", text)


def test_committed_page_shows_what_is_asked_of_it(committed):
    text = text_of(Page(committed.files["html"].read_text(encoding="utf-8")))
    for title in committed.titles:
        assert title in text
    sac = json.loads((RESULTS / "sac_small.json").read_text())
    ours, theirs = (
        [cell["score"] for cell in sac["cells"] if cell["method"] == name]
        for name in ("entroreg-discrete-sac", "sb3-dqn")
    )
    assert f"CartPole-v1, return of the greedy policy: entroreg-discrete-sac {trim_mean(ours, 0.25):g} [" in text
    assert f"better by {trim_mean(ours, 0.25) - trim_mean(theirs, 0.25):.0f}" in text
    assert "(5 of 5 seeds each)" in text
    assert "times as fast" in text
    assert "entroreg bench run sac --preset small --task CartPole-v1 --method sb3-dqn --seed 4" in text
    for word in ("Summary table", "Curves", "Robustness", "Environment and versions", "Pictures", "torchmetrics"):
        assert word in text
    assert "mnist_bag_attention.png" in text
    assert "cells failed" not in text


def test_headlines_stand_before_all_else(committed):
    text = committed.files["html"].read_text(encoding="utf-8")
    assert text.index('class="headlines"') < text.index("<nav") < text.index("<section")


def test_names_are_escaped(tmp_path):
    cells = [made_cell(NASTY, method, s, s, curve=[[1, 2], [2, 3]]) for method in (NASTY, "b") for s in range(2)]
    text, markdown = reported(tmp_path, cells, (lost_cell(NASTY, NASTY, 2, NASTY),))
    page = Page(text)
    assert "script" not in page.tags
    assert html.escape(NASTY) in text
    assert "".join(page.words).count("alert('x')") > 5
    assert "<script>" not in markdown.split("```")[0]
    assert all(line.count(" | ") == 4 for line in markdown.splitlines() if line.startswith("| b "))


def test_failures_are_named_with_counts(tmp_path):
    cells = [made_cell("T", m, s, 10.0 * (m == "a") + s / 10) for m in "ab" for s in range(5) if (m, s) != ("b", 3)]
    failed = (lost_cell("T", "b", 3, "loss is NaN at step 812"), *(lost_cell("T", "c", s, None) for s in range(5)))
    text, markdown = reported(tmp_path, cells, failed)
    told = text_of(Page(text))
    assert "1 of the cells failed, 5 were not run" in told
    assert "T, b: 4 of 5 seeds; seed 3: loss is NaN at step 812" in told
    assert "T, c: 0 of 5 seeds; seeds 0, 1, 2, 3, 4: not run" in told
    assert "(5 of 5 seeds against 4 of 5 seeds; few seeds); c without a result, 0 of 5 seeds" in told
    assert told.index("4 of 5 seeds") < told.index("better by")
    assert len(re.findall(r"\b4 of 5 seeds", told)) >= 5  # failures, two headlines, table, chart
    assert 'class="failures"' in text
    assert markdown.count("4 of 5 seeds") >= 3
    assert "no result" in told


def test_curves_have_the_counts_of_their_seeds(tmp_path):
    cells = [
        made_cell(
            "T", "a", s, 1.0, curve=[[10, s], [20, s + 1.0]], curves={"alpha": [[10, 1.0], [20, 0.001 * (s + 1)]]}
        )
        for s in range(4)
    ]
    text, _ = reported(tmp_path, cells, (lost_cell("T", "a", 4, "boom"),))
    assert "T: return over steps" in text
    assert "T: alpha over steps" in text
    assert text.count("a, 4 of 5 seeds</text>") == 2
    assert 'class="band"' in text


def test_one_seed_of_one_method(tmp_path):
    text, _ = reported(tmp_path, [made_cell("T", "a", 0, 0.0, curve=[[5, 1.0]])])
    assert "a 0 alone (1 of 1 seed)" in text_of(Page(text))


def test_nothing_done_at_all(tmp_path):
    text, markdown = reported(tmp_path, [], (lost_cell("T", "a", 0, "boom"),))
    assert "T, a: 0 of 1 seed; seed 0: boom" in text_of(Page(text))
    assert "0 of 1 seed" in markdown


def test_pictures_beyond_the_budget_are_left_out():
    paths = [RESULTS / "mil_small.png", RESULTS / "mnist_bag_attention.png"]
    both = list(embedded(paths, LIMIT))
    assert [picture.name for picture in both] == ["mil_small.png", "mnist_bag_attention.png"]
    assert (both[0].width, both[0].height) in {(2268, 378), (LARGE, 233)}  # without and with Pillow
    assert (both[1].width, both[1].height) == (1500, 477)
    first, second = embedded(paths, 60_000)
    assert first.uri is None
    assert "left out" in first.note
    assert second.uri == both[1].uri


def test_a_page_keeps_its_limit(tmp_path):
    import io

    images = pytest.importorskip("PIL.Image")
    import numpy as np

    noise = np.random.default_rng(0).integers(256, size=(1000, 2800, 3), dtype=np.uint8)
    stream = io.BytesIO()
    images.fromarray(noise).save(stream, "PNG")
    paths = [tmp_path / f"noise_{index}.png" for index in range(2)]
    for path in paths:
        path.write_bytes(stream.getvalue())
    page = write_report([made_summary([made_cell("T", "a", 0, 1.0)])], paths, tmp_path / "out")["html"].read_bytes()
    assert len(page) < LIMIT
    assert b"noise_1.png: left out" in page
    (first,) = re.findall(rb'alt="noise_0.png" width="(\d+)" height="(\d+)"', page)
    assert first == (b"1400", b"500")
    assert next(embedded(paths, LIMIT)).width == LARGE


def test_pictures_of_one_name_are_told_apart_and_others_refused(tmp_path):
    for folder in ("sac", "mil"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "summary.png").write_bytes((RESULTS / "mnist_bag_attention.png").read_bytes())
    (tmp_path / "text.png").write_bytes(b"no picture")
    paths = [tmp_path / "sac" / "summary.png", tmp_path / "mil" / "summary.png", tmp_path / "text.png"]
    found = list(embedded(paths, LIMIT))
    assert [picture.name for picture in found] == ["sac/summary.png", "mil/summary.png", "text.png"]
    assert (found[2].uri, found[2].note) == (None, "left out: not a PNG")


def test_heat_maps_share_their_scale(committed):
    text = committed.files["html"].read_text(encoding="utf-8")
    section = re.search(rf'<section id="suite-{committed.titles.index("robust_small")}">.*?</section>', text, re.S)
    cells = [c for c in committed.summaries[committed.titles.index("robust_small")]["cells"]]
    means = {}
    for method in {cell["method"] for cell in cells}:
        grids = [cell["grid"]["returns"] for cell in cells if cell["method"] == method]
        means[method] = [
            [sum(g[i][j] for g in grids) / len(grids) for j in range(len(grids[0][0]))]
            for i in range(len(grids[0]))
        ]
    flat = sorted(value for grid in means.values() for row in grid for value in row)
    drawn = section.group(0)
    assert f"return, from {flat[0]:.4g} to {flat[-1]:.4g}" in drawn
    assert len(re.findall(r'class="map"', drawn)) == len(means)
    maps = "".join(re.findall(r'<svg[^>]*class="map">.*?</svg>', drawn, re.S))
    assert maps.count('fill="#440154"') >= 1  # the darkest colour at the lowest of all, once and in one map
    assert maps.count('fill="#fde725"') >= 1
    for method, grid in means.items():
        mean = sum(map(sum, grid)) / (len(grid) * len(grid[0]))
        assert f"{method}, 5 of 5 seeds: mean {mean:.4g}, lowest {min(map(min, grid)):.4g}" in drawn
