"""The leaderboard: ranks by hand, what is refused, and the page as it is without a browser."""

import csv
import json
import re
import shutil

import pytest
from bundles import HOSTILE, SUBMISSIONS
from pages import Reader
from planted import EVEN, answered, results, scored, write
from report_records import transfer_of

from harness_plugin.cli.main import main
from harness_plugin.records import VerdictRule
from harness_plugin.scoring.files.finished_runs import records_in
from harness_plugin_hooks.leaderboard.board import boards_of, rank_ranges
from harness_plugin_hooks.leaderboard.document import leaderboard
from harness_plugin_hooks.leaderboard.tables import as_csv, as_json, inert
from harness_plugin_hooks.leaderboard.verify import Verified, verify
from harness_plugin_hooks.render.html import page


@pytest.fixture(scope="module")
def verified(submissions, plugins):
    return {file: verify(submissions / file, plugins) for file in SUBMISSIONS}


@pytest.mark.parametrize(
    ("intervals", "ranks"),
    [
        ([], []),
        ([(0.1, 0.2)], [(1, 1)]),
        ([(0.5, 0.6), (0.1, 0.2), (0.3, 0.4)], [(1, 1), (3, 3), (2, 2)]),
        # the first and the last are apart, the middle one touches both
        ([(0.5, 0.7), (0.3, 0.5), (0.1, 0.3)], [(1, 2), (1, 3), (2, 3)]),
        ([(0.1, 0.9), (0.8, 0.9), (0.2, 0.3)], [(1, 3), (1, 2), (2, 3)]),
        ([(0.4, 0.4), (0.4, 0.4)], [(1, 2), (1, 2)]),
    ],
)
def test_ranks_are_apart_only_where_intervals_are(intervals, ranks):
    assert rank_ranges(intervals) == ranks


def test_every_student_meets_on_one_board_a_set(verified):
    ood, in_domain = boards_of(verified)
    assert [ood.name, in_domain.name] == ["made, swapped", "made, id"]
    for board in (ood, in_domain):
        assert board.gap == "gap_avg_worst"
        assert len(board.rows) == 6
        ranked = [row for row in board.rows if row.rank]
        assert board.rows[: len(ranked)] == tuple(ranked)
        assert [row.file for row in board.rows if not row.rank] == ["single.zip"]
        assert board.rows[-1].unranked == "1 seed, a rank needs 3"
    files = [(row.file, row.student) for row in ood.rows]
    assert files[:2] == [("good.zip", "student"), ("close.zip", "student")]
    assert files[4] == ("two", "student_b")
    first, last = ood.rows[0], ood.rows[4]
    assert first.rank == ood.rows[1].rank == (1, 3)
    assert last.rank == (5, 5)
    assert set(first.numbers) == {
        "worst_group_acc",
        "acc",
        "gap_avg_worst",
        "teacher_worst_group_acc",
        "distillability",
        "contribution",
        "retention",
        "gap_size_change",
    }
    alone = next(row for row in ood.rows if row.file == "bad.zip")
    assert set(alone.numbers) == {"worst_group_acc", "acc", "gap_avg_worst"}
    assert alone.verdict is None


def test_seeds_that_answer_alike_are_one(tmp_path):
    """Three seeds with the answers of one model, and one of its own: no rank, whoever counts."""
    clones = [(90, 70, 80, 90)] * 3
    for name, seeds in {"clones": clones, "three": (*clones[:2], EVEN, (91, 80, 80, 90))}.items():
        record = records_in(results(tmp_path / name, *seeds))["faces"][1]
        board = boards_of({name: Verified(name, "0", {"faces": record}, 0)})[0]
        (row,) = board.rows
        if name == "clones":
            assert (row.seeds, row.rank) == (1, None)
            assert row.unranked == "1 seed, a rank needs 3"
        else:
            assert (row.seeds, row.rank) == (3, (1, 1))


def judged_by(tmp_path, name, rule):
    """A submission whose student loses 48 points of the worst groups; no ERM teacher."""
    teacher = answered(*((90, k, k, 90) for k in (87, 88, 89)), role="teacher")
    student = answered(*((95, k, k, 95) for k in (39, 40, 41)))
    folder = write(tmp_path / name, scored([*teacher, *student], rule=rule))
    return Verified(name, name, {"faces": transfer_of(folder)}, 0)


