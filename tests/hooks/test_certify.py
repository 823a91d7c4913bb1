"""`harness remedy --certify`: the rule, its error rate, the file and who refuses it."""

import importlib
import json
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness_plugin.cli.main import main
from harness_plugin.records import VarianceComponents
from harness_plugin.scoring.statistics.intervals import Support
from harness_plugin_hooks.remedies.certify import certificate, words
from harness_plugin_hooks.remedies.certify.certificate import Certificate, Promise, reference_of
from harness_plugin_hooks.remedies.certify.rule import (
    Candidate,
    in_order,
    shares,
    steps_of,
    told_from,
    would_certify,
)

ROOT = Path(__file__).resolve().parents[2]
TOY = str(ROOT / "tests" / "toy" / "toy.yaml")


def part(value, sd=0.01, seeds=5, rows_sd=0.0):
    """Components whose seeds differ by `sd` (of the mean)."""
    numbers = (np.asarray(float(x)) for x in (value, rows_sd**2, 0.0, sd**2))
    return VarianceComponents(*numbers, seeds, 199.0)


def made(remedy, kept, *, value=1.0, cost=1.0, fall=0.0, gain=0.3, **more):
    return Candidate(remedy, value, cost, part(kept, **more), part(gain), part(fall), "")


def test_the_error_is_shared_out_once():
    assert shares(0.05, 1) == [0.05]
    assert shares(0.04, 4) == pytest.approx([0.02, 0.01, 0.005, 0.005])
    assert sum(shares(0.05, 9)) == pytest.approx(0.05)


def test_order_is_value_per_cost_and_the_first_that_holds_is_certified():
    candidates = [
        made("dear", 0.5, value=1.0, cost=3.0),
        made("weak", -0.1, value=0.9),
        made("good", 0.1, value=0.8),
    ]
    steps = list(steps_of(in_order(candidates), 0.05, margin=0.05))
    assert [step.remedy for step in steps] == ["weak", "good"]
    assert [step.certified for step in steps] == [False, True]
    assert [step.share for step in steps] == pytest.approx([0.025, 0.0125])
    # t of 4 degrees of freedom, one-sided 1.25%
    assert steps[1].kept_low == pytest.approx(0.1 - 3.4954 * 0.01, abs=1e-5)


def test_what_costs_nothing_comes_first_by_what_it_keeps():
    free = [made("b", 0.1, cost=0.0, value=0.7), made("a", 0.1, cost=0.0, value=0.8)]
    lost = made("0", 0.1, cost=0.0, value=0.0)
    assert [c.remedy for c in in_order([lost, made("paid", 0.1), *free])] == [
        *("a", "b"),
        *("paid", "0"),
    ]


def test_a_student_is_measured_from_the_model_by_erm_that_starts_as_it_does():
    starts = {"erm_student": "", "student": "", "student_small": "the network of teacher"}
    starts["student_half"] = "even layers of teacher"
    assert reference_of("student", starts) == "erm_student"
    assert reference_of("student_small", starts) == "erm_teacher"
    assert reference_of("student_half", starts) == ""
    # the layers that it would start from if nothing were debiased
    starts["erm_student_even"] = "even layers of erm_teacher"
    assert reference_of("student_half", starts) == "erm_student_even"
    assert reference_of("student", starts) == "erm_student"


def test_what_is_kept_is_counted_from_the_reference(monkeypatch):
    levels = {"teacher": 0.8, "erm_teacher": 0.5, "erm_student": 0.4, "control": 0.78}
    worst = SimpleNamespace(
        reason="",
        values={role: np.full((3, 5), value) for role, value in levels.items()},
        support=SimpleNamespace(df=50.0),
    )
    monkeypatch.setattr(certificate, "no_claim", lambda *_, **__: "")
    for reference, gained in (("erm_teacher", 0.28), ("erm_student", 0.38)):
        promise = Promise("control", 1.0, 1.0, reference)
        kept = certificate.candidate(worst, "none", promise, 0.95).kept
        assert float(kept.value) == pytest.approx(gained - 0.95 * 0.3)


UNSHOWN = "the teacher's own gain over ERM, 3.0 points, is not shown (lower bound \u22120.7)"
LESS = "it keeps 1.0 points less of the teacher's gain than is to be certified"
NEVER = "as these values stand no number of seeds or rows would certify it"


