"""Figures of the report, and pages of made-up runs: what is cut, said in words, laid out."""

import base64
import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import report_records
from matplotlib.figure import Figure
from pages import Reader
from PIL import Image
from report_records import transfer_of

from harness_plugin.cli.main import main
from harness_plugin_hooks.render.html import HALF
from harness_plugin_hooks.render.svg import themed, width_of
from harness_plugin_hooks.report import answer
from harness_plugin_hooks.report.examples import thumbnail
from harness_plugin_hooks.report.figures import circuits as figures_circuits
from harness_plugin_hooks.report.figures import flips as figures_flips
from harness_plugin_hooks.report.figures import scores as figures_scores
from harness_plugin_hooks.report.figures.attention import attention
from harness_plugin_hooks.report.figures.circuits import circuits, node_of, places
from harness_plugin_hooks.report.figures.drawing import NARROW, THEME, styled
from harness_plugin_hooks.report.figures.inside import sentences

ROLES = ["teacher", "erm_teacher", "student", "control", "erm_student"]


def test_the_answer_is_the_records_verdict(finished_run, tmp_path):
    run = finished_run(tmp_path / "run", {"teacher": 0.95, "student": 0.55})
    record = transfer_of(run)
    expected = {v.split: (v.state, v.sentence) for v in record.verdicts}
    assert {a.split: (a.state, a.sentence) for a in answer.answers(record)} == expected


def test_flips_are_drawn_as_they_were_counted(finished_run, tmp_path):
    run = finished_run(tmp_path / "run", {"teacher": 0.95, "student": 0.55})
    record = transfer_of(run)
    with styled():
        (picture,) = [p for p in figures_flips.pictures(record) if "swapped" in p.name]
    flips = [f for f in record.flips if (f.split, f.other) == ("swapped", "teacher")]
    drawn = [f for f in flips if f.subset.split("=")[0] in ("", "group", "margin")]
    (axes,) = picture.figure.axes
    bars = {c.get_label(): [b.get_width() for b in c] for c in axes.containers}
    assert bars["right to wrong"] == pytest.approx([100 * f.lost for f in drawn])
    assert not any(f.repaired or f.other_wrong for f in drawn)
    assert set(bars) == {"right to wrong"}  # no legend of what is not there
    assert max(bars["right to wrong"]) > 30
    assert len(picture.rows) == len(flips)
    assert picture.figure.get_figwidth() == NARROW  # a telephone shows all of it
    assert picture.caption.startswith("student on swapped: ")
    assert figures_flips.sentences(record) == []  # of models without a figure


def test_many_groups_and_panels_are_cut_and_it_is_said(finished_run, tmp_path):
    record = transfer_of(finished_run(tmp_path / "r", {"teacher": 0.9, "student": 0.7}, seeds=1))
    scores = []
    for s in record.scores:
        number = s.groups["a/x"]
        far = 0.2 if s.role == "student" else 0.0
        groups = {
            f"$g{i}$": number.model_copy(update={"value": 0.5 + (far if i % 8 == 0 else 0)})
            for i in range(100)
        }
        scores.append(s.model_copy(update={"groups": groups}))
    with styled():
        picture = figures_scores.groups(record.model_copy(update={"scores": scores}), "id")
        assert "$g0$" in picture.svg
    (axes,) = picture.figure.axes
    shown = [text.get_text() for text in axes.texts if text.get_text().startswith("$")]
    assert len(shown) == figures_scores.MOST_GROUPS
    assert "$g96$" in shown
    assert len(picture.rows) == 100
    assert "The 14 of 100 groups whose accuracy changes most" in picture.about


