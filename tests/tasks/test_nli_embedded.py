"""The generated NLI pairs: their truth, the planted cue, equal groups, determinism."""

from collections import Counter

import numpy as np
import pytest

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin_tasks._shared.text import grammar
from harness_plugin_tasks._shared.text.cues import NLI_LABELS, negation, words
from harness_plugin_tasks.nli_stress import categories, embedded

NAMES = ("anli", "mnli_hard", "mnli_negation", "nli_stress", "snli_hard")
TASKS = {
    name: read_task(resource_path(f"harness_plugin_tasks.{name}:{name}.yaml")) for name in NAMES
}
SMALL = {"n_train": 600, "n_validation": 150, "n_id": 300, "n_balanced": 120}
E, N, C = NLI_LABELS
TRUTH = {
    ("rightly", "said"): E,
    ("wrongly", "said"): C,
    ("quietly", "said"): N,
    ("rightly", "denied"): C,
    ("wrongly", "denied"): E,
    ("quietly", "denied"): N,
}
"""What follows about the clause, written down by hand for one word of each kind."""


@pytest.fixture(scope="module", params=NAMES)
def data(request):
    return load_data(TASKS[request.param], "embedded", options=SMALL)


def kind(word, kinds):
    return next(name for name, members in kinds.items() if word in members)


def test_the_premise_and_the_relation_agree(data):
    adverbs = {"rightly": grammar.RIGHTLY, "wrongly": grammar.WRONGLY, "quietly": grammar.SOMEHOW}
    verbs = {"said": grammar.STATED, "denied": grammar.DENIED}
    openers = {
        o
        for p in (grammar.NEGATION_OPENERS, grammar.GIVEAWAYS, embedded.OPENERS)
        for own in p.openers.values()
        for o in own
    }
    split = data.splits["id"]
    for premise, hypothesis, label in zip(
        split.rows["premise"], split.rows["hypothesis"], split.label, strict=True
    ):
        report, clause = premise.split(" that ", 1)
        _, _, adverb, verb = report.split(" ", 3)
        assert TRUTH[kind(adverb, adverbs), kind(verb, verbs)] == split.labels[label]
        assert hypothesis.endswith(clause)
        assert hypothesis.removesuffix(clause).strip() in openers


def test_the_cue_holds_at_its_rate_and_balanced_groups_are_equal(data):
    train, balanced = data.train, data.splits["balanced"]
    assert len(train.groups) == 6
    assert train.aligned.mean() == pytest.approx(0.95, abs=0.01)
    # 300 pairs: 100 of each label, 5 of them with an opener that points elsewhere
    assert sorted(data.splits["id"].group_counts.tolist()) == [5, 5, 5, 95, 95, 95]
    assert balanced.group_counts.tolist() == [20] * 6
    assert data.splits["validation"].purpose == "validation"
    assert data.splits["validation"].groups == train.groups
    assert set(zip(*(train.rows[c] for c in ("premise", "hypothesis")), strict=True)).isdisjoint(
        zip(*(balanced.rows[c] for c in ("premise", "hypothesis")), strict=True)
    )


def test_negation_is_read_off_the_sentence():
    data = load_data(TASKS["mnli_negation"], "embedded", options=SMALL)
    for hypothesis, attribute in zip(
        data.train.rows["hypothesis"], data.train.rows["attribute"], strict=True
    ):
        assert negation("", hypothesis) == attribute
        assert (hypothesis.startswith(grammar.NEGATED)) == (attribute == "negation")


def test_rounds_point_the_wrong_way_more_and_more():
    data = load_data(TASKS["anli"], "embedded", options=SMALL | {"n_round": 300})
    shares = [data.splits[f"test_r{i}"].aligned.mean() for i in (1, 2, 3)]
    assert shares == [0.5, 0.25, 0.1]
    assert set(data.splits["test_r2"].column("round")) == {"r2"}
    assert set(data.train.column("round")) == {""}


def test_distortions_change_what_they_say_and_no_label():
    data = load_data(TASKS["nli_stress"], "embedded", options=SMALL | {"n_stress": 120})
    stress = data.splits["stress"]
    assert stress.group_counts.tolist() == [10] * 12
    rows = {}
    for row in stress.rows:
        name, _, of = row["id"].partition(":")
        rows.setdefault(of, {})[name] = row
    assert len(rows) == 30
    for one in rows.values():
        plain = one["negation"]["hypothesis"].removesuffix(" and false is not true")
        assert one["word_overlap"]["hypothesis"] == plain + " and true is true"
        premise = one["negation"]["premise"]
        assert one["length_mismatch"]["premise"] == premise + " and true is true" * 5
        assert one["length_mismatch"]["hypothesis"] == plain
        typo = one["spelling_swap"]["hypothesis"]
        assert Counter(typo) == Counter(plain)
        assert sum(a != b for a, b in zip(typo, plain, strict=True)) in (0, 2)
        assert len({row["label"] for row in one.values()}) == 1
        assert categories.stressed("", plain) == "no_negation"
    negated = stress.column("stress") == "negation"
    np.testing.assert_array_equal(stress.aligned[negated], stress.label[negated] == 2)
    assert set(stress.aligned[~negated].tolist()) == {-1}


def test_words_of_the_grammar_are_used_once():
    lists = (grammar.RIGHTLY, grammar.WRONGLY, grammar.SOMEHOW, grammar.STATED, grammar.DENIED)
    answers = [word for each in lists for word in each]
    cues = [
        w for own in grammar.GIVEAWAYS.openers.values() for opener in own for w in words(opener)
    ]
    assert len(set(answers)) == len(answers)
    assert not {*cues} & {*answers}
