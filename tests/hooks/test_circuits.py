"""Circuits: pairs, faithfulness, comparison, records; a model is unchanged afterwards."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats
from small_models import SMALL, model_of
from strict_json import read
from transformers import AutoConfig
from transformers import AutoModelForSequenceClassification as Texts

from harness_plugin import HarnessError
from harness_plugin.analysis.inputs import AnalysisInput
from harness_plugin.cli.main import main
from harness_plugin.pipeline.roles.split_stages import scratch_processor
from harness_plugin.training.inputs.encode import EncodedText
from harness_plugin_hooks.analyses.circuits import record as circuit_record
from harness_plugin_hooks.analyses.circuits.comparison import compare, gini
from harness_plugin_hooks.analyses.circuits.compute import BatchedPairs, explore, margin
from harness_plugin_hooks.analyses.circuits.families import GRAPHS, graph_of
from harness_plugin_hooks.analyses.circuits.options import CircuitOptions
from harness_plugin_hooks.analyses.circuits.pairs import (
    ALIKE,
    UNEQUAL,
    Pairs,
    exchanged,
    find_pairs,
    fitting,
    other_first,
)
from harness_plugin_hooks.analyses.circuits.patching import (
    spoken,
)

# ---- pairs


def test_words_are_exchanged():
    assert exchanged("She is not here.") == "She is also here."
    assert exchanged("Nobody saw all of it") == "Everybody saw all of it"
    assert exchanged("They always saw it") == "They never saw it"
    assert exchanged("They saw it") is None
    first = ["a b", "c d", "e", "f g h", "i j k"]
    pairs = other_first(first, list("vwxyz"), np.random.default_rng(0))
    assert pairs == [("c d", "v"), ("a b", "w"), None, ("i j k", "y"), ("f g h", "z")]


def texts(*rows):
    offsets = np.cumsum([0, *map(len, rows)])
    return EncodedText(np.concatenate(rows).astype(np.int32), offsets, None, 0)


def test_only_pairs_that_all_models_read_as_different_and_equally_long_count():
    clean = [texts([5, 6], [7, 8, 9], [5, 6], [5, 7]), texts([5, 6], [7, 8], [5, 6], [5, 7])]
    twins = [texts([6, 5], [9, 8], [5, 6], [7, 5]), texts([6, 5], [8, 7], [6, 5], [7, 5, 5])]
    left, sample = Counter(), SimpleNamespace(encoded=clean)
    kept = fitting(sample, np.arange(4), twins, left)
    assert kept.tolist() == [0]
    assert left == {UNEQUAL: 2, ALIKE: 1}


def test_images_have_twins_of_another_colour(open_context):
    ctx = open_context("cmnist.n_train=40", "cmnist.n_test=400", task="cmnist")
    split = ctx.data.evaluation[0]
    task = SimpleNamespace(ctx=ctx)
    subject = SimpleNamespace(path=scratch_processor(ctx).path, max_length=0)
    clean = ctx.encoded(split, ctx.settings.student)
    rows = {"all": np.arange(len(split))}
    sample = AnalysisInput(task, split, [subject], [clean], rows)
    pairs = find_pairs(sample, "auto", 10, 0)
    assert (pairs.kind, len(pairs), pairs.notes) == ("counterfactual", 10, ())
    first = clean.batch(pairs.rows)["pixel_values"]
    twins = pairs.twins[0].batch(pairs.twin)["pixel_values"]
    assert (first != twins).flatten(1).any(dim=1).all()
    means = find_pairs(sample, "mean", 6, 0)
    assert (len(means), means.twins) == (6, None)
    with pytest.raises(HarnessError, match="swap"):
        find_pairs(sample, "swop", 6, 0)
    with pytest.raises(HarnessError, match="it has counterfactual, mean"):
        find_pairs(sample, "swap", 6, 0)


# ---- circuits


@pytest.fixture(scope="module")
def circuits():
    """Circuits of two BERTs and of a deeper one, in single precision, from 12 pairs."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(5, 50, length) for length in (4, 5, 5, 6, 6, 6, 6, 7, 7, 8, 8, 9)]
    clean, twins = texts(*rows), texts(*(row[::-1] for row in rows))
    group = np.array(["aligned", "conflicting"] * 6)
    every = np.arange(12)
    pairs = Pairs("swap", every, group, [clean], [twins], every, {})
    options = CircuitOptions(ig_steps=2, random_circuits=2, resamples=100)

    def circuit(model, role, twins=twins):
        subject = SimpleNamespace(model=model.float(), role=role, seed=0)
        with torch.no_grad():  # the class that the twin speaks against: every effect has one sign
            predicted = model(**clean.batch(every)).logits
            predicted = (
                predicted if twins is None else predicted - model(**twins.batch(every)).logits
            )
        gold = predicted.argmax(dim=1).numpy()
        runner = (subject, pairs, clean, twins, np.array([0, 1]), gold, options)
        return explore(*runner, device=torch.device("cpu"), quiet=True)

    size = {**SMALL["bert"], "num_hidden_layers": 3}
    deeper = AutoConfig.for_model("bert", vocab_size=50, **size)
    torch.manual_seed(0)
    return {
        "student": circuit(model_of("bert", 0.3), "student"),
        "control": circuit(model_of("bert", 0.3, seed=1), "control"),
        "teacher": circuit(Texts.from_config(deeper).eval(), "teacher"),
        "mean": circuit(model_of("bert", 0.3), "student", None),
    }


