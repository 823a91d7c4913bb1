"""A run that was read → its page and the files of its figures."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import Plugins
from harness_plugin.scoring.files.transfer_record import TransferRecord
from harness_plugin.store.files import named, strict, write_text
from harness_plugin_hooks.leaderboard.submission import names_only
from harness_plugin_hooks.render.document import Column, Table
from harness_plugin_hooks.render.html import page
from harness_plugin_hooks.render.text import listed, plural
from harness_plugin_hooks.report import answer, certificates, remedies
from harness_plugin_hooks.report.document import Part, TaskReport, file_stem, report
from harness_plugin_hooks.report.figures import answer as figures_answer
from harness_plugin_hooks.report.figures import attention as figures_attention
from harness_plugin_hooks.report.figures import circuits as figures_circuits
from harness_plugin_hooks.report.figures import flips as figures_flips
from harness_plugin_hooks.report.figures import inside as figures_inside
from harness_plugin_hooks.report.figures import scores as figures_scores
from harness_plugin_hooks.report.figures.drawing import Picture, styled
from harness_plugin_hooks.report.reading import RunPages, TaskPage

Draw = Callable[[Mapping[str, Any], Sequence[str]], Iterator[Picture]]
Say = Callable[[Mapping[str, Any]], Iterator[str]]
INSIDE: dict[str, tuple[str, Draw, Say]] = {
    "cka": ("Similarity of layers", figures_inside.cka, lambda _: iter(())),
    "probes": ("What can be read off", figures_inside.probes, lambda _: iter(())),
    "attention": ("Attention", figures_attention.attention, lambda _: iter(())),
    "circuits": ("Circuits", figures_circuits.circuits, figures_circuits.sentences),
}
"""Analysis -> its heading, who draws it, and what else is said of it."""


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
            parts = [*one.where, *one.back]
            for picture in [*one.pictures, *(p for part in parts for p in part.pictures)]:
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
    return TaskReport(
        page=one,
        answers=answer.answers(record),
        pictures=list(figures_answer.pictures(record)),
        numbers=answer.numbers(record),
        where=[
            Part("Groups", [p for p in scores if p not in types]),
            Part("Bias types", types),
            Part(
                "Whose answers change",
                list(figures_flips.pictures(record)),
                figures_flips.sentences(record),
            ),
            *inside(run, one),
        ],
        back=[
            *(
                Part(
                    f"Remedies for {results.record['baseline']}",
                    [remedies.picture(results)],
                    notes=list(remedies.notes(results, record)),
                    table=remedies.table(results),
                )
                for results in one.remedies
            ),
            *(
                Part(
                    f"Certificate for {certificate.made.baseline}",
                    [],
                    certificates.sentences(certificate),
                    list(certificates.notes(certificate, record)),
                    certificates.table(certificate),
                )
                for certificate in one.certificates
            ),
        ],
        facts=[*facts(run, one), *not_made(run, one, plugins)],
        models=models(record),
        config=yaml.safe_dump(
            names_only(strict(record.config)), sort_keys=False, allow_unicode=True
        ),
    )


def inside(run: RunPages, one: TaskPage) -> Iterator[Part]:
    """One section an analysis that was made."""
    roles = list(dict.fromkeys(model.role for model in one.record.models))
    for name, (title, draw, say) in INSIDE.items():
        analysis = one.analyses.get(name)
        if analysis is None:
            continue
        try:
            pictures = list(draw(analysis.record, roles))
            sentences = list(say(analysis.record))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise HarnessError(
                f"{analysis.file}: {name} cannot be drawn ({type(error).__name__}: {error}); was "
                f"it written by another version? Make it again: harness analyze {run.folder} "
                f"--{name}."
            ) from None
        if not pictures and not sentences:
            continue
        notes = [f"On set {analysis.split}"] if analysis.split else []
        notes += [str(note) for note in analysis.record.get("notes") or ()]
        yield Part(title, pictures, sentences, notes)


def not_made(run: RunPages, one: TaskPage, plugins: Plugins) -> Iterator[tuple[str, str]]:
    """Sections that a reader could add to the page, and parts of the run that are not on it."""
    folder = shlex.quote(named(str(run.folder.resolve())))
    if others := [name for name in one.analyses if name not in INSIDE]:
        yield "analyses not drawn", listed(others)
    if missing := [
        name for name in INSIDE if name in plugins["analysis"] and name not in one.analyses
    ]:
        flags = " ".join(f"--{name}" for name in missing)
        yield "not analysed", f"{listed(missing)}: harness analyze {folder} {flags}"
    students = [s.role for s in one.record.scores if s.role.startswith("student")]
    command = f"harness remedy --tasks {one.record.task} --baseline {{}} --output_path {folder}"
    if not one.remedies and students:
        yield "no remedies tried", command.format(students[0])
    elif one.remedies and not one.certificates:
        student = one.remedies[0].record["baseline"]
        yield "nothing certified", f"{command.format(student)} --certify 0.95"
    if one.without_examples:
        yield "no examples", one.without_examples


def models(record: TransferRecord) -> Table:
    """The table of all models."""
    titles = ("role", "seed", "model", "method", "learns from", "updates", "seconds", "checkpoint")
    rows = [
        (
            model.role,
            str(model.seed),
            names_only(model.model),
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
    """Facts of the run: its models, data and settings."""
    record, environment = one.record, one.record.environment
    config = names_only(record.config)
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
    for name, analysis in one.analyses.items():
        yield f"analysis {name}", analysis.file.name
