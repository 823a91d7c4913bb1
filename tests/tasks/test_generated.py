"""What holds of the generated data of every task: they follow from seed, sizes and options."""

import pytest

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import load_plugins

PAIRS = {"n_train": 600, "n_validation": 150, "n_id": 300, "n_balanced": 120}
EDITED = {"n_train": 400, "n_validation": 80, "n_test": 120, "bias_rate": 0.9}
TEXTS = {"n_train": 600, "n_validation": 120, "n_id": 240}
SMALL = {
    "anli": PAIRS,
    "cad_imdb": EDITED,
    "cad_nli": EDITED,
    "celeba_bias": {"n_train": 40, "n_validation": 24, "n_test": 24},
    "civilcomments": {**TEXTS, "n_train": 800, "n_balanced": 320, "bias_rate": 0.9},
    "cmnist": {"n_train": 400, "n_validation": 40, "n_test": 100},
    "corrupted_cifar10": {"n_train": 200, "n_validation": 50, "n_test": 100},
    "dominoes": {"n_train": 200, "n_validation": 40, "n_test": 80},
    "fairface_bias": {"n_train": 200, "n_validation": 40, "n_id": 40, "n_balanced": 40},
    "fever_symmetric": {**TEXTS, "n_symmetric": 80, "bias_rate": 0.9},
    "hans": {"n_train": 500, "n_id": 500, "n_hans": 60},
    "mnli_hard": PAIRS,
    "mnli_negation": PAIRS,
    "nli_stress": PAIRS,
    "pacs_bias": {"n_train": 400, "n_validation": 40, "n_id": 40, "n_balanced": 40},
    "qqp_paws": {**TEXTS, "n_paws": 100},
    "snli_hard": PAIRS,
    "toxicity_identity": TEXTS,
    "waterbirds": {"n_train": 200, "n_validation": 40, "n_id": 60, "n_balanced": 40},
}
"""Sizes that take no time, by task."""


def generated(name, seed=0, **options):
    """A task's generated data, small but for `options`."""
    task = read_task(resource_path(f"harness_plugin_tasks.{name}:{name}.yaml"))
    return load_data(task, "embedded", options={**SMALL[name], **options}, seed=seed)


def fingerprints(data, *without):
    return {name: split.fingerprint for name, split in data.splits.items() if name not in without}


def test_every_task_with_generated_data_is_listed():
    offers = load_plugins()["task"]
    tasks = [read_task(resource_path(offer.target), offers) for offer in offers]
    assert {task.task for task in tasks if "embedded" in task.sources} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_gives_the_same_rows(name):
    assert generated(name).fingerprint == generated(name).fingerprint


ONE_POOL = {"corrupted_cifar10", "dominoes", "fairface_bias", "pacs_bias"}
"""All splits are dealt from one pool of pictures."""


@pytest.mark.parametrize("name", sorted({*SMALL} - ONE_POOL))
def test_the_size_of_a_split_changes_no_other(name):
    first = generated(name)
    longer = generated(name, n_train=SMALL[name]["n_train"] + 60)
    chosen_by_it = ("train", "validation") if name == "hans" else ("train",)  # no pair of train
    assert fingerprints(longer, *chosen_by_it) == fingerprints(first, *chosen_by_it)
    more = generated(name, n_validation=SMALL[name].get("n_validation", 600) + 60)
    assert fingerprints(more, "validation") == fingerprints(first, "validation")


@pytest.mark.parametrize("name", SMALL)
def test_another_seed_gives_other_rows_in_every_split(name):
    first, other = fingerprints(generated(name)), fingerprints(generated(name, seed=1))
    assert [split for split in first if first[split] == other[split]] == []


COUNT = "must be a whole number of at least"
RATE = "must be between 0 and 1"


@pytest.mark.parametrize(
    ("task", "option", "value", "message"),
    [
        ("anli", "bias_rate", 1, f"anli.bias_rate {RATE}, found 1"),
        ("anli", "n_round", 10, "anli.n_round must be at least 30"),
        ("celeba_bias", "image_size", 0, "celeba_bias.image_size must be a whole number"),
        ("celeba_bias", "n_test", "many", "celeba_bias.n_test: expected a whole number, found"),
        ("celeba_bias", "n_train", 3, "celeba_bias.n_train must be a whole number"),
        ("civilcomments", "train_groups", "blak", "value of civilcomments.train_groups 'blak'"),
        ("cmnist", "conflict", 0, f"cmnist.conflict {RATE}, found 0"),
        ("cmnist", "n_train", 5, f"cmnist.n_train {COUNT} 20, found 5"),
        ("corrupted_cifar10", "conflict", 1.5, f"conflict {RATE}"),
        ("corrupted_cifar10", "n_train", 5, f"n_train {COUNT} 20"),
        ("corrupted_cifar10", "severity", 6, "severity must be 1 to 5, found 6"),
        ("dominoes", "fraction", 1.0, f"dominoes.fraction {RATE}"),
        ("dominoes", "n_test", 4, f"dominoes.n_test {COUNT} 8"),
        ("fever_symmetric", "bias_rate", 0, f"fever_symmetric.bias_rate {RATE}, found 0"),
        ("fever_symmetric", "n_symmetric", 7, f"fever_symmetric.n_symmetric {COUNT} 8"),
        ("fever_symmetric", "two_way", "yes", "fever_symmetric.two_way: expected true or false"),
        ("hans", "bias_rate", "high", "hans.bias_rate: expected a number, found 'high'"),
        ("hans", "bias_rate", 1, f"hans.bias_rate {RATE}, found 1"),
        ("hans", "collapse", "mean", "unknown value of hans.collapse 'mean'"),
        ("hans", "n_hans", 5, "hans.n_hans must be at least 6, one pair a group"),
        ("hans", "n_id", "many", "hans.n_id: expected a whole number, found 'many'"),
        ("hans", "n_id", 20, "20 pairs at hans.bias_rate=0.97 leave a cell of label x overlap"),
        ("hans", "n_train", 0, f"hans.n_train {COUNT} 1, found 0"),
        ("mnli_hard", "n_balanced", 5, "mnli_hard.n_balanced=5 leaves a group without"),
        ("mnli_hard", "n_id", 20, "mnli_hard.n_id=20 leaves a group without a pair"),
        ("mnli_hard", "n_train", 0, f"mnli_hard.n_train {COUNT} 1, found 0"),
        ("nli_stress", "n_stress", 11, "nli_stress.n_stress must be at least 12"),
        ("qqp_paws", "n_paws", 1, f"qqp_paws.n_paws {COUNT} 2"),
        *(
            (task, option, value, f"{task}.{option}{message}")
            for task in ("cad_imdb", "cad_nli")
            for option, value, message in (
                ("bias_rate", 1, f" {RATE}, found 1"),
                ("n_test", "many", ": expected a whole number, found 'many'"),
                ("n_test", True, ": expected a whole number, found True"),
                ("n_train", 0, f" {COUNT} 1, found 0"),
                ("n_validation", 6, ": … leave a cell of label x cue empty"),
                ("train", "revised", " 'revised'"),
            )
        ),
    ],
)
def test_an_option_that_cannot_work_is_named(task, option, value, message):
    with pytest.raises(HarnessError) as error:
        generated(task, **{option: value})
    assert all(part in str(error.value) for part in message.split(" … "))