@pytest.mark.parametrize("name", ["student", "teacher", "mean"])
def test_the_curve_begins_at_0_and_ends_at_1(circuits, name):
    circuit = circuits[name]
    assert not circuit.reason
    for kept in (circuit.kept, *circuit.random_kept):
        faithful = circuit.faithfulness(kept)
        assert faithful[0, 0] == 0
        assert faithful[0, -1] == pytest.approx(1, abs=1e-12)
    for removed in (circuit.removed, *circuit.random_removed):
        assert circuit.faithfulness(removed)[0, 0] == pytest.approx(1, abs=1e-12)
        assert circuit.faithfulness(removed)[0, -1] == 0
    shares = circuit.sizes / circuit.sizes[-1]
    values = circuit.faithfulness(circuit.kept)[0]
    by_hand = sum(
        (b - a) * (u + v) / 2
        for a, b, u, v in zip(shares, shares[1:], values, values[1:], strict=False)
    )
    assert circuit.area(circuit.kept) == pytest.approx(by_hand)
    size = circuit.size_90
    assert values[list(circuit.sizes).index(size)] >= 0.9
    assert (values[: list(circuit.sizes).index(size)] < 0.9).all()


def test_faithfulness_is_undefined_where_the_corruption_changes_nothing(circuits):
    circuit = circuits["student"]
    same = type(circuit)(**{**vars_of(circuit), "empty": circuit.full})
    assert "over 12 pairs the corruption changes the metric by 0 only" in same.reason
    # a mean of .05 with deviations of .2 over 12 pairs: 2.201 * .2 * sqrt(12 / 11) / sqrt(12)
    noise = np.resize([0.25, -0.15], 12)
    noisy = type(circuit)(**{**vars_of(circuit), "empty": circuit.full - noise})
    assert "the corruption changes the metric by 0.05 ± 0.13" in noisy.reason
    assert np.isnan(noisy.area(noisy.kept))
    assert np.isnan(same.faithfulness(same.kept)).all()
    assert same.size_90 is None
    record = circuit_record.model_record(same)
    assert record["faithfulness"]["reason"] == same.reason