@pytest.mark.parametrize(
    ("value", "limit", "told"),
    [
        (0.0123, 0.0, "1.2"),
        (0.0002, 0.0, "0.02"),
        (1e-9, 0.0, "0.0000001"),
        (0.02004, 0.02, "2.004"),
        (0.035, 0.02, "3.5"),
    ],
)
def test_what_misses_a_limit_by_little_is_told_from_it(value, limit, told):
    assert told_from(value, limit) == told


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (
            made("a", 0.02),
            "it may keep 1.7 points less of the teacher's gain than is to be certified; its worst "
            "group may be 3.7 points below the teacher's, 2 are allowed; about 10 seeds would "
            "certify it",
        ),
        (made("a", 0.1, gain=0.03, fall=-0.1), f"{UNSHOWN}; about 7 seeds would certify it"),
        (
            made("a", -0.01, gain=0.03, fall=-0.1),
            f"{UNSHOWN}; {LESS}; {NEVER}, about 7 seeds would show the teacher's gain",
        ),
        (
            made("a", 0.1, gain=-0.1),
            "the teacher gains nothing over ERM on these rows (\u221210.0 points), so that there "
            "is nothing to retain",
        ),
        (made("a", -0.01, fall=-0.1), f"{LESS}; {NEVER}"),
        (
            made("a", 0.1, fall=0.05),
            f"its worst group is 5.0 points below the teacher's, 2 are allowed; {NEVER}",
        ),
        (replace(made("a", 0.1), reason="no bounds"), "no bounds"),
    ],
)
def test_what_is_not_shown_and_what_would_do(candidate, reason):
    """Five seeds, one-sided 1%: t of 4 degrees of freedom is 3.747."""
    assert not candidate.holds(0.01, 0.02)
    assert would_certify(candidate, 0.01, 0.02) == reason


@pytest.mark.parametrize(
    ("kept", "ways"),
    [
        # z of 199 degrees of freedom is 2.345: 2.3 points of rows, and of 1.5 times the rows 1.9
        (part(0.02, sd=0.0, rows_sd=0.01), "1.5 times the rows"),
        (part(0.02, sd=0.0, rows_sd=0.01, seeds=25), "1.5 times the rows"),
        (part(0.036), "about 6 seeds"),
        (part(0.036, rows_sd=0.0051), "about 6 seeds"),
        # 20 seeds leave (t 2.539) 1.27 points; rows alone 2.35, of 3 times the rows 1.35
        (part(0.02, rows_sd=0.01), "20 seeds with 3 times the rows"),
        (part(0.0001), "not even 20 seeds with 50 times the rows"),
    ],
)
def test_how_many_seeds_or_rows_would_do(kept, ways):
    candidate = Candidate("a", 1.0, 1.0, kept, part(0.3), part(-0.1))
    assert would_certify(candidate, 0.01, 0.02).endswith(f"; {ways} would certify it")


def worst_of(seeds, smallest):
    draws, roles = np.random.default_rng(0), ("teacher", "erm_teacher", "erm_student", "control")
    values = {role: draws.uniform(size=(seeds, 9)) for role in roles}
    return SimpleNamespace(reason="", values=values, support=Support(200, smallest))


@pytest.mark.parametrize(
    ("seeds", "smallest", "promise", "reason"),
    [
        (1, 90, {}, "1 seed, a certificate needs 3"),
        (2, 90, {}, "2 seeds, a certificate needs 3"),
        (3, 12, {}, "12 rows in its smallest cell, an interval needs 30"),
        (
            2,
            12,
            {},
            "2 seeds, a certificate needs 3; 12 rows in its smallest cell, an interval needs 30",
        ),
        (1, 90, {"reason": certificate.NO_REFERENCE}, certificate.NO_REFERENCE),
    ],
)
def test_too_few_seeds_and_rows_are_named_with_what_is_needed(seeds, smallest, promise, reason):
    made = Promise("control", 1.0, 1.0, "erm_student", **promise)
    candidate = certificate.candidate(worst_of(seeds, smallest), "none", made, 0.95)
    assert candidate.reason == reason
    assert would_certify(candidate, 0.01, 0.02) == reason


def test_a_certificate_is_false_no_more_often_than_delta(monkeypatch):
    """Students at the limit, 300 runs; a rate of 10% and twice its standard error: 13.5%."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    bench = importlib.import_module("certify")
    rng = np.random.default_rng(0)
    of = {"seeds": 4, "rows": 150, "remedies": 3, "delta": 0.1, "resamples": 60}
    false = np.mean([bench.certified(rng, **of) for _ in range(300)])
    assert false <= 0.135
    of |= {"rows": 2000, "keeps": 1.15}
    assert np.mean([bench.certified(rng, **of) for _ in range(40)]) > 0.5
    sys.modules.pop("certify")


def certified(store, out, *more):
    """The certificate of a tiny run."""
    words = f"remedy --tasks {TOY} --seeds 0,1 --threads 1 --precision no --device cpu"
    words += " --attention sdpa"
    words += f" --resamples 100 --min_group 5 --certify 0.95 --output_path {out}"
    words += f" --use_cache {store} --set validation_fraction=0.5 --set toy.rows=320"
    words += " --set teacher.epochs=1 --set student.epochs=1"
    assert main([*words.split(), *more]) == 0
    (result,) = out.glob("certificate_toy_*")
    return result


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """For all certificates: they have one teacher."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def folder(store, tmp_path_factory):
    """A certificate that all tests here look at."""
    return certified(store, tmp_path_factory.mktemp("certificate"), "--remedies", "pure_kd")


