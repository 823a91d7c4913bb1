"""Clusters: from a column or a task's loader to the predictions, and through every file."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from harness_plugin.data.dataset import (
    DataRequest,
    load_data,
    make_split,
    resolve_options,
    stratified_rows,
)
from harness_plugin.data.split import half
from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError
from harness_plugin.pipeline.roles.augment import additional
from harness_plugin.pipeline.score_predictions import one_clustering
from harness_plugin.records import predictions_of
from harness_plugin.scoring.files.columns import as_predictions as from_columns
from harness_plugin.scoring.files.prediction_files import read_answers
from harness_plugin.scoring.pairing import check_same_rows, join

TEXTS = ("t2", "", "t1", "t2", "", "t10")
CODES = [2, -1, 0, 2, -1, 1]
"""Names sort as text: t1, t10, t2."""


def split(clusters=TEXTS, order=range(6)):
    return make_split(
        "test",
        purpose="ood",
        inputs={"text": [f"text {i}" for i in order]},
        ids=[str(i) for i in order],
        label_texts=[("no", "yes")[i % 2] for i in order],
        labels=("no", "yes"),
        clusters=None if clusters is None else [clusters[i] for i in order],
    )


def predictions(made, **more):
    fields = {"task": "t", "role": "student", "model": "m", "seed": 0, "model_labels": made.labels}
    return predictions_of(made, np.zeros((len(made), 2), np.float32), **(fields | more))


def test_a_split_knows_its_clusters_and_who_stands_alone():
    codes, names = split().clusters
    assert codes.tolist() == CODES
    assert names == ("t1", "t10", "t2")
    assert split(clusters=None).clusters is None
    # what is left of a cluster is still one, and the names are those that are left
    codes, names = split().select([1, 3, 0]).clusters
    assert (codes.tolist(), names) == ([-1, 0, 0], ("t2",))


def clustered(sizes, alone=0, groups=4):
    """Clusters of `sizes` rows, cluster i in group i % groups, and rows that stand alone."""
    clusters = [f"c{i}" for i, size in enumerate(sizes) for _ in range(size)] + [""] * alone
    group = [i % groups for i, size in enumerate(sizes) for _ in range(size)]
    group += [i % groups for i in range(alone)]
    return make_split(
        "validation",
        purpose="validation",
        inputs={"text": [f"text {i}" for i in range(len(group))]},
        ids=[f"{i:05d}" for i in range(len(group))],
        label_texts=[("no", "yes")[g % 2] for g in group],
        labels=("no", "yes"),
        attributes=[("a", "b")[g // 2] for g in group],
        group_texts=[f"g{g}" for g in group],
        groups=tuple(f"g{g}" for g in range(groups)),
        clusters=clusters,
    )


@pytest.mark.parametrize("seed", range(5))
def test_half_of_the_rows_has_half_of_each_group_and_whole_clusters(seed):
    rng = np.random.default_rng(seed)
    whole = clustered(rng.integers(1, 12, 120).tolist(), alone=200)
    chosen = half(whole, seed)
    assert (np.diff(chosen) > 0).all()
    rest = np.setdiff1d(np.arange(len(whole)), chosen)
    one, other = whole.select(chosen), whole.select(rest)
    sides = [{name for name in s.rows["cluster"] if name} for s in (one, other)]
    assert not sides[0] & sides[1]
    assert np.abs(one.group_counts - other.group_counts).max() <= 1
    assert not np.array_equal(chosen, half(whole, seed + 1))


def test_half_of_rows_that_stand_alone_is_the_stratified_one():
    whole = split(clusters=None)
    assert half(whole, 3).tolist() == stratified_rows(whole, 3, 3).tolist()
    # one cluster cannot be cut: it is on one side, all others on the other
    large = clustered([50, 4, 4, 4, 4, 4], groups=1)
    assert len(half(large, 0)) == 50


def test_clusters_are_data():
    assert split().fingerprint != split(clusters=None).fingerprint
    assert split().fingerprint != split(clusters=("t2", "", "t1", "t1", "", "t10")).fingerprint


def test_units_are_clusters_then_single_rows():
    assert predictions(split()).units.tolist() == [2, 3, 0, 2, 4, 1]
    assert predictions(split(clusters=None)).units is None
    assert predictions(split(clusters=["x"] * 6)).units.tolist() == [0] * 6
    assert predictions(split(clusters=[""] * 6)).units.tolist() == [0, 1, 2, 3, 4, 5]


def test_units_of_some_rows_count_from_0():
    p = replace(predictions(split()), cluster=np.array([5, 5, -1, 9, -1, 5]))
    assert p.units.tolist() == [0, 0, 2, 1, 3, 0]


def test_rows_in_another_order_are_the_same_rows_and_another_clustering_is_not():
    ordered, turned = predictions(split()), predictions(split(order=[3, 0, 5, 4, 1, 2]))
    joined = join({"student": (ordered,), "teacher": (turned,)})
    for (p,) in joined.values():
        assert p.cluster.tolist() == CODES
    other = predictions(split(clusters=("t2", "", "t1", "t1", "", "t10")), role="teacher")
    with pytest.raises(HarnessError, match="the same ids but other labels, groups, bias types or"):
        check_same_rows(other, ordered)
    with pytest.raises(HarnessError, match="clusters; they come from other data"):
        check_same_rows(predictions(split(clusters=None)), ordered)


def test_added_training_rows_stand_alone():
    made = replace(split(), purpose="train")
    more = additional(made, "more", inputs={"text": ["x"]}, ids=["n"], label=np.array([1]))
    assert more.clusters[0].tolist() == [-1]


# ---- columns and files of predictions


def test_columns_of_a_notebook_may_name_clusters():
    p = from_columns([0, 1, 1], [0, 1, 0], clusters=["b", "a", ""])
    assert (p.cluster.tolist(), p.clusters) == ([1, 0, -1], ("a", "b"))
    with pytest.raises(HarnessError, match="clusters: "):
        from_columns([0, 1, 1], [0, 1, 0], clusters=["b"])


def answers(folder, name, header, rows):
    file = folder / name
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def test_a_file_of_predictions_names_clusters_where_the_task_does_not(tmp_path):
    rows = [f"{i},no,{TEXTS[i]}" for i in (4, 2, 0, 1, 3, 5)]
    file = answers(tmp_path, "a.csv", "id,prediction,cluster", rows)
    whose = {"task": "t", "role": "student", "model": "m", "seed": 0}
    bare = split(clusters=None)
    p = read_answers(file, [bare]).joined(bare, **whose)
    assert (p.cluster.tolist(), p.clusters) == (CODES, ("t1", "t10", "t2"))
    known = split(clusters=["k"] * 6)
    p = read_answers(file, [known]).joined(known, **whose)  # the task's own count
    assert p.clusters == ("k",)


def test_one_file_that_names_clusters_is_enough_for_all_roles():
    named, bare = predictions(split()), predictions(split(clusters=None), role="teacher")
    for result in one_clustering([bare, named]):
        assert result.cluster.tolist() == CODES
    assert one_clustering([bare])[0].cluster is None


# ---- where they come from


def load(plugins, name, source="embedded", path=None, **options):
    task = find_task(name, plugins["task"])
    request = DataRequest(task, source, path, resolve_options(task, options))
    return task.load_attribute(task.sources[source])(request)


def test_a_column_of_a_table(plugins, tmp_path):
    rows = [
        f"text {i},{'yn'[i % 2]},{'ab'[i // 2 % 2]},{split},{'' if i == 3 else f'doc{i % 4}'}"
        for split in ("train", "test")
        for i in range(8)
    ]
    (tmp_path / "table.csv").write_text("\n".join(["text,label,attribute,split,doc", *rows]))
    file = tmp_path / "mine.yaml"
    file.write_text("task: mine\nbase: csv_groups\ntable: table.csv\ncluster: doc\n")
    data = load_data(find_task(str(file), plugins["task"]), "own")
    codes, names = data.splits["test"].clusters
    assert codes.tolist() == [0, 1, 2, -1, 0, 1, 2, 3]
    assert names == ("doc0", "doc1", "doc2", "doc3")


def test_generated_quadruples_share_two_claims_and_two_pieces_of_evidence(plugins):
    made = load(plugins, "fever_symmetric", n_train=300, n_validation=60, n_id=60, n_symmetric=80)
    test = made.splits["symmetric"]
    codes, names = test.clusters
    assert len(names) == 20
    assert set(Counter(codes.tolist()).values()) == {4}
    words = defaultdict(lambda: (set(), set()))
    for code, claim, evidence in zip(
        codes.tolist(), test.rows["hypothesis"], test.rows["premise"], strict=True
    ):
        words[code][0].add(claim)
        words[code][1].add(evidence)
    assert {(len(c), len(e)) for c, e in words.values()} == {(2, 2)}
    assert made.splits["id"].clusters is None


def test_revisions_of_one_generated_pair_are_a_cluster(plugins):
    made = load(plugins, "cad_nli", n_train=300, n_validation=60, n_test=60)
    for name, size, shared in (
        ("revised_premise", 2, "hypothesis"),
        ("revised_hypothesis", 2, "premise"),
    ):
        test = made.splits[name]
        texts = defaultdict(set)
        for code, text in zip(test.clusters[0].tolist(), test.rows[shared], strict=True):
            texts[code].add(text)
        assert set(Counter(test.clusters[0].tolist()).values()) == {size}
        assert {len(result) for result in texts.values()} == {1}
    both = made.splits["revised_combined"]
    assert set(Counter(both.clusters[0].tolist()).values()) == {4}
    assert made.splits["id"].clusters is None


@pytest.mark.parametrize(
    ("by", "names"), [("auto", None), ("none", None), ("subcase", 15), ("template", 17)]
)
def test_generated_hans_has_clusters_where_they_are_asked_for(plugins, by, names):
    sizes = {"n_train": 600, "n_validation": 100, "n_id": 200, "n_hans": 1200}
    test = load(plugins, "hans", cluster=by, **sizes).splits["hans"]
    assert (test.clusters and len(test.clusters[1])) == names


HANS = ["gold_label", "sentence1", "sentence2", "pairID", "heuristic", "subcase", "template"]


@pytest.mark.parametrize(
    ("by", "template", "expected"),
    [
        ("auto", True, {"s0/temp0", "s0/temp1", "s1/temp0", "s1/temp1"}),
        ("template", False, {"s0", "s1"}),
        ("subcase", True, {"s0", "s1"}),
        ("none", True, None),
    ],
)
def test_released_hans_is_clustered_by_template(plugins, tmp_path, by, template, expected):
    rows = [
        (
            label,
            "the cook saw us .",
            "the cook saw us .",
            f"ex{i}",
            heuristic,
            f"s{i % 2}",
            f"temp{i // 2 % 2}",
        )
        for i, (label, heuristic) in enumerate(
            (label, heuristic)
            for heuristic in ("lexical_overlap", "subsequence", "constituent")
            for label in ("entailment", "non-entailment")
            for _ in range(4)
        )
    ]
    keep = len(HANS) - (not template)
    lines = ["\t".join(row[:keep]) for row in (HANS, *rows)]
    (tmp_path / "heuristics_evaluation_set.txt").write_text("\n".join(lines) + "\n")
    nli = [
        "gold_label\tsentence1\tsentence2\tpairID",
        *(
            f"{label}\tthe cook {i} ran\tthe cook {i} ran\tp{i}"
            for i, label in enumerate(("entailment", "neutral", "contradiction") * 2)
        ),
    ]
    for name in ("train", "dev_matched"):
        (tmp_path / f"multinli_1.0_{name}.txt").write_text("\n".join(nli) + "\n")
    test = load(plugins, "hans", "path", tmp_path, cluster=by).splits["hans"]
    assert (test.clusters and set(test.clusters[1])) == expected


# ---- the adapters


def test_lm_eval_items_and_documents_carry_clusters():
    metrics = pytest.importorskip("harness_plugin_hooks.adapters.lm_eval_metrics")
    from harness_plugin_hooks.adapters.lm_eval_rows import documents

    facts = metrics.Facts(("no", "yes"), ())
    items = [(0, 0, [], -1, "b"), (1, 1, [], -1, "a"), (0, 1, [], -1, "b")]
    p = metrics.as_predictions(items, facts)
    assert (p.cluster.tolist(), p.clusters) == ([1, 0, 1], ("a", "b"))
    assert metrics.as_predictions([item[:4] for item in items], facts).cluster is None
    rows = documents(split(), ["text"], seed=0)
    assert {row["id"]: row["cluster"] for row in rows} == dict(
        zip(map(str, range(6)), TEXTS, strict=True)
    )
    assert "cluster" not in documents(split(clusters=None), ["text"], seed=0).column_names


def test_inspect_samples_carry_clusters():
    pytest.importorskip("inspect_ai")
    from harness_plugin_hooks.adapters import inspect_scoring, inspect_tasks

    named = [sample.metadata["cluster"] for sample in inspect_tasks.samples(split(), ("text",))]
    assert tuple(named) == TEXTS
    bare = next(inspect_tasks.samples(split(clusters=None), ("text",)))
    assert "cluster" not in bare.metadata
    known = {
        "labels": ["no", "yes"],
        "groups": [],
        "overlapping": False,
        "collapse": None,
        "collapse_rule": "argmax",
        "train_groups": {},
    }
    rows = [inspect_scoring.Row({"no": 0.0}, "no", cluster=name) for name in ("b", "", "a", "b")]
    p = inspect_scoring.predictions("test", known, rows)
    assert p.cluster.tolist() == [1, -1, 0, 1]
    rows = [inspect_scoring.Row({"no": 0.0}, "no")]
    assert inspect_scoring.predictions("test", known, rows).cluster is None
