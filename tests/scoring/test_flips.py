"""Item flips: counts by hand, the yardstick of seeds, margins, sentences."""

import numpy as np
import pytest

from harness_plugin.scoring.flips import flips_between, mode, sentence, tenth_by_margin
from tests.helpers.planted import planted, scored


def pair(*rights, role):
    return tuple(planted(right, role=role, seed=seed) for seed, right in enumerate(rights))


def table(teacher, student):
    return {"teacher": pair(*teacher, role="teacher"), "student": pair(*student, role="student")}


def test_flips_by_hand():
    """Of 100 rows a group: 30 are lost in one, 10 repaired in another, in both seeds."""
    result = {
        f.subset: f
        for f in flips_between(
            "balanced",
            table([(90, 80, 70, 90)] * 2, [(90, 50, 80, 90)] * 2),
            "student",
            "teacher",
        )
    }
    whole = result[""]
    assert (whole.n, whole.changed, whole.lost, whole.repaired) == (400, 0.1, 0.075, 0.025)
    assert (whole.other_wrong, whole.modal, whole.expected) == (0, 0.1, None)  # seeds are alike
    against = result["group=a-against"]
    assert (against.n, against.lost, against.repaired) == (100, 0.3, 0)
    assert against.p == pytest.approx(min(1, 8 * 2 * 0.5**30))  # Holm: 4 groups x 2 seeds
    assert result["light=day"].n == 200
    assert sum(f.changed * f.n for name, f in result.items() if name.startswith("margin=")) == 40
    assert sentence(list(result.values())) == (
        "student on balanced: 10.0% of answers differ from teacher's; 7.5% right to wrong, 2.5% "
        "wrong to right; 100% of the lost ones in a-against, which has 25% of the rows."
    )


def test_the_yardstick_is_what_two_seeds_of_one_role_change():
    result = flips_between(
        "balanced",
        table([(90, 80, 80, 90), (90, 70, 80, 90)], [(90, 80, 80, 90), (90, 80, 60, 90)]),
        "student",
        "teacher",
    )
    # teachers differ on 10 rows, students on 20, of 400
    assert result[0].expected == pytest.approx((10 + 20) / 2 / 400)
    assert result[0].changed == pytest.approx((0 + 10 + 20) / 2 / 400)


def test_modes_and_margins():
    assert mode(np.array([[0, 1, 2], [1, 1, 2], [1, 0, 0]])).tolist() == [1, 1, 2]
    p = planted((90, 80, 80, 90))
    unsure = np.arange(400)[:, None] / 400 * p.logits  # the first rows have the smallest margins
    from dataclasses import replace

    tenths = tenth_by_margin(replace(p, logits=unsure.astype(np.float32)))
    assert tenths.tolist() == (np.arange(400) // 40).tolist()


def test_scores_have_the_flips_of_every_student_against_teacher_and_control():
    roles = {"teacher": (90, 80, 80, 90), "control": (95, 60, 60, 95), "student": (90, 60, 80, 90)}
    predictions = [
        planted(right, role=role, seed=seed, split=split)
        for role, right in roles.items()
        for seed in (0, 1)
        for split in ("balanced", "in_domain")
    ]
    flips = scored(predictions).flips
    assert {(f.split, f.other) for f in flips if not f.subset} == {
        (split, other) for split in ("balanced", "in_domain") for other in ("teacher", "control")
    }