def test_faithfulness_and_masses_have_intervals_over_pairs(circuits):
    """By Fieller from the pairs' own variances; 12 pairs are too few for any."""
    few = circuits["student"]
    low, high = few.faithfulness_bounds(few.kept)
    assert np.isnan([*low, *high, *few.mass_bounds[0]]).all()
    assert few.no_interval == "no interval: 12 pairs, it takes 30"
    rng = np.random.default_rng(0)
    n, edges = 80, len(few.score)
    change = rng.normal(3, 1, n)
    kept = np.stack([0 * change, 0.6 * change + rng.normal(0, 1, n), change])
    scores = rng.normal(0.5, 1, (n, edges))
    counts = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=2000)])
    made = {"full": change, "empty": 0 * change, "kept": kept, "scores": scores, "counts": counts}
    for sign in (1, -1):  # a corruption may raise the metric
        flipped = {**made, "full": sign * change, "kept": sign * kept}
        many = type(few)(**{**vars_of(few), **flipped})
        low, high = many.faithfulness_bounds(many.kept)
        assert (low[0], high[0]) == (0, 0)
        assert (low[2], high[2]) == pytest.approx((1, 1))
        z2 = stats.t.ppf(0.975, n - 1) ** 2 / n
        (nn, nd), (_, dd) = np.cov(kept[1], change) * z2
        a, b = change.mean() ** 2 - dd, kept[1].mean() * change.mean() - nd
        root = np.sqrt(b**2 - a * (kept[1].mean() ** 2 - nn))
        assert (low[1], high[1]) == pytest.approx(((b - root) / a, (b + root) / a), rel=0.02)
    by_pair = np.abs(scores.mean(axis=0)) @ many.owner[:, 0]
    signs = np.sign(scores.mean(axis=0)) * many.owner[:, 0]
    half = np.sqrt(z2) * (scores @ signs).std(ddof=1)
    low, high = many.mass_bounds
    assert (low[0], high[0]) == pytest.approx((by_pair - half, by_pair + half), rel=0.05)


def vars_of(circuit):
    return {name: getattr(circuit, name) for name in circuit.__dataclass_fields__}


def test_masses_and_profiles(circuits):
    circuit = circuits["student"]
    scores = dict(zip(circuit.graph.names, circuit.score, strict=True))
    nodes = {circuit.graph.nodes[node].id: at for at, node in enumerate(circuit.speaking)}
    by_hand = sum(abs(score) for (source, _), score in scores.items() if source == "input")
    assert circuit.mass[0, nodes["input"]] == pytest.approx(by_hand)
    depths, shares = circuit.profile
    assert shares.sum() == pytest.approx(1)
    assert set(depths) == {0.5, 1.0}
    assert "output" not in nodes
    assert circuit.mass.shape == (101, len(circuit.speaking))


def test_circuits_are_compared(circuits):
    same = compare(circuits["student"], circuits["student"])
    assert (same.jaccard, same.profile_distance) == (1, 0)
    assert same.spearman == pytest.approx(1)
    assert all(match.first == match.second for match in same.matched)
    assert len(same.matched) == 4
    twins = compare(circuits["student"], circuits["control"])
    assert 0 <= twins.jaccard <= 1
    assert twins.jaccard_chance == pytest.approx((4 / 25) / (4 - 4 / 25))  # 2 of 25 edges
    other = compare(circuits["teacher"], circuits["student"])
    assert np.isnan(other.jaccard)
    assert "the graphs differ: post-LN, 37 edges, and post-LN, 25 edges" in other.reasons["jaccard"]
    assert other.profile_distance > 0
    # the student's layer 1 of 2 goes with the teacher's layer 1 or 2 of 3, layer 2 with layer 3
    assert {match.first[:5] for match in other.matched if match.second.startswith("attn2")} == {
        "attn3"
    }


def test_gini_by_hand():
    assert gini(np.array([1.0, 1.0, 1.0])) == pytest.approx(0)
    assert gini(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)
    assert gini(np.array([1.0, 3.0])) == pytest.approx(0.25)
    assert np.isnan(gini(np.zeros(3)))


