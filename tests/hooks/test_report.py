"""`harness report`: numbers, figures, examples, and the page in a real browser."""

import json
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import report_records
from pages import Reader
from PIL import Image
from report_records import transfer_of

from harness_plugin import HarnessError
from harness_plugin.cli.main import main
from harness_plugin_hooks.render.document import Number
from harness_plugin_hooks.render.text import estimate, interval, percent
from harness_plugin_hooks.report import answer
from harness_plugin_hooks.report.examples import KINDS
from harness_plugin_hooks.report.figures import answer as figures_answer
from harness_plugin_hooks.report.figures import scores as figures_scores
from harness_plugin_hooks.report.figures.attention import attention
from harness_plugin_hooks.report.figures.drawing import styled
from harness_plugin_hooks.report.making import write
from harness_plugin_hooks.report.reading import read_run

HOSTILE = "<script>document.title = 'broken'</script><img src=https://example.org/x onerror=a()>"
QUICK = ["--permutations", "2", "--resamples", "100", "--examples", "64", "--probe_folds", "2"]
ROLES = ["teacher", "erm_teacher", "student", "control", "erm_student"]


@pytest.fixture(scope="module")
def run_folder(toy_run, tmp_path_factory):
    """The toy run, analysed; attention and circuits made up."""
    folder = tmp_path_factory.mktemp("reported") / "run"
    toy_run.copied(folder)
    assert main(["analyze", str(folder), "--cka", "--probes", *QUICK]) == 0
    (file,) = folder.glob("analysis_*.json")
    record = json.loads(file.read_text())
    record |= {"attention": report_records.attention(), "circuits": report_records.circuits()}
    record["circuits"]["notes"] = [HOSTILE]
    file.write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def run(run_folder, plugins):
    """As it is read, with an example whose text is hostile."""
    result = read_run(run_folder, plugins)
    (task,) = result.tasks
    (first, *others) = task.examples
    texts = {"premise": HOSTILE, "hypothesis": "a\u202eb"}
    other = next(kind for kind in KINDS if kind != first.examples[1].kind)  # two to choose from
    bad = replace(first.examples[0], texts=texts, groups=(HOSTILE,), id=HOSTILE, kind=other)
    examples = [replace(first, examples=[bad, *first.examples[1:]]), *others]
    return replace(result, tasks=[replace(task, examples=examples)])


