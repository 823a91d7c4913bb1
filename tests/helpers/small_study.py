"""A plan of two students on the toy task, in small."""

from pathlib import Path

import yaml

TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")
HELPERS = str(Path(__file__).parent)
PLAN = {
    "study": "small",
    "summary": "does it run",
    "tasks": [TOY],
    "seeds": [0, 1],
    "run": {"threads": 1, "precision": "no", "attention": "sdpa", "device": "cpu"},
    "settings": {
        "references": False,
        "teacher": {"epochs": 2, "learning_rate": 5e-3},
        "student": {"epochs": 1, "learning_rate": 5e-3},
    },
    "factors": {
        "distilled": {
            "pure": {"students": {"student": {"ce_weight": 0, "kd_weight": 1}}},
            "half": {"students": {"student": {"ce_weight": 0.5, "kd_weight": 0.5}}},
        }
    },
}


def write(folder, **changes):
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(PLAN | changes, sort_keys=False))
    return file