@pytest.mark.parametrize("student", ["student", "student_with_a_name_of_some_length_and_more"])
def test_groups_are_seen_whole_on_a_telephone(finished_run, tmp_path, student):
    """The figure stands on the screen without scrolling, and so does its legend."""
    run = finished_run(tmp_path / "r", {"teacher": 0.9, "student": 0.7, "control": 0.8}, seeds=1)
    record = transfer_of(run)
    scores = [
        s.model_copy(update={"role": student}) if s.role == "student" else s for s in record.scores
    ]
    with styled():
        picture = figures_scores.groups(record.model_copy(update={"scores": scores}), "id")
        assert width_of(picture.svg) <= HALF
    (legend,) = picture.figure.legends
    (axes,) = picture.figure.axes
    box, ends = legend.get_window_extent(), picture.figure.bbox
    assert ends.x0 <= box.x0
    assert box.x1 <= ends.x1
    # a mark a role and group, right of the group's name, and its number
    (names,) = {len(line.get_xdata()) for line in axes.lines}
    assert len(axes.texts) == names * (1 + len(axes.lines))


def test_names_of_any_script_stay_text(finished_run, tmp_path):
    """Without a word of a missing font: a browser has one."""
    record = transfer_of(finished_run(tmp_path / "r", {"teacher": 0.9, "student": 0.7}, seeds=1))
    scores = [
        s.model_copy(update={"groups": {f"金发/{k}": n for k, n in s.groups.items()}})
        for s in record.scores
    ]
    with styled():
        picture = figures_scores.groups(record.model_copy(update={"scores": scores}), "id")
        assert "金发/a/x</text>" in picture.svg
        assert picture.png[:4] == b"\x89PNG"
        page = themed(picture.svg, picture.name, picture.title, picture.about, THEME)
    assert not any("font-family" in e.attrib for e in page.iter())