@pytest.fixture(scope="module")
def site(run, plugins, tmp_path_factory):
    """Page and figures."""
    return write(run, plugins, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def read(site):
    return Reader(site[0].read_text(encoding="utf-8"), ("style", "script", "pre"))  # its YAML


def test_the_table_holds_the_numbers_of_the_record(read, run_folder):
    record = transfer_of(run_folder)
    head, *rows = next(table for table in read.tables if "retention" in table[0])
    assert head[:5] == ["set", "role", "accuracy", "worst group", "gap"]
    assert [row[:2] for row in rows] == [
        [s.name, role] for s in reversed(record.sets) for role in ROLES
    ]
    for split, role, acc, worst, *_ in rows:
        metrics = figures_scores.scores_on(record, split)[role].metrics
        assert acc == percent(metrics["acc"].value, False)
        lowest = metrics["worst_group_acc"].value
        assert worst == ("\u2013" if lowest is None else percent(lowest, False))
    change = next(
        t.number
        for t in record.transfer
        if (t.student, t.split, t.metric, t.measure)
        == ("student", "swapped", record.verdicts[-1].gap, "gap_size_change")
    )
    (row,) = [row for row in rows if row[:2] == ["swapped", "student"]]
    assert row[head.index("change of gap size")] == percent(change.value, True)


def test_the_answer_comes_first(run_folder):
    record = transfer_of(run_folder)
    first, second = answer.answers(record)
    assert (first.student, first.split, second.split) == ("student", "swapped", "id")
    verdict = next(v for v in record.verdicts if v.split == "swapped")
    assert (first.state, first.sentence) == (verdict.state, verdict.sentence)
    drawn = [picture.name for picture in figures_scores.pictures(record)]
    assert drawn[:2] == ["groups_swapped", "groups_id"]


def test_the_page_is_whole_and_inert(read):
    tags = [tag for tag, _ in read.tags]
    assert tags.count("script") == tags.count("style") == 1
    assert not {"iframe", "object", "embed", "form", "input", "button", "img"} & set(tags)
    for _, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert read.text.count(HOSTILE) == 4  # premise, group, id, a note of an analysis
    assert "a\ufffdb" in read.text
    assert "Verdicts: margin 2 points, at least 3 seeds; groups under 30 rows" in read.text
    policy = next(a["content"] for _, a in read.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    named = [a for tag, a in read.tags if tag == "svg"]
    assert len(named) == 16
    assert {name for a in named for name in a["aria-labelledby"].split()} <= set(ids)


def test_nothing_undefined_is_shown_as_a_number(read, site):
    assert "demonstration" in read.text or "embedded (generated) data" in read.text
    figures = "".join(file.read_text() for file in site if file.suffix == ".svg")
    for text in (read.text, figures):
        assert not re.search(r"\b(nan|NaN|None|null|inf)\b", re.sub(r"<[^>]*>", "", text))
    assert "undefined." in read.text


def test_every_figure_is_a_png_and_an_svg(site):
    page, *files = site
    assert page.suffix == ".html"
    pngs, svgs = ([f for f in files if f.suffix == kind] for kind in (".png", ".svg"))
    assert [f.stem for f in pngs] == [f.stem for f in svgs]
    assert len(pngs) == 16
    for file in pngs:
        with Image.open(file) as image:
            image.load()
            assert image.width > 500
            assert len(np.unique(np.asarray(image.convert("L").resize((60, 60))))) > 3  # not empty
    for file in svgs:
        root = ElementTree.parse(file).getroot()
        assert root.tag.endswith("svg")
        assert [e for e in root.iter() if e.tag.endswith("text")]


def test_the_same_numbers_give_the_same_bytes(run_folder):
    record = transfer_of(run_folder)
    with styled():
        one, other = (next(figures_answer.pictures(record)) for _ in range(2))
        assert one.svg == other.svg
        assert one.png == other.png


def test_marks_and_cells_are_the_numbers(run_folder):
    record = transfer_of(run_folder)
    result = figures_scores.scores_on(record, "swapped")
    with styled():
        pictures = {p.name: p for p in figures_scores.pictures(record)}
    (axes,) = pictures["groups_swapped"].figure.axes
    marks = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    for role in ("teacher", "student", "control"):
        assert marks[role] == pytest.approx([100 * n.value for n in result[role].groups.values()])
    names = [text.get_text() for text in axes.texts if text.get_position()[0] == 0]
    assert names == list(result["teacher"].groups)
    left, right, *_ = pictures["types_swapped_cue"].figure.axes
    values = np.array(
        [
            [
                100 * result[r].breakdowns["cue"][v]["acc"].value
                for r in ("teacher", "student", "control")
            ]
            for v in ("rain", "sun")
        ]
    )
    assert np.allclose(left.collections[0].get_array(), values)
    assert np.allclose(right.collections[0].get_array()[:, 0], values[:, 1] - values[:, 0])
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first row is on top


def test_the_first_figures_go_from_erm_to_the_student_and_beside_it(run_folder):
    record = transfer_of(run_folder)
    with styled():
        gap, worst = figures_answer.pictures(record)
    answered = answer.answers(record)[0].split
    for picture, metric in (
        (gap, figures_answer.primary_gaps(record)[answered]),
        (worst, "worst_group_acc"),
    ):
        axes = picture.figure.axes[0]
        assert axes.get_title(loc="left").startswith(f"{answered}: ")
        shown = [t.get_text() for t in axes.get_yticklabels()]
        assert shown == ["erm_teacher", "teacher", "student", "control", "erm_student"]
        result = figures_scores.scores_on(record, answered)
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        values = [100 * figures_scores.value_of(result[role].metrics[metric]) for role in shown]
        expected = [value for value in values if np.isfinite(value)]
        assert marks == pytest.approx(expected)
        if len(expected) < len(shown):  # no group of the toy's is large enough
            continue
        arrows = [t for t in axes.texts if t.arrow_patch is not None]
        assert [a.xyann[0] for a in arrows] == pytest.approx(expected[:2])
        assert [a.xy[0] for a in arrows] == pytest.approx(expected[1:3])
        for role, value in zip(shown[:3], expected, strict=False):
            assert f"{role} {percent(value / 100, metric.startswith('gap_'))}" in picture.caption
        assert picture.columns == ("set", *shown)


def test_a_role_has_one_colour_everywhere(run_folder, run):
    with styled():
        bars, *_ = figures_scores.pictures(transfer_of(run_folder))
        layers, *_ = attention(report_records.attention(), ROLES)
    (axes,) = bars.figure.axes
    of_marks = {line.get_label(): mpl.colors.to_rgba(line.get_color()) for line in axes.lines}
    of_lines = {line.get_label(): line.get_color() for line in layers.figure.axes[0].lines}
    for role in ("student", "control"):
        line = mpl.colors.to_rgba(of_lines[f"teacher ~ {role}"])
        assert line == pytest.approx(of_marks[role])


def test_examples_are_the_rows_on_which_they_disagree(run_folder, plugins):
    (task,) = read_run(run_folder, plugins, examples=7).tasks
    result = {d.split: d for d in task.examples}
    assert list(result) == ["swapped", "id"]  # out of domain first
    for split, shown in result.items():
        (file,) = run_folder.glob(f"predictions_toy_{split}_*.csv")
        head, *lines = [line.split(",") for line in file.read_text().splitlines()]
        predicted = {
            role: np.array(
                [
                    [
                        float(line[head.index(f"logit: {role}/0/{y}")])
                        for y in ("negative", "positive")
                    ]
                    for line in lines
                ]
            ).argmax(axis=1)
            for role in ("teacher", "student")
        }
        gold = np.array([line[head.index("label")] == "positive" for line in lines])
        apart_ = predicted["teacher"] != predicted["student"]
        assert sum(shown.counts.values()) == apart_.sum()
        assert shown.counts["lost"] == (apart_ & (predicted["teacher"] == gold)).sum()
        assert shown.rows == len(lines)
        ids = {line[0] for line, yes in zip(lines, apart_, strict=True) if yes}
        assert len(shown.examples) == min(7, len(ids))
        for one in shown.examples:
            assert one.id in ids
            assert one.answers["teacher"].label != one.answers["student"].label
            assert set(one.texts) == {"premise", "hypothesis"}
            assert set(one.answers) == {"teacher", "student", "control"}


def test_without_a_file_of_predictions_the_store_has_them(run_folder, plugins, tmp_path):
    """Of a run that was moved with its store, too: its paths are relative to itself."""
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "store").symlink_to(run_folder.parent / "store")
    for file in (tmp_path / "run").glob("predictions_*.csv"):
        file.unlink()
    one, other = (read_run(f, plugins).tasks[0].examples for f in (run_folder, tmp_path / "run"))
    assert [d.counts for d in one] == [d.counts for d in other]
    assert [e.id for d in one for e in d.examples] == [e.id for d in other for e in d.examples]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "--examples", "-1"], "--examples -1: expected 0 or more"),
        (["{run}", "--output_path", "x.html"], "the page is called report_"),
        (["{run}", "--tasks", "hans"], "task of the run"),
        (["{run}", "--started", "yesterday"], "run in"),
        (["{run}/nothing"], "no such folder"),
    ],
)
def test_wrong_words_are_named(run_folder, capsys, words, message):
    words = [word.format(run=run_folder) for word in words]
    assert main(["report", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_broken_analysis_is_named(run_folder, plugins, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    (file,) = (tmp_path / "run").glob("analysis_*.json")
    record = json.loads(file.read_text())
    del record["cka"]["pairs"][0]["value"]
    file.write_text(json.dumps(record))
    with pytest.raises(HarnessError, match=r"analysis_.*: cka cannot be drawn \(KeyError: 'value'"):
        write(read_run(tmp_path / "run", plugins, examples=0), plugins, tmp_path / "out")
    file.write_text("{")
    with pytest.raises(HarnessError, match="is no JSON file"):
        read_run(tmp_path / "run", plugins, examples=0)


@pytest.fixture
def opened(browser, site):
    browser.open(site[0])
    return browser


def test_the_page_opens_without_errors_or_requests(opened, site):
    assert opened.errors() == []
    requested = [url for url in opened.requests() if not url.startswith("data:")]
    assert requested == [site[0].resolve().as_uri()]
    assert opened.driver.title == "Debiasing transfer: toy"
    assert opened.driver.execute_script("return document.scripts.length") == 1
    widths = opened.driver.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert widths[0] <= widths[1]


def test_examples_are_filtered_and_sorted(opened):
    from selenium.webdriver.support.ui import Select

    def find(selector):
        return opened.driver.find_elements(
            "css selector", f"details[open]:has(> .cards) {selector}"
        )

    chosen = {label.text.split("\n")[0]: label for label in find(".controls label")}
    kinds = Select(chosen["kind"].find_element("css selector", "select"))
    words = [option.text for option in kinds.options]
    assert words[0] == "all"
    assert set(words[1:]) <= set(KINDS.values())
    kinds.select_by_visible_text(words[1])
    items = [item for item in find("li") if item.is_displayed()]
    assert items
    facets = [json.loads(item.get_attribute("data-facets"))["kind"] for item in items]
    assert set(facets) == {words[1]}
    (shown,) = find("output")
    assert shown.text == f"{len(items)} of {len(find('li'))} shown"
    order = Select(chosen["order"].find_element("css selector", "select"))
    order.select_by_visible_text("furthest apart")
    far = [float(item.get_attribute("data-distance")) for item in find("li")]
    assert far == sorted(far, reverse=True)
    assert opened.errors() == []


def test_without_a_script_the_page_is_whole(browser, site):
    disable = "Emulation.setScriptExecutionDisabled"
    browser.driver.execute_cdp_cmd(disable, {"value": True})
    try:
        browser.open(site[0])
        assert browser.texts("select, button") == []
        assert browser.texts(".answer")[0].startswith("? undecided student on swapped: ")
        assert browser.texts("details[open] > .cards li")
    finally:
        browser.driver.execute_cdp_cmd(disable, {"value": False})


INKS = ("text", "soft", "accent", "good", "bad", "open")
LINES = ("teacher", "control", "other", "student-1", "student-2", "student-3", "student-4")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_enough_contrast(opened, scheme):
    """Text 4.5 to 1 (WCAG 2.2, 1.4.3), graphics 3 to 1 (1.4.11)."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    script = """
        const root = getComputedStyle(document.documentElement);
        return Object.fromEntries(arguments[0].map((name) =>
            [name, root.getPropertyValue('--' + name).trim()]));
    """
    colours = opened.driver.execute_script(script, [*INKS, *LINES, "page", "stripe"])

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    assert (luminance(colours["page"]) > 0.5) == (scheme == "light")
    for names, least in ((INKS, 4.5), (LINES, 3)):
        for ink in names:
            for ground in ("page", "stripe"):
                low, high = sorted((luminance(colours[ground]), luminance(colours[ink])))
                assert (high + 0.05) / (low + 0.05) >= least, (ink, ground)
    text = "return getComputedStyle(document.querySelector('svg.figure text')).fill"
    red, green, blue = map(int, re.findall(r"\d+", opened.driver.execute_script(text)))
    assert f"#{red:02x}{green:02x}{blue:02x}" == colours["text"]  # figures follow the theme


def test_on_paper_there_is_no_navigation_and_nothing_is_cut(opened):
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        script = """
            const shown = (selector) => [...document.querySelectorAll(selector)]
                .filter((e) => e.checkVisibility()).length;
            return [shown('nav'), shown('.controls'), shown('figure'),
                getComputedStyle(document.querySelector('.scroll')).overflowX,
                getComputedStyle(document.documentElement).getPropertyValue('--page').trim()];
        """
        assert opened.driver.execute_script(script) in (
            [0, 0, n, "visible", "#fff"] for n in range(13, 20)
        )
    finally:
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_numbers_are_written_with_their_interval_or_reason(run_folder):
    number = transfer_of(run_folder).scores[0].metrics["acc"]
    number = number.model_copy(update={"low": 0.25, "high": 0.75})
    low, high = (percent(end, False) for end in (number.low, number.high))
    shown = Number.of(number)
    assert (estimate(shown), interval(shown)) == (
        percent(number.value, False),
        f"{low} to {high}",
    )
    nothing = Number.of(number.model_copy(update={"value": None, "reason": "one group"}))
    assert (estimate(nothing), interval(nothing), nothing.reason) == ("\u2013", "", "one group")
    assert estimate(Number.of(None)) == "\u2013"