def test_all_verdicts_are_given_by_one_margin(tmp_path):
    """One run called itself kept, by a margin of 90; the board's is 2 points, or what it says.

    Groups that may be the worst are others for runs with another `min_group`: another board.
    """
    kind, strict = (
        judged_by(tmp_path, name, VerdictRule(margin))
        for name, margin in (("kind", 0.9), ("strict", 0.02))
    )
    assert kind.records["faces"].verdicts[-1].state == "kept"
    bundles = {"kind": kind, "strict": strict}
    board = boards_of(bundles)[0]
    assert [row.verdict for row in board.rows] == ["lost", "lost"]
    assert [row.notes for row in board.rows] == [("no_reference",)] * 2
    (about,) = {row.sentence for row in board.rows}
    assert "more than the margin of 2 points" in about
    wide = boards_of(bundles, rule=VerdictRule(0.9))[0]
    assert {row.verdict for row in wide.rows} == {"kept"}
    made = page(leaderboard([board], {}, "Ours", board.rule))
    assert "Verdicts: margin 2 points, at least 3 seeds." in Reader(made).text
    (line,) = {
        tuple(line[key] for key in ("verdict", "notes", "margin", "min_seeds"))
        for line in csv.DictReader(as_csv([board]).splitlines())
    }
    assert line == ("lost", "no_reference", "0.02", "3")
    record = as_json([board], {}, "Ours")["boards"][0]
    assert (record["margin"], record["min_seeds"], record["min_group"]) == (0.02, 3, 30)
    few = judged_by(tmp_path, "few", VerdictRule(min_group=5))
    apart = [b for b in boards_of({"few": few, "kind": kind}) if b.known.name == "balanced"]
    assert [(b.rule.min_group, len(b.rows)) for b in apart] == [(5, 1), (30, 1)]


def test_numbers_are_those_of_the_bundle(verified):
    board = boards_of(verified)[0]
    row = next(row for row in board.rows if row.file == "good.zip")
    record = verified["good.zip"].records["made"]
    own, teacher = (
        next(s for s in record.scores if (s.role, s.split) == (role, "swapped")).metrics
        for role in ("student", "teacher")
    )
    assert row.numbers["worst_group_acc"] == own["worst_group_acc"]
    assert row.numbers["teacher_worst_group_acc"] == teacher["worst_group_acc"]
    difference = own["worst_group_acc"].value - teacher["worst_group_acc"].value
    assert row.numbers["distillability"].value == pytest.approx(difference)
    assert row.verdict == next(v.state for v in record.verdicts if v.split == "swapped")


def test_seeds_and_direction_decide(verified):
    four = boards_of(verified, rule=VerdictRule(min_seeds=4))[0].rows
    assert [r.seeds for r in four if r.rank] == [4, 4]
    files = [r.file for r in boards_of(verified, metric="ece", higher_is_better=False)[0].rows]
    errors = [
        r.numbers["ece"].value
        for r in boards_of(verified, metric="ece", higher_is_better=False)[0].rows
    ]
    assert files[-1] == "single.zip"
    assert errors[0] == min(errors[:-1])
    (glory,) = {r.unranked for r in boards_of(verified, metric="glory")[0].rows}
    assert glory == "no interval of glory"


def test_other_data_are_another_board(verified, finished_run, tmp_path, plugins):
    run = finished_run(tmp_path / "run", {"student": 0.5}, fingerprint="0" * 64)
    assert main(["submit", str(run), "--output_path", str(tmp_path / "other.zip")]) == 0
    more = {**verified, "other.zip": verify(tmp_path / "other.zip", plugins)}
    assert [len(board.rows) for board in boards_of(more)] == [1, 6, 1, 6]


