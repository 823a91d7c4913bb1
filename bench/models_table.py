"""Which architectures load, train, are distilled, scored and analysed: the table of docs/models.md.

For each family a tiny random checkpoint is saved (a body without a head) and a whole run is made on
it: teacher, student and control; what they were saved as is scored again with eval_only; every kind
of distiller; every analysis. What is refused is said with the tool's own line; anything else that
is raised is a crash and fails this command.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from families import FAMILIES, LAYERS, Family, save

import harness_plugin as harness
from harness_plugin.analysis.run_analyses import AnalysisRequest, make
from harness_plugin.machine.progress import quiet_libraries
from harness_plugin.models.classifiers import load_trained
from harness_plugin.models.hub import quiet
from harness_plugin.models.processors import load_processor

QUICK = ("BERT", "Qwen2", "ResNet")
TASKS = {"text": "hans", "image": "celeba_bias"}
OPTIONS = {
    "text": {"n_train": 96, "n_validation": 48, "n_id": 48, "n_hans": 60, "bias_rate": 0.7},
    "image": {"n_train": 200, "n_validation": 100, "n_test": 100},
}
"""Few rows of each."""
LENGTH, EXAMPLES = 48, 16
DISTILLERS = {"features": "rkd", "projector": "hints", "layers": "tinybert", "relations": "minilm"}
"""Column -> a distiller of its kind."""
ANALYSES = ("cka", "probes", "attention", "circuits")
COLUMNS = ("run", "score", "batches", *DISTILLERS, "from_teacher", *ANALYSES)


@dataclass
class Row:
    """Support of a family: column -> "" (supported) or why not; crashes are faults of ours."""

    name: str
    family: Family
    refusals: dict[str, str] = field(default_factory=dict)
    crashes: dict[str, str] = field(default_factory=dict)

    def attempt(self, column: str, work: Callable[[], Any]) -> Any:
        """The result of `work`; its error is kept under `column`."""
        try:
            with quiet():
                made = work()
        except harness.HarnessError as error:
            self.refusals[column] = str(error).splitlines()[0]
        except Exception as error:
            self.crashes[column] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        else:
            self.refusals[column] = ""
            return made
        return None

    def cell(self, column: str) -> str:
        """yes, no, CRASH, or nothing where it was not asked."""
        if column in self.crashes:
            return "CRASH"
        if column not in self.refusals:
            return ""
        return "no" if self.refusals[column] else "yes"


def settings_of(folder: Path) -> dict[str, Any]:
    """One short training of a checkpoint."""
    return {
        "model": str(folder),
        "init": "pretrained",
        "config": {},
        "epochs": 1,
        "erm_epochs": 0,
        "batch_size": 16,
        "max_length": LENGTH,
        "learning_rate": 1e-3,
    }


def texts_of() -> list[str]:
    """Texts that tokenizers are trained on."""
    split = harness.load_task(TASKS["text"], settings={"options": OPTIONS["text"]}).splits["train"]
    return [text for column in ("premise", "hypothesis") for text in split.rows[column]]


def examine(name: str, folder: Path, texts: list[str]) -> Row:
    """The row of one family."""
    family = FAMILIES[name]
    row, task = Row(name, family), TASKS[family.modality]
    checkpoint = save(family, folder / "checkpoint", texts)
    common: dict[str, Any] = {
        "method": "erm",
        "seeds": 0,
        "settings": {"options": OPTIONS[family.modality]},
        "references": False,
        "device": "cpu",
        "threads": 1,
        "precision": "no",
        "attention": "sdpa",
        "resamples": 100,
        "use_cache": str(folder / "store"),
    }
    models: dict[str, Any] = {
        "teacher": settings_of(checkpoint),
        "student": settings_of(checkpoint),
    }

    def run(out: str, **changes: Any) -> Any:
        return harness.run(task, **{**common, **models, **changes}, output_path=folder / out)

    first = row.attempt("run", lambda: run("run"))
    if first is None:
        return row
    saved = {model.role: Path(model.path) for model in first.tasks[0].models}

    def score() -> None:
        more = {role: {**models["student"], "model": str(saved[role])} for role in models}
        again = run("again", **more, control=str(saved["control"]), eval_only=True)
        before, after = accuracies(first), accuracies(again)
        moved = [key for key, value in after.items() if value != before[key]]
        if moved:
            raise AssertionError(f"accuracies moved: {moved}")

    row.attempt("score", score)
    if family.modality == "text":
        row.attempt("batches", lambda: same_in_batches(saved["teacher"], texts))
    for column, distiller in DISTILLERS.items():
        row.attempt(column, lambda name=distiller: run(name, students=student(distiller=name)))
    fewer = {**models["student"], "config": one_layer_less(family)}
    row.attempt(
        "from_teacher",
        lambda: run("fewer", student=fewer, students=student(from_teacher="even")),
    )
    (finished,) = first.reopen(device="cpu", threads=1)
    for analysis in ANALYSES:
        row.attempt(analysis, lambda name=analysis: analyse(finished, name))
    return row


def student(**how: Any) -> dict[str, Any]:
    """The students of a run: one."""
    return {"student": how}


def one_layer_less(family: Family) -> dict[str, int]:
    """The change of a configuration, where it has a number of layers."""
    names = ("num_hidden_layers", "n_layers", "num_layers", "n_layer", "encoder_layers")
    return {name: LAYERS - 1 for name in names if name in family.config}


def accuracies(result: Any) -> dict[tuple[str, str], float]:
    """(role, set) -> accuracy."""
    return {(s.role, s.split): s.metrics["acc"].value for s in result.tasks[0].scores}


def same_in_batches(folder: Path, texts: list[str]) -> None:
    """Compare logits of pairs alone and in a padded batch."""
    import torch

    model = load_trained(str(folder), "text", attention="eager").eval()
    tokenizer = load_processor(str(folder), "text")
    pairs = [texts[:6], [text.split()[0] for text in texts[6:12]]]
    with torch.inference_mode():
        together = model(**tokenizer(*pairs, padding=True, return_tensors="pt")).logits
        rows = zip(*pairs, strict=True)
        alone = [model(**tokenizer(*row, return_tensors="pt")).logits for row in rows]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def analyse(finished: Any, analysis: str) -> None:
    """One analysis of a run's teacher, student and control."""
    made = make(finished, [analysis], AnalysisRequest(examples=EXAMPLES))
    record = made.findings[analysis].record
    if not record.get("models", True):  # every model was left out, with a note each
        raise harness.HarnessError(str(record["notes"][0]))


