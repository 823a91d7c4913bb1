"""FEVER and FEVER-Symmetric: the cue, and generated claims."""

import numpy as np
import pytest
from cues import best_from_claims
from releases import pairs_of, purposes

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin_hooks.methods.bias.bias_models import floored, regression
from harness_plugin_tasks.fever_symmetric import claims
from harness_plugin_tasks.fever_symmetric import embedded as generated

TASK = read_task(resource_path("harness_plugin_tasks.fever_symmetric:fever_symmetric.yaml"))
SMALL = {"n_train": 600, "n_validation": 120, "n_id": 240, "n_symmetric": 80, "bias_rate": 0.9}
SUPPORTS, REFUTES, NEITHER = claims.LABELS


@pytest.fixture(scope="module")
def embedded():
    return load_data(TASK, "embedded", options=SMALL)


# ---- the cue


@pytest.mark.parametrize(
    ("claim", "cue"),
    [
        ("Ana did not sing.", "refuting_phrase"),
        ("Ana DID NOT sing.", "refuting_phrase"),
        ("Ana failed to win , they say .", "refuting_phrase"),
        ("Ana was only ever a singer.", "refuting_phrase"),
        ("Ana tied a knot.", "plain_claim"),
        ("Ana failed, to win", "refuting_phrase"),
        ("Commonly sung.", "plain_claim"),
        ("", "plain_claim"),
    ],
)
def test_give_away_phrases_are_whole_words(claim, cue):
    assert claims.give_away("did not matter", claim) == cue
    assert claims.CLAIM_CUE.points_to(cue, REFUTES) == (cue == "refuting_phrase")
    assert claims.CLAIM_CUE.points_to(cue, NEITHER) == (cue == "plain_claim")


def test_claim_features_by_hand():
    pairs = [
        generated.Pair("ada moss", (0, 0), (0, 0), "we did not doubt that", ""),
        generated.Pair("ada moss", (0, 0), (0, 1), "we know that", "and did not rest"),
    ]
    split = claims.claim_split("x", "train", generated.table("x", pairs), claims.LABELS)
    features = claims.claim_features(split)
    assert features.shape == (2, 13)
    result = [claims.PHRASES[i] for i in np.flatnonzero(features[0, :-1])]
    assert result == ["did not", "not"]
    # we did not doubt that ada moss was a painter
    assert features[0, -1] == 10
    assert not features[1, :-1].any()


# ---- generated claims


def verdict(evidence, claim):
    """The label of a generated pair by its words, as a reader would find it."""
    kinds = {value: kind for kind, values in enumerate(generated.KINDS) for value in values}
    (first,) = [value for value in kinds if value in evidence]
    (second,) = [value for value in kinds if value in claim]
    if kinds[first] != kinds[second]:
        return NEITHER
    return SUPPORTS if first == second else REFUTES


def test_pairs_mean_their_label_and_show_their_cue(embedded):
    for split in embedded.splits.values():
        for row in split.rows:
            label = split.labels[row["label"]]
            assert label == verdict(row["premise"], row["hypothesis"])
            phrase = row["hypothesis"].startswith(generated.GIVE_AWAY)
            assert phrase != row["hypothesis"].startswith(generated.PLAIN)
            assert row["attribute"] == ("refuting_phrase" if phrase else "plain_claim")
            assert row["aligned"] == int(phrase == (label == REFUTES))


def test_phrases_agree_as_often_as_asked(embedded):
    assert purposes(embedded) == {
        "train": "train",
        "validation": "validation",
        "id": "in_domain",
        "symmetric": "ood",
    }
    held = embedded.splits["id"]
    assert np.bincount(held.label).tolist() == [80, 80, 80]
    # of 80 refuted and 160 other claims, 8 and 16 disagree
    counts = dict(zip(held.groups, held.group_counts.tolist(), strict=True))
    assert counts[f"{REFUTES}/plain_claim"] == 8
    assert counts[f"{SUPPORTS}/refuting_phrase"] + counts[f"{NEITHER}/refuting_phrase"] == 16
    features = claims.claim_features(embedded.train)
    log_probs = floored(regression(features, embedded.train.label, 3, seed=0, folds=5))
    assert 0.55 < (log_probs.argmax(axis=1) == embedded.train.label).mean() < 0.67


def test_claims_say_nothing_in_the_symmetric_test(embedded):
    test = embedded.splits["symmetric"]
    assert test.labels == (SUPPORTS, REFUTES)
    assert test.group_counts.tolist() == [20] * 4
    assert test.aligned.mean() == 0.5
    assert best_from_claims(test) == 0.5
    assert (test.collapse, test.collapse_rule) == (None, "restrict")
    seen = {
        *pairs_of(embedded.train),
        *pairs_of(embedded.splits["validation"]),
    }
    assert not seen & {
        *pairs_of(test),
        *pairs_of(embedded.splits["id"]),
    }


def test_two_labels(embedded):
    data = load_data(TASK, "embedded", options={**SMALL, "two_way": True})
    assert data.train.labels == data.splits["id"].labels == (SUPPORTS, REFUTES)
    assert np.bincount(data.splits["id"].label).tolist() == [120, 120]
    assert data.splits["symmetric"].fingerprint == embedded.splits["symmetric"].fingerprint