def test_a_figure_in_the_page_has_no_styles_and_its_own_ids():
    with styled():
        pictures = [*circuits(report_records.circuits(), ROLES)]
        result = [themed(p.svg, p.name, p.title, p.about, THEME) for p in pictures]
    ids = [e.get("id") for root in result for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    for root in result:
        assert not [e for e in root.iter() if e.get("style") or e.tag == "style"]
        text = ElementTree.tostring(root, encoding="unicode")
        assert "var(--text)" in text
        for target in re.findall(r"(?:url\(|href=\")#([\w.-]+)", text):
            assert target in ids


def test_a_circuit_is_laid_out_in_the_order_of_the_forward_pass():
    model = report_records.circuit("student", 0)
    names = {node["id"] for node in model["nodes"]}
    ends = {
        node_of(e[end], {n: {} for n in names}) for e in model["edges"] for end in ("from", "to")
    }
    assert ends <= names  # an edge into a head's query is one into the head
    place = places(model["nodes"], names)
    columns = {name: x for name, (x, _) in place.items()}
    heads = [name for name in names if name.startswith("attn1.")]
    assert {columns[name] for name in heads} == {1.0}
    assert [columns[n] for n in ("input", "norm1", "mlp1", "attn2.h0")] == [0.0, 2.0, 3.0, 4.0]
    assert len(set(place.values())) == len(place)
    assert place["mlp1"][1] < place["norm1"][1]
    assert set(places(model["nodes"], {"input", "mlp2"})) == {"input", "mlp2"}


def test_a_convolutional_circuit_has_a_column_a_block_and_names_channels():
    record = report_records.convolutional()
    with styled():
        graph, curve = circuits(record, ["teacher"])
    (axes,) = graph.figure.axes
    names = {text.get_text() for text in axes.texts}
    assert {"stem", "stage 1\nblock 1", "stage 2\nblock 1", "0-3", "28-31"} <= names
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert len(drawn) == 20
    assert {line.get_xdata()[0] for line in drawn} == {0, 1, 2}
    assert len(graph.rows) == len(record["models"][0]["edges"])
    words = {text.get_text() for text in graph.figure.legends[0].get_texts()}
    assert words == {"channels (their numbers)", "score below 0"}  # only what is drawn
    # the mean of two seeds, and a band between them; 90% as their size_90 says
    (mean, *_), (band, *_) = curve.figure.axes[0].lines, curve.figure.axes[0].collections
    assert list(mean.get_ydata()) == pytest.approx([0, 0.5, 1])
    assert band.get_paths()[0].contains_point((50, 0.55))
    assert not band.get_paths()[0].contains_point((50, 0.65))
    assert "teacher 50.0% to 100.0%" in curve.caption


def test_where_clean_and_corrupted_hardly_differ_it_is_said_in_words():
    record = report_records.circuits(seeds=(0,))
    teacher = record["models"][0]
    teacher |= {"metric_full": -0.06, "metric_empty": -0.06, "area": None, "size_90": None}
    teacher["faithfulness"] |= {"values": [None] * 5, "random": [None] * 5, "reason": "undefined"}
    (caption,) = [s for s in figures_circuits.sentences(record) if "hardly differ" in s]
    assert "teacher seed 0 (mean metric \u22120.06 and \u22120.06)" in caption
    with styled():
        curve = next(p for p in circuits(record, ROLES) if p.name == "circuit_faithfulness")
    assert {row[0] for row in curve.rows} == {"student seed 0", "control seed 0"}


def test_remedies_are_on_the_page_with_their_cost(finished_run, tmp_path):
    run = finished_run(tmp_path / "run", {"teacher": 0.95, "student": 0.55})
    record = transfer_of(run)
    older, newer, other = (report_records.remedies(record, g) for g in (0.01, 0.12, 0.2))
    other["fingerprint"] = "of other data"
    # in the run's folder or in one beside it; the newest counts, of the same data
    beside = run.parent / "tried"
    beside.mkdir()
    for second, folder, content in ((1, run, older), (2, beside, newer), (3, beside, other)):
        file = folder / f"remedies_made_2026-01-01T00-00-0{second}.000000.json"
        file.write_text(json.dumps(content))
    assert (
        main(["report", str(run), "--output_path", str(tmp_path / "site"), "--examples", "0"]) == 0
    )
    (page,) = (tmp_path / "site").glob("*.html")
    read = Reader(page.read_text())
    assert newer["answer"] in read.text
    table = next(table for table in read.tables if table[0][0] == "remedy")
    # intervals and what is clearly a gain stand in elements of their own
    shown = ["90.0", "", "80.0", "+10.0", "91.0", "1.5\u00d7", "1.2\u00d7"]
    assert table[1][1:] == shown
    assert (table[2][2], table[2][-1]) == ("", "1.0\u00d7")
    assert "Not tried: dfr (no validation rows)" in read.text
    assert "fingerprints differ" not in read.text
    assert "nothing certified" in read.text
    assert "--baseline student" in read.text
    assert "--certify 0.95" in read.text
    (file,) = (tmp_path / "site").glob("*_figures/made_remedies_student.svg")
    assert "pure_kd" in file.read_text()


def test_certificates_are_on_the_page_with_bounds_and_reasons(finished_run, tmp_path, capsys):
    """In the run's folder or beside it, the newest of the same data; names are escaped."""
    run = finished_run(tmp_path / "run", {"teacher": 0.95, "student": 0.55})
    record = transfer_of(run)
    older, newer, other = (report_records.certificate(record, keeps) for keeps in (0.01, 0.02, 0.3))
    other["fingerprint"] = "of other data"
    beside = run.parent / "tried"
    for second, where, content in ((1, run, older), (2, beside, newer), (3, beside, other)):
        folder = where / f"certificate_made_2026-01-01T00-00-0{second}.000000"
        folder.mkdir(parents=True)
        (folder / "certificate.json").write_text(json.dumps(content))
    site = tmp_path / "site"
    assert main(["report", str(run), "--output_path", str(site), "--examples", "0"]) == 0
    (page,) = site.glob("*.html")
    markup = page.read_text()
    read = Reader(markup)
    assert "CERTIFIED: pure_kd (1.10x the operations of the student without a remedy)" in read.text
    assert "240 validation rows that chose nothing (a 160 and <b>b</b> 80) and 3 seeds" in read.text
    assert "<b>b</b>" not in markup
    assert "harness verify" in read.text
    table = next(table for table in read.tables if table[0][:2] == ["remedy", "kept"])
    # names, reasons and yes or no stand in elements of their own
    assert [row[1:-1] for row in table[1:]] == [
        ["+1.0", "+20.0", "+3.0", "0.0250", "0.00\u00d7"],
        ["+2.0", "+19.0", "+1.0", "0.0125", "1.10\u00d7"],
        ["\u2013", "\u2013", "\u2013", "", "1.00\u00d7"],
    ]
    assert "its worst group may be 3.0 points below the teacher's, 2 are allowed" in read.text
    assert "not tested, pure_kd was certified before it" in read.text
    assert "nothing certified" not in read.text
    older["level"] = 3
    (run / "certificate_made_2026-01-01T00-00-01.000000" / "certificate.json").write_text(
        json.dumps(older)
    )
    assert main(["report", str(run), "--output_path", str(site), "--examples", "0"]) == 2
    assert "certificate.json: level: Input should be less than" in capsys.readouterr().err


def test_records_with_fewer_keys_are_drawn():
    thin = {
        "pairs": [
            {
                "group": "all",
                "first": "teacher",
                "second": "student",
                "by_layer": [{"second_layer": 0, "first_layer": 0, "js": None}],
            }
        ]
    }
    model = {"role": "teacher", "edges": [{"from": "a", "to": "b", "score": 0.0}]}
    with styled():
        (picture,) = attention(thin, ["teacher", "student"])
        assert picture.rows[0][-2] == "\u2013"
        (picture,) = circuits({"models": [model, {"role": "student"}]}, ["teacher"])
        assert len(picture.rows) == 1
        assert list(attention({}, [])) == list(circuits({}, [])) == []


def test_what_probes_found_is_told():
    curve = {"role": "student", "target": "attribute", "layers": ["1", "2"], "value": [0.5, 0.75]}
    expected = {
        (False, False): "on no layer",
        (True, True): "from 1 on and stays so",
        (True, False): "on 1 only, and not clearly so",
    }
    for decodable, words in expected.items():
        names = [n for n, yes in zip(curve["layers"], decodable, strict=True) if yes]
        ends = {"first_decodable": names[0], "last_decodable": names[-1]} if names else {}
        (sentence,) = sentences({"curves": [{**curve, **ends, "decodable": list(decodable)}]})
        assert words in sentence


def test_a_run_whose_data_are_gone_is_reported_without_examples(finished_run, tmp_path, capsys):
    """Two students, no control, nothing analysed."""
    right = {"teacher": 0.95, "student": 0.9, "student_b": 0.6}
    run = finished_run(tmp_path / "run", right, seeds=1)
    assert main(["report", str(run), "--output_path", str(tmp_path / "site")]) == 0
    caption = capsys.readouterr().out
    assert "made: no examples. They need the run's data and predictions" in caption
    (page,) = (tmp_path / "site").glob("*.html")
    text = Reader(page.read_text()).text
    flags = "--cka --probes --attention --circuits"
    assert f"cka, probes, attention and circuits: harness analyze {run.name} {flags}" in text
    assert "harness remedy --tasks made --baseline student " in text
    titles = re.findall(r"<h[34][^>]*><bdi>([^<]*)", page.read_text())
    assert "Examples" not in titles  # what there is nothing to say of has no section
    assert "What brings it back" not in titles
    assert "student_b" in text
    assert "nan" not in text


@pytest.mark.parametrize("order", [("svg", "png"), ("png", "svg")])
def test_a_figure_is_laid_out_once_and_drawn_once_a_format(
    finished_run, tmp_path, monkeypatch, order
):
    record = transfer_of(finished_run(tmp_path, {"teacher": 0.9, "student": 0.8}))
    draw, drawn = Figure.draw, []
    monkeypatch.setattr(
        Figure, "draw", lambda self, renderer: (drawn.append(1), draw(self, renderer))
    )
    with styled():
        (first, *_), (second, *_) = (list(figures_scores.pictures(record)) for _ in range(2))
        for name in order:
            getattr(first, name)
        assert len(drawn) == 2
        assert (second.svg, second.png) == (first.svg, first.png)


def test_a_thumbnail_is_small_and_small_images_stay_as_they_are():
    tiny = Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3))
    large = tiny.resize((640, 480))
    assert thumbnail(tiny).startswith("data:image/png;base64,")
    assert thumbnail(large).startswith("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(thumbnail(tiny).partition(",")[2]))) as back:
        assert np.array_equal(np.asarray(back), np.asarray(tiny))
    assert len(thumbnail(large)) < 20_000