def test_verify_computes_a_certificate_again(folder, capsys):
    assert main(["verify", str(folder)]) == 0
    answers = Certificate.model_validate(json.loads((folder / "certificate.json").read_text()))
    assert {each.remedy for each in answers.order} == {"none", "pure_kd"}
    verdict = f"{answers.certified} is certified" if answers.certified else "nothing is certified"
    assert verdict in capsys.readouterr().out


def test_the_sentence_says_what_costs_are_counted_in_and_when_they_are_high(folder):
    record = json.loads((folder / "certificate.json").read_text())
    record |= {"certified": "pure_kd", "steps": []}
    order = {each["remedy"]: each for each in record["order"]}
    for cost, plain, said in (
        (1.2, 1.0, "(1.20x the operations of the student without a remedy) has a retention"),
        (1.6, 1.0, "It costs more than 1.25 times the student without a remedy."),
        (0.5, 0.0, "(0.50x the operations of the dearest student) has a retention"),
    ):
        order["pure_kd"]["cost"], order["none"]["cost"] = cost, plain
        sentence = words.sentence(Certificate.model_validate(record))
        assert said in sentence
        assert ("It costs more" in sentence) == (cost > 1.25)
    made = Certificate.model_validate(record)
    assert dict(words.reasons(made)) == {"none": "not tested, pure_kd was certified before it"}


def test_a_certificate_is_checked_without_torch(folder):
    code = (
        "import sys; from harness_plugin.cli.main import main; "
        f"assert main(['verify', {str(folder)!r}]) == 0; "
        "sys.exit(', '.join({'torch', 'transformers', 'datasets'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_is_filled_from_what_a_run_left(folder, tmp_path):
    """A line a remedy, as the files have it, and the sentence that the command printed."""
    (file,) = folder.parent.glob("remedies_toy_*.json")
    record, made = (
        json.loads(file.read_text()),
        json.loads((folder / certificate.DOCUMENT).read_text()),
    )
    assert record["rows"].startswith("a quarter of the validation split")
    filler = runpy.run_path(str(ROOT / "docs" / "fill_tables.py"))
    head, _, about, *lines = filler["certificates"](folder.parent)
    assert re.fullmatch(r"Filled at commit [0-9a-f]{7,}\.", head)
    assert about.startswith("**toy** (")
    assert ", `student`, 2 seeds; smallest group of the rows that rank: " in about
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "`" in line]
    assert [row[0].strip("`") for row in rows] == [one["remedy"] for one in record["remedies"]]
    reasons = {step["remedy"]: f"no: {step['reason']}" for step in made["steps"]}
    for row, one in zip(rows, record["remedies"], strict=True):
        assert row[1] == f"{100 * one['score']['value']:.1f}"
        assert row[-1] == reasons[one["remedy"]]
    assert "NONE CERTIFIED: a retention of at least 95% and a worst group" in " ".join(lines)
    with pytest.raises(SystemExit, match=r"no certificate\.json in"):
        filler["certificates"](tmp_path)


def test_students_that_are_the_teacher_made_smaller(store, tmp_path, capsys):
    """They are measured from the ERM teacher, whose network they have."""
    compress = "compress: {magnitude: {sparsity: 0.5}}"
    made = certified(
        store,
        tmp_path,
        *("--remedies", "pure_kd,from_teacher", "--baseline", "student_small"),
        *("--set", f"students.student_small={{{compress}, epochs: 1, method: erm}}"),
    )
    out = capsys.readouterr().out
    assert "skipped from_teacher: compress is the teacher's network" in out
    record = Certificate.model_validate(json.loads((made / "certificate.json").read_text()))
    assert {each.remedy: each.reference for each in record.order} == {
        "none": "erm_teacher",
        "pure_kd": "erm_teacher",
    }
    assert {each.cost for each in record.order} == {1.0}
    assert not any(each.reason for each in record.order)
    assert main(["verify", str(made)]) == 0


def changed_number(record):
    record["steps"][0]["kept_low"] = 0.123


def changed_answer(record):
    record["certified"] = None if record["certified"] else "pure_kd"


def changed_delta(record):
    record["delta"] = record["delta"] * 2


def changed_order(record):
    record["order"].reverse()


@pytest.mark.parametrize("change", [changed_number, changed_answer, changed_delta, changed_order])
def test_a_changed_certificate_is_refused(folder, tmp_path, change, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    record = json.loads((copy / "certificate.json").read_text())
    change(record)
    (copy / "certificate.json").write_text(json.dumps(record))
    assert main(["verify", str(copy)]) == 1
    assert "REFUSED" in capsys.readouterr().err


def test_changed_answers_are_refused(folder, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with np.load(copy / "answers.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for name in arrays:
        if name.startswith("logits teacher"):
            arrays[name] = -arrays[name]
    np.savez(copy / "answers.npz", **arrays)
    assert main(["verify", str(copy)]) == 1
    (copy / "answers.npz").write_bytes(b"none")
    assert main(["verify", str(copy)]) == 2


def test_levels_that_are_none_are_refused(capsys):
    assert main(["remedy", "--tasks", TOY, "--certify", "95"]) == 2
    assert "--certify 95: expected a share between 0 and 1" in capsys.readouterr().err
