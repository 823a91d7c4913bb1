"""The output: one line a model and evaluation set, for a spreadsheet."""

from pathlib import Path

from harness_plugin.records import RunReport


def write(report: RunReport, folder: Path) -> list[Path]:
    """accuracies.tsv: task, role, seed, evaluation set, accuracy in [0, 1]."""
    lines = ["task\trole\tseed\tset\taccuracy"]
    for scores in report.tasks:
        for p in scores.predictions:
            accuracy = (p.probabilities.argmax(axis=1) == p.label).mean()
            lines.append(f"{scores.task}\t{p.role}\t{p.seed}\t{p.split}\t{accuracy:.4f}")
    file = folder / "accuracies.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [file]