def table(rows: list[Row]) -> str:
    """The table, and why each "no"."""
    lines = ["| family | kind | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for row in rows:
        cells = [row.name, row.family.kind, *(row.cell(column) for column in COLUMNS)]
        lines.append("| " + " | ".join(cells) + " |")
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for column, reason in row.refusals.items():
            if reason:
                reasons.setdefault((column, short(reason, row.family)), []).append(row.name)
    lines += ["", "| column | families | what the tool says |", "|---|---|---|"]
    lines += [f"| {c} | {', '.join(names)} | {why} |" for (c, why), names in reasons.items()]
    return "\n".join(lines)


def kept(file: Path | None) -> dict[str, Row]:
    """Rows that were made before, by family."""
    if file is None or not file.exists():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Row(name, FAMILIES[name], **cells) for name, cells in rows.items() if name in FAMILIES
    }


def short(reason: str, family: Family) -> str:
    """A refusal without the folder of this run and the names that say which family it was."""
    out = re.sub(r"^task \w+: |/tmp/\S*/", "", reason).replace("|", "/")
    out = re.sub(r"^student: distiller \w+ cannot compare student with teacher: ", "", out)
    out = re.sub(r"^teacher( seed 0 is left out)?: ", "", out)
    out = re.sub(r"of \w+ \(model type '[\w-]+'\)", "of it", out)
    name = re.escape(family.model_type)
    return re.sub(rf"\b(a |the configuration of a |not of ){name}\b", alike, out)


def alike(result: re.Match[str]) -> str:
    """The common word for a family's name."""
    return {"a ": "it", "not of ": "not of it"}.get(result[1], "its configuration")


def main() -> int:
    """Print the table; status 1 where something crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", help="some of them, as BERT,ViT")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE.json",
        help="add to the rows of this file, so that the table can be made in portions",
    )
    parser.add_argument("--write", type=Path, help="put the table into this page")
    args = parser.parse_args()
    names = args.families.split(",") if args.families else QUICK if args.quick else FAMILIES
    quiet_libraries()
    texts, known = texts_of(), kept(args.keep)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            row = known[name] = examine(name, Path(folder), texts)
        print(name, {c: row.cell(c) for c in COLUMNS}, file=sys.stderr)
        if args.keep:
            cells = {n: {"refusals": r.refusals, "crashes": r.crashes} for n, r in known.items()}
            args.keep.write_text(json.dumps(cells, indent=1), encoding="utf-8")
    rows = [known[name] for name in FAMILIES if name in known]
    made = table(rows)
    print(made)
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        args.write.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")
    crashes = [f"{row.name}: {c}: {why}" for row in rows for c, why in row.crashes.items()]
    print(*crashes, sep="\n", file=sys.stderr)
    return 1 if crashes else 0


BEGIN, END = "<!-- table: python bench/models_table.py -->", "<!-- end of table -->"

if __name__ == "__main__":
    sys.exit(main())
