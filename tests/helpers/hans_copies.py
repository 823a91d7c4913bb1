"""Small copies of HANS, MultiNLI and SNLI, as released, as in GLUE and as on the hub."""

import datasets
from releases import hub_rows, write_json, write_parquet, write_tab

from harness_plugin.data.dataset import DataRequest, load_data, resolve_options
from harness_plugin.data.task import read_task
from harness_plugin.data.task_files import resource_path
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks.hans import evaluation

TASK = read_task(resource_path("harness_plugin_tasks.hans:hans.yaml"))
GROUPS = tuple(f"{label}/{cue}" for label in NLI_LABELS for cue in ("overlap", "no_overlap"))

PARSES = ["sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"]
SENTENCES = ["sentence1", "sentence2"]
VOTES = ["label1", "label2", "label3", "label4", "label5"]
TAB_HEADER = ["gold_label", *PARSES, *SENTENCES, "promptID", "pairID", "genre", *VOTES]
GLUE_HEADER = ["index", "promptID", "pairID", "genre", *PARSES, *SENTENCES, "label1", "gold_label"]
HANS_HEADER = ["gold_label", *PARSES, *SENTENCES, "pairID", "heuristic", "subcase", "template"]

# one pair a cell of label x overlap, then one that nobody agreed on; a quote opens, never closes
PAIRS = [
    ("The cook sang loudly.", "The cook sang.", "entailment"),
    ('He said "no more soup.', "There is none left.", "entailment"),
    ("Some birds fly.", "Birds fly.", "neutral"),
    ("Ana reads.", "Ana reads novels.", "neutral"),
    ("No dog barked.", "A dog? No, no dog barked", "contradiction"),
    ("No dog barked.", "Dog barked, no?", "contradiction"),
    ("No dog barked.", "Cats purred.", "contradiction"),
    ("It rains.", "It rains often.", "-"),
]
GROUP_OF_PAIR = [0, 1, 2, 3, 5, 4, 5]
HANS_ROWS = [
    (
        f"the {noun} saw us .",
        f"the {noun} saw us .",
        label,
        heuristic,
        f"{heuristic[0]}{label[0]}_x",
    )
    for noun, (heuristic, label) in zip(
        ("cook", "judge", "nurse", "clerk", "baker", "miner"),
        [(h, x) for h in evaluation.HEURISTICS for x in evaluation.HANS_LABELS],
        strict=True,
    )
]


def records(prefix="p", pairs=PAIRS):
    return [
        {"gold_label": y, "sentence1": p, "sentence2": h, "pairID": f"{prefix}{i}", "label1": y}
        for i, (p, h, y) in enumerate(pairs)
    ]


def hans_records():
    return [
        {"gold_label": y, "sentence1": p, "sentence2": h, "pairID": f"ex{i}"}
        | {"heuristic": heuristic, "subcase": subcase, "template": "t"}
        for i, (p, h, y, heuristic, subcase) in enumerate(HANS_ROWS)
    ]


def write_multinli_jsonl(root):
    for part in ("train", "dev_matched", "dev_mismatched"):
        write_json(root / "multinli_1.0" / f"multinli_1.0_{part}.jsonl", records(part[-4]))


def write_multinli_txt(root):
    for part in ("train", "dev_matched"):
        # rows end after label1, as many do in the release
        write_tab(root / f"multinli_1.0_{part}.txt", TAB_HEADER, records(part[-4]), width=11)


def write_glue(root):
    for part in ("train", "dev_matched", "dev_mismatched"):
        write_tab(root / "MNLI" / f"{part}.tsv", GLUE_HEADER, records(part[-4]))


def write_snli(root):
    header = [name for name in TAB_HEADER if name not in ("promptID", "genre")]
    for part in ("train", "dev"):
        write_tab(root / "snli_1.0" / f"snli_1.0_{part}.txt", header, records(part[-1]), width=9)


def write_hans(root, suffix="txt"):
    file = root / "hans" / f"heuristics_evaluation_set.{suffix}"
    if suffix == "txt":
        return write_tab(file, HANS_HEADER, hans_records())
    return write_json(file, hans_records())


def hub_nli(prefix="p", **more):
    premises, hypotheses, labels = zip(*PAIRS, strict=True)
    columns = {"premise": premises, "hypothesis": hypotheses, "label": labels, **more}
    return hub_rows(NLI_LABELS, {key: list(values) for key, values in columns.items()})


def hub_multinli():
    names = ("train", "validation_matched", "validation_mismatched")
    pair_ids = [f"{i}e" for i in range(len(PAIRS))]
    return datasets.DatasetDict({name: hub_nli(pairID=pair_ids, genre=pair_ids) for name in names})


def hub_hans():
    names = ("premise", "hypothesis", "label", "heuristic", "subcase")
    columns = dict(zip(names, map(list, zip(*HANS_ROWS, strict=True)), strict=True))
    rows = hub_rows(evaluation.HANS_LABELS, columns | {"template": ["t"] * len(HANS_ROWS)})
    return datasets.DatasetDict({"train": rows.select([0]), "validation": rows})


def write_hub_parquet(root):
    write_parquet(root / "mnli copy", hub_multinli())
    write_parquet(root / "hans copy", hub_hans(), "plain_text/{}/0000.parquet")


def write_hub_saved(root):
    hub_multinli().save_to_disk(root / "mnli")
    hub_hans().save_to_disk(root / "hans")


def load(path, **options):
    return load_data(TASK, "path", path=path, options=options)


def request(path, **options):
    return DataRequest(TASK, "path", path, resolve_options(TASK, options))