def test_the_same_as_data(board_site):
    record = json.loads((board_site / "leaderboard.json").read_text())
    assert record["title"] == "Ours & <theirs>"
    assert [board["set"] for board in record["boards"]] == ["swapped", "id"]
    rows = {row["file"]: row for row in record["boards"][0]["rows"] if row["student"] == "student"}
    assert rows["bad.zip"]["submission"] == HOSTILE
    assert rows["single.zip"]["rank"] is None
    with (board_site / "leaderboard.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert {line["submission"] for line in table if line["file"] == "single.zip"} == {"'=1+1"}
    (line,) = (
        line
        for line in table
        if (line["set"], line["file"], line["number"]) == ("swapped", "good.zip", "acc")
    )
    assert float(line["value"]) == rows["good.zip"]["numbers"]["acc"]["value"]
    assert [int(line["best_rank"]), int(line["worst_rank"])] == rows["good.zip"]["rank"]


def test_no_cell_is_a_formula():
    assert [inert(x) for x in ("@x", "-1", "ok", -1.0, None)] == ["'@x", "'-1", "ok", -1.0, None]


def test_the_page_needs_nothing_else_and_says_all_without_a_script(board_site):
    read = Reader((board_site / "index.html").read_text(encoding="utf-8"))
    tags = [tag for tag, _ in read.tags]
    assert tags.count("script") == 1
    assert tags.count("style") == 1
    assert not {"img", "iframe", "object", "embed", "b", "form", "input", "button"} & set(tags)
    linked = {a[key] for _, a in read.tags for key in ("src", "href") if key in a}
    assert linked == {
        "data:,",
        "#board-1",
        "#board-2",
        "#how",
        "leaderboard.json",
        "leaderboard.csv",
    }
    assert not [name for _, a in read.tags for name in a if name.startswith("on")]
    assert HOSTILE in read.text
    assert "<b>bold</b>, group_dro" in read.text
    assert "Ours & <theirs>" in read.text
    assert "1 seed, a rank needs 3" in read.text
    policy = next(a["content"] for _, a in read.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_a_second_build_gives_the_same_bytes(submissions, board_site, tmp_path):
    words = [
        "leaderboard",
        str(submissions),
        "--output_path",
        str(tmp_path / "s"),
        "--title",
        "Ours & <theirs>",
    ]
    assert main(words) == 0
    for file in ("index.html", "leaderboard.json", "leaderboard.csv"):
        assert (tmp_path / "s" / file).read_bytes() == (board_site / file).read_bytes()


def broken(bundles, folder):
    """Two bundles that hold, one that does not, one that is a copy."""
    for file in ("good.zip", "close.zip"):
        shutil.copy(bundles / file, folder / file)
    shutil.copytree(bundles / "two", folder / "changed")
    results = folder / "changed" / "tasks" / "made" / "results.json"
    results.write_text(results.read_text().replace('"role": "student_b"', '"role": "student_c"'))
    shutil.copy(bundles / "good.zip", folder / "same.zip")
    (folder / "README.md").touch()
    return folder


def test_a_refused_bundle_stops_the_page_or_is_listed_on_it(submissions, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    words = [
        "leaderboard",
        str(broken(submissions, tmp_path / "in")),
        "--output_path",
        str(tmp_path / "out"),
    ]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "README.md: neither a folder nor a .zip file" in out
    assert re.search(r"changed: REFUSED: tasks/made/results.json: expected SHA-256", err)
    assert (
        "same.zip: REFUSED: same.zip: expected results of its own, found those of good.zip" in err
    )
    assert not (tmp_path / "out").exists()
    assert main([*words, "--skip_refused"]) == 0
    page = Reader((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).text
    assert "same.zip: same.zip: expected results of its own" in page
    record = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert list(record["refused"]) == ["changed", "same.zip"]
    assert {row["file"] for row in record["boards"][0]["rows"]} == {"good.zip", "close.zip"}


def test_only_the_reference_data_are_shown(submissions, finished_run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    shutil.copy(submissions / "good.zip", tmp_path / "in")
    theirs = finished_run(tmp_path / "run", {"student": 1.0}, turned=2)
    assert main(["submit", str(theirs), "--output_path", str(tmp_path / "in" / "easy.zip")]) == 0
    words = ["leaderboard", str(tmp_path / "in"), "--output_path", str(tmp_path / "out")]
    words += ["--reference", str(submissions / "close.zip")]
    assert main(words) == 1
    assert "easy.zip: REFUSED: tasks/made/results.json, sets.id.rows_sha256" in (
        capsys.readouterr().err
    )
    assert main([*words, "--skip_refused"]) == 0
    record = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert [[row["file"] for row in board["rows"]] for board in record["boards"]] == (
        [["good.zip"], ["good.zip"]]
    )


def test_embedded_data_are_shown_as_a_demonstration(finished_run, tmp_path):
    run = finished_run(tmp_path / "run", {"student": 0.5}, source="embedded")
    folder, site = tmp_path / "in", tmp_path / "out"
    words = ["submit", str(run), "--output_path", str(folder / "b.zip"), "--allow_embedded"]
    assert main(words) == 0
    assert main(["leaderboard", str(folder), "--output_path", str(site)]) == 1
    assert main(["leaderboard", str(folder), "--output_path", str(site), "--allow_embedded"]) == 0
    page = (site / "index.html").read_text(encoding="utf-8")
    assert page.count("demonstration: embedded (generated) data") == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--metric", "glory"], "unknown metric 'glory'"),
        (["--metric", "gap_avg_worst"], "a gap is signed, the lowest is not the best"),
        (["--min_seeds", "1"], "greater than or equal to 2"),
        (["--margin", "2"], "less than 1"),
        (["--output_path", "{bundles}/site"], "lies among the bundles"),
        (["--output_path", "{bundles}/good.zip"], "expected a folder, this names a file"),
    ],
)
def test_bad_input_is_said(submissions, tmp_path, capsys, more, message):
    words = [word.format(bundles=submissions) for word in more]
    assert (
        main(["leaderboard", str(submissions), "--output_path", str(tmp_path / "s"), *words]) == 2
    )
    assert message in capsys.readouterr().err


def test_a_folder_without_bundles_is_said(tmp_path, capsys):
    for folder, message in (("none", "there is none"), ("", "holds no bundle")):
        words = ["leaderboard", str(tmp_path / "in" / folder), "--output_path", str(tmp_path / "s")]
        (tmp_path / "in").mkdir(exist_ok=True)
        assert main(words) == 2
        assert message in capsys.readouterr().err
