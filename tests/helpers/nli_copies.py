"""Small copies of MultiNLI and SNLI with negation as the cue: as released, of GLUE, of the hub."""

from releases import hub_rows, write_json, write_parquet, write_tab

from harness_plugin.data.dataset import load_data
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin_tasks._shared.text.cues import NLI_LABELS

NAMES = ("anli", "mnli_hard", "mnli_negation", "nli_stress", "snli_hard")
TASKS = {
    name: read_task(resource_path(f"harness_plugin_tasks.{name}:{name}.yaml")) for name in NAMES
}
E, N, C = NLI_LABELS
# one pair a cell of label x negation, then one that nobody agreed on; a quote opens, never closes
PAIRS = [
    ("The cook sang.", "Nobody was silent, no doubt", E),
    ('He said "no more soup.', "He spoke.", E),
    ("Some birds fly.", "Never mind, they sing.", N),
    ("Ana reads.", "Ana reads novels.", N),
    ("A dog barked.", "There was no dog!", C),
    ("A dog barked.", "A cat purred.", C),
    ("It rains.", "It rains often.", "-"),
]
# labels given away by the hypothesis, but for the first pair
GIVEN_AWAY = {E: "somebody moves outdoors", N: "a tall sad man waits", C: "nobody sleeps at all"}
MANY = [(f"Premise {i}.", GIVEN_AWAY[label], label) for i in range(12) for label in NLI_LABELS]
MANY[0] = ("Premise 0.", GIVEN_AWAY[C], E)
GROUPS = tuple(f"{label}/{cue}" for label in NLI_LABELS for cue in ("negation", "no_negation"))
TAB = ["gold_label", "sentence1", "sentence2", "pairID"]
GLUE = ["index", "pairID", "sentence1", "sentence2", "label1", "gold_label"]


def load(name, path, **options):
    return load_data(TASKS[name], "path", path=path, options=options)


def records(prefix, pairs=PAIRS):
    return [
        {"gold_label": y, "sentence1": p, "sentence2": h, "pairID": f"{prefix}{i}"}
        for i, (p, h, y) in enumerate(pairs)
    ]


def write_multinli(root, pairs=PAIRS):
    for part in ("train", "dev_matched", "dev_mismatched"):
        write_json(root / "multinli_1.0" / f"multinli_1.0_{part}.jsonl", records(part[-4], pairs))
    return root


def write_glue(root):
    for part in ("train", "dev_matched", "dev_mismatched"):
        write_tab(root / "MNLI" / f"{part}.tsv", GLUE, records(part[-4]))
    return root


def write_snli(root, pairs=PAIRS):
    for part in ("train", "dev", "test"):
        write_tab(root / "snli_1.0" / f"snli_1.0_{part}.txt", TAB, records(part[-1], pairs))
    return root


MULTINLI_SPLITS = ("train", "validation_matched", "validation_mismatched")
SNLI_SPLITS = ("train", "validation", "test")


def nli_rows(pairs=PAIRS, names=NLI_LABELS, **more):
    premises, hypotheses, labels = map(list, zip(*pairs, strict=True))
    columns = {"premise": premises, "hypothesis": hypotheses, **more, "label": labels}
    return hub_rows(names, columns)


def write_copy(folder, splits, layout="data/{}-00000-of-00001.parquet", **rows):
    return write_parquet(folder, {split: nli_rows(**rows) for split in splits}, layout)


def rows_of(data):
    return {name: len(split) for name, split in data.splits.items()}
