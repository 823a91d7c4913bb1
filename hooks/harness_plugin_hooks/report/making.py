"""A run that was read → its page and the files of its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness_plugin.errors import HarnessError
from harness_plugin.files import strict, write_text
from harness_plugin.plugins.registry import Plugins
from harness_plugin.scoring.transfer_record import TransferRecord
from harness_plugin_hooks.render.document import Column, Table
from harness_plugin_hooks.render.html import page
from harness_plugin_hooks.render.text import listed, plural
from harness_plugin_hooks.report import answer, figures_flips, figures_inside, figures_scores
from harness_plugin_hooks.report.document import Part, TaskReport, file_stem, report
from harness_plugin_hooks.report.drawing import Picture, styled
from harness_plugin_hooks.report.figures_attention import attention
from harness_plugin_hooks.report.figures_circuits import circuits
from harness_plugin_hooks.report.reading import RunPages, TaskPage

Draw = Callable[[Mapping[str, Any], Sequence[str]], Iterator[Picture]]
INSIDE: dict[str, tuple[str, Draw]] = {
    "cka": ("Similarity of layers", figures_inside.cka),
    "probes": ("What can be read off", figures_inside.probes),
    "attention": ("Attention", attention),
    "circuits": ("Circuits", circuits),
}
"""Analysis -> its heading and who draws it."""


def write(run: RunPages, plugins: Plugins, folder: Path) -> list[Path]:
    """report_<time>.html and the folder report_<time>_figures in `folder`; the page comes first."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"report_{run.started}"
    figures = folder / f"{stem}_figures"
    with styled():
        tasks = [report_of(run, one, plugins) for one in run.tasks]
        written = [folder / f"{stem}.html"]
        write_text(written[0], page(report(run, tasks)))
        figures.mkdir(exist_ok=True)
        for one in tasks:
            for picture in [p for part in one.parts for p in part.pictures]:
                name = file_stem(f"{one.page.record.task}_{picture.name}")
                written += write_figure(picture, figures / name)
    return written


def write_figure(picture: Picture, stem: Path) -> list[Path]:
    """The figure as PNG and SVG."""
    png, svg = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")
    png.write_bytes(picture.png)
    write_text(svg, picture.svg)
    return [png, svg]


def report_of(run: RunPages, one: TaskPage, plugins: Plugins) -> TaskReport:
    """One task with its figures."""
    record = one.record
    scores = list(figures_scores.pictures(record))
    types = [picture for picture in scores if picture.name.startswith("types_")]
    parts = [
        Part("Groups and gaps", [p for p in scores if p not in types], missing="No groups."),
        Part("Bias types", types, missing="The sets of this task have no bias types."),
        *flips(record),
        *inside(run, one, plugins),
    ]
    return TaskReport(
        page=one,
        answers=answer.answers(record),
        numbers=answer.numbers(record),
        parts=parts,
        facts=list(facts(run, one)),
        models=models(record),
        config=yaml.safe_dump(strict(record.config), sort_keys=False, allow_unicode=True),
    )


def inside(run: RunPages, one: TaskPage, plugins: Plugins) -> Iterator[Part]:
    """One section an analysis; where it was not made, the command that makes it."""
    roles = list(dict.fromkeys(model.role for model in one.record.models))
    for name, (title, draw) in INSIDE.items():
        found = one.analyses.get(name)
        if found is None:
            if name in plugins["analysis"]:
                how = f"Not made; harness analyze {run.folder} --{name} makes it."
                yield Part(title, [], missing=how)
            continue
        try:
            pictures = list(draw(found.record, roles))
            sentences = list(figures_inside.sentences(found.record)) if name == "probes" else []
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise HarnessError(
                f"{found.file}: {name} cannot be drawn ({type(error).__name__}: {error}); was it "
                f"written by another version? Make it again: harness analyze {run.folder} --{name}."
            ) from None
        notes = [f"On set {found.split}"] if found.split else []
        notes += [str(note) for note in found.record.get("notes") or ()]
        yield Part(title, pictures, sentences, "There is nothing to draw.", notes)
    if others := [name for name in one.analyses if name not in INSIDE]:
        yield Part("Other analyses", [], missing=f"Made, not drawn here: {listed(others)}.")


def flips(record: TransferRecord) -> Iterator[Part]:
    """Whose answers change, where a student was compared with another model."""
    if record.flips:
        pictures = list(figures_flips.pictures(record))
        said = figures_flips.sentences(record)
        yield Part("Whose answers change", pictures, said, "No answer changes.")


def models(record: TransferRecord) -> Table:
    """The table of all models."""
    titles = ("role", "seed", "model", "method", "learns from", "updates", "seconds", "checkpoint")
    rows = [
        (
            model.role,
            str(model.seed),
            model.model,
            model.method,
            str((model.settings.get("distillation") or {}).get("distiller", "")),
            f"{model.updates:,}",
            f"{model.seconds:,.1f}",
            Path(model.path).name,
        )
        for model in record.models
    ]
    return Table(f"Models of {record.task}", tuple(map(Column, titles)), rows, titled=False)


def facts(run: RunPages, one: TaskPage) -> Iterator[tuple[str, str]]:
    """What was run, on what."""
    record, environment = one.record, one.record.environment
    config = record.config
    yield "run", f"started {run.started} UTC, harness-plugin {record.harness_plugin_version}"
    source = (
        "embedded (generated by this software)"
        if record.source == "embedded"
        else (record.source if record.source != "path" else f"path ({config.get('data')})")
    )
    yield "data", f"{source}, fingerprint {record.fingerprint}"
    for known in record.sets:
        kind = "in domain" if known.purpose == "in_domain" else "out of distribution"
        yield (
            f"set {known.name}",
            (
                f"{kind}, {plural(known.rows, 'row')}, labels {', '.join(known.labels)}, "
                f"{plural(len(known.groups), 'group')}"
            ),
        )
    yield "seeds", ", ".join(map(str, record.seeds))
    if record.notes:
        yield "notes", "; ".join(record.notes)
    if record.config.get("eval_only"):
        yield "trained", "nothing: checkpoints were scored as they are (eval_only)"
    for modality, choice in (environment.get("choices") or {}).items():
        yield (
            f"machine, {modality}",
            ", ".join(
                f"{key} {choice[key]}"
                for key in ("device", "processes", "threads", "precision", "attention")
                if choice.get(key) is not None
            ),
        )
    hardware = (environment.get(key) for key in ("gpu", "cpu", "platform"))
    yield "hardware", ", ".join(str(part) for part in hardware if part)
    versions = {"python": environment.get("python"), **(environment.get("versions") or {})}
    yield "software", ", ".join(f"{name} {version}" for name, version in versions.items())
    for name, found in one.analyses.items():
        yield f"analysis {name}", found.file.name