def test_the_metric_by_hand():
    # entailment, neutral, contradiction: the last two are one label of the set
    targets, gold = torch.tensor([0, 1, 1]), torch.tensor([0, 1])
    logits = torch.tensor([[2.0, 0.0, 1.0], [2.0, 0.0, 1.0]])
    metric = margin(logits, targets, gold)
    assert metric(logits).tolist() == [1.0, -1.0]
    # classes stay those of the clean run
    assert metric(torch.tensor([[0.0, 9.0, 1.0], [0.0, 9.0, 1.0]])).tolist() == [-1.0, 1.0]
    left_out = margin(logits, torch.tensor([0, 1, -1]), torch.tensor([0, 1]))
    assert left_out(logits).tolist() == [2.0, -2.0]


def test_means_are_over_real_positions():
    model = model_of("bert").float()
    graph = graph_of(model)
    clean = texts([5, 6, 7], [8, 9], [10])
    every = np.arange(3)
    pairs = Pairs("mean", every, np.array(["all"] * 3), [clean], None, every, {})
    runner = BatchedPairs(
        model, graph, pairs, clean, None, torch.arange(2), every % 2, torch.device("cpu")
    )
    alone = [spoken(model, graph, clean.batch(every[i : i + 1]))[1][0][0] for i in range(3)]
    assert torch.allclose(runner.means[0], torch.cat(alone).mean(dim=0), atol=1e-6)


# ---- the command

QUICK = ["--circuits", "--pairs", "24", "--ig_steps", "2", "--resamples", "100"]


def test_a_finished_run_has_circuits(run_folder, capsys):
    assert main(["analyze", str(run_folder), *QUICK]) == 0
    output = capsys.readouterr().out
    assert "circuits, 24 pairs of kind premise" in output
    assert "corruption 'swap' was not used: 0 pairs" in output
    (file,) = run_folder.glob("analysis_toy_*.json")
    record = read(file)["circuits"]
    assert [model["role"] for model in record["models"]] == ["teacher", "student", "control"]
    for model in record["models"]:
        curve = model["faithfulness"]
        size = len(curve["sizes"])
        assert [len(curve[name]) for name in ("values", "low", "random", "removed")] == [size] * 4
        assert curve["sizes"][-1] == model["n_edges"]
        assert model["metric_full"] != model["metric_empty"]
        assert sum(part["mass"] for part in model["profile"]) == pytest.approx(1)
        assert {group["pairs"] for group in model["by_group"].values()} == {12}
        strengths = [abs(edge["score"]) for edge in model["edges"]]
        assert strengths == sorted(strengths, reverse=True)
        names = {node["id"] for node in model["nodes"]}
        assert {edge["from"] for edge in model["edges"]} <= names
    pairs = {(one["first"], one["second"]): one for one in record["comparisons"]}
    assert pairs["teacher", "student"]["jaccard"] is None
    assert "the graphs differ" in pairs["teacher", "student"]["reason"]
    assert pairs["student", "control"]["jaccard"] is not None
    (table,) = run_folder.glob("analysis_toy_*_circuits.parquet")
    rows = pq.read_table(table).to_pylist()
    assert len(rows) == sum(model["n_edges"] for model in record["models"])


def test_wrong_words_and_models_without_a_graph(run_folder, capsys, monkeypatch):
    for words, answers in (
        (["--corruption", "negation"], "pairs of kind 'negation' in group"),
        (["--corruption", "counterfactual"], "it has swap, negation, premise, mean"),
        (["--ig_steps", "-1"], "--ig_steps -1: expected at least 0"),
    ):
        assert main(["analyze", str(run_folder), *QUICK, *words]) == 2
        assert answers in capsys.readouterr().err
    monkeypatch.delitem(GRAPHS, "bert")
    assert main(["analyze", str(run_folder), *QUICK]) == 0
    assert "teacher seed 0 is left out: no circuits of Bert" in capsys.readouterr().out
