"""Fill the tables of the documents: `make docs-tables`.

A table stands between markers of its name. Tables that are facts of data files are made here, in
seconds; the others are what a command prints, which can take hours and is named with its time:

    python docs/fill_tables.py --list
    python docs/fill_tables.py coverage            # runs the command and fills what it prints
    python docs/fill_tables.py coverage --from coverage.md    # printed before, elsewhere
    python docs/fill_tables.py demo --from results            # what `make demo` left
    python docs/fill_tables.py certificates --from results    # what the page's commands left
    python docs/fill_tables.py findings --from results        # a folder of each study
    python docs/fill_tables.py --all

What a command printed is filled with the commit; it names itself. `--check` changes
nothing and fails where a page is not what the data files say.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = ROOT / "hooks" / "harness_plugin_hooks" / "defaults.yaml"
PUBLISHED = ROOT / "hooks" / "harness_plugin_hooks" / "published.yaml"
CHECKED = ROOT / "tests" / "hooks" / "checked_against.yaml"
KINDS = {
    "method": "method",
    "bias_model": "bias model",
    "group_inference": "group inference",
    "distiller": "distiller",
    "augmentation": "augmentation",
    "compressor": "compressor",
}


@dataclass(frozen=True)
class Table:
    """One table of one page: made by a function, printed by a command, or written by one."""

    page: str
    takes: str
    make: Callable[[], list[str]] | None = None
    command: str = ""
    writes: bool = False
    """Whether the command fills the page itself, between markers of its own."""
    read: Callable[[Path], list[str]] | None = None
    """Makes the table from the results folder that the command left: it takes `--from`."""
    studies: bool = False
    """Whether the command wants folders of studies: those in the folder of `--from`."""

    @property
    def file(self) -> Path:
        """The page."""
        return ROOT / self.page


def read(file: Path) -> dict[str, Any]:
    """A data file."""
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def shown(value: Any) -> str:
    """A value as it is set; of one that differs by modality both."""
    if isinstance(value, Mapping):
        return ", ".join(f"{modality} {shown(each)}" for modality, each in value.items())
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{value}`" if value == "" else str(value)


def defaults() -> list[str]:
    """Every option with its default, the source's value, and where that stands or why not."""
    lines = ["| name | option | default | source's value | where |", "|---|---|---|---|---|"]
    for kind, components in read(DEFAULTS).items():
        for name, options in components.items():
            for option, fact in options.items():
                default = fact.get("ours", fact["source"])
                words = [
                    fact.get("where", ""),
                    f"ours: {fact['because']}" if "ours" in fact else "",
                ]
                lines.append(
                    f"| `{name}` ({KINDS[kind]}) | `{option}` | {shown(default)} | "
                    f"{shown(fact['source'])} | {'; '.join(word for word in words if word)} |"
                )
    return lines


def published() -> list[str]:
    """The settings that papers publish for pretrained models."""
    lines = ["| task | method | `--set` | source |", "|---|---|---|---|"]
    for task, methods in read(PUBLISHED).items():
        for method, fact in methods.items():
            sets = " ".join(f"`{key}={shown(value)}`" for key, value in fact["set"].items())
            lines.append(f"| `{task}` | `{method}` | {sets} | {fact['source']} |")
    return lines


def checked() -> list[str]:
    """What every method, bias model and group inference is checked against."""
    lines = ["| name | checked against | tests |", "|---|---|---|"]
    for kind, components in read(CHECKED).items():
        for name, fact in components.items():
            tests = ", ".join(f"`{file}`" for file in fact["tests"])
            lines.append(f"| `{name}` ({KINDS[kind]}) | {fact['against']} | {tests} |")
    return lines


def demo(folder: Path) -> list[str]:
    """What a run printed of its sets out of domain, from its results folder."""
    from harness_plugin.plugins.registry import load_plugins
    from harness_plugin.scoring.files.finished_runs import records_in, scores_from
    from harness_plugin.scoring.metrics import Metric
    from harness_plugin_hooks.console import scores_computed

    metrics = {m.name: m.info for m in load_plugins()["metric"].instances(Metric).values()}
    lines = ["```text"]
    for file, record in records_in(folder).values():
        scores = scores_from(file, record, metrics)
        ood = {split for split, purpose in scores.purposes.items() if purpose == "ood"}
        shown = replace(
            scores,
            scores=tuple(each for each in scores.scores if each.split in ood),
            evidence=tuple(each for each in scores.evidence if each.split in ood),
            flips=tuple(each for each in scores.flips if each.split in ood),
        )
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            scores_computed(shown)
        for line in printed.getvalue().strip().splitlines():
            prose = " " in line.strip() and not line.startswith(" ") and len(line) > WIDTH
            lines += textwrap.wrap(line, WIDTH) if prose else [line.rstrip()]
        lines.append("")
    return [*lines[:-1], "```"]


def certificates(folder: Path) -> list[str]:
    """What `harness remedy --certify` left in a folder of results, or of runs: a run's newest."""
    from harness_plugin.store.files import read_json
    from harness_plugin_hooks.remedies.certify.certificate import DOCUMENT, Certificate
    from harness_plugin_hooks.remedies.certify.certificate import read as read_certificate
    from harness_plugin_hooks.remedies.certify.words import sentence
    from harness_plugin_hooks.render.text import plural

    newest: dict[tuple[str, str], tuple[Path, Certificate]] = {}
    runs = [file for at in ("", "*/") for file in folder.glob(f"{at}certificate_*/{DOCUMENT}")]
    for file in sorted(runs, key=lambda file: file.parent.name):
        made = read_certificate(file.parent)
        newest[made.task, file.parent.parent.name] = file.parent, made
    if not newest:
        raise SystemExit(f"certificates: no {DOCUMENT} in {folder}.")
    lines = []
    for (task, _), (where, made) in sorted(newest.items()):
        time = where.name.removeprefix(f"certificate_{task}_")
        tried = sorted(where.parent.glob(f"remedies_{task}_*.json"))
        before = [file for file in tried if file.stem <= f"remedies_{task}_{time}"]
        record = read_json(before[-1])
        smallest = record["smallest_group"]
        certifying = min(made.groups.items(), key=lambda group: group[1])
        lines += [
            f"**{task}** ({made.source} data), `{made.baseline}`, "
            f"{plural(len(made.seeds), 'seed')}; smallest group of the rows that rank: "
            f"{smallest['group']} ({smallest['rows']:,}), of those that certify: {certifying[0]} "
            f"({certifying[1]:,})",
            "",
            "| remedy | worst group | gained | brought back | FLOP | certified? |",
            "|---|--:|--:|--:|--:|---|",
            *(remedy_row(one, record["remedies"], made) for one in record["remedies"]),
            "",
            *textwrap.wrap(sentence(made), WIDTH),
            "",
        ]
    return printed("\n".join(lines))


def remedy_row(one: Mapping[str, Any], every: Sequence[Mapping[str, Any]], made: Any) -> str:
    """One remedy: its numbers on the rows that rank, and what the others say of it."""
    from harness_plugin_hooks.remedies.certify.words import reasons
    from harness_plugin_hooks.render.text import DASH, percent

    gained, plain = one["gained"], next(each for each in every if each["remedy"] == "none")
    cells = [f"`{one['remedy']}`", DASH, "", "", DASH]
    if (score := one["score"]["value"]) is not None:
        cells[1] = percent(score, signed=False)
    if one is not plain and gained["value"] is not None:
        cells[2] = percent(gained["value"], signed=True)
        if gained["low"] is not None:
            ends = (percent(gained[end], signed=False) for end in ("low", "high"))
            cells[2] += f" [{', '.join(ends)}]"
        if one["brought_back"] is not None:
            cells[3] = f"{percent(one['brought_back'], signed=False)}%"
    if plain["training_operations"]:
        cells[4] = f"{one['training_operations'] / plain['training_operations']:.2f}"
    why = dict(reasons(made)).get(one["remedy"])
    cells.append("yes" if why is None else f"no: {why}")
    return f"| {' | '.join(cells)} |"


WIDTH = 100
"""Of lines in a page."""
TABLES = {
    "demo": Table("docs/demo.md", "ten minutes, then seconds", command="make demo", read=demo),
    "certificates": Table(
        "docs/remedies.md",
        "20 minutes, then seconds",
        command="harness remedy --tasks celeba_bias … and --tasks hans … (on the page)",
        read=certificates,
    ),
    "defaults": Table("docs/defaults.md", "1 s", defaults),
    "published": Table("docs/defaults.md", "1 s", published),
    "checked": Table("docs/defaults.md", "1 s", checked),
    "coverage": Table(
        "docs/verdicts.md",
        "30 CPU minutes",
        command="python bench/coverage.py",
    ),
    "durability": Table(
        "docs/reliability.md",
        "10 minutes",
        command="python bench/durability.py --tasks celeba_bias --rounds 2",
    ),
    "workers": Table(
        "docs/scale.md",
        "30 minutes",
        command="python bench/many_workers.py",
    ),
    "batch_norm": Table(
        "docs/compression.md",
        "5 CPU minutes",
        command="python bench/batch_norm.py",
    ),
    "certify": Table(
        "docs/remedies.md",
        "3 CPU minutes",
        command="python bench/certify.py",
    ),
    "certified_tasks": Table(
        "docs/remedies.md",
        "an hour",
        command="python bench/certified_tasks.py",
    ),
    "models": Table(
        "docs/models.md",
        "30 minutes",
        command="python bench/models_table.py --write docs/models.md",
        writes=True,
    ),
    "methods": Table(
        "docs/methods_measured.md",
        "2 hours",
        command="python bench/methods.py --write docs/methods_measured.md",
        writes=True,
    ),
    "deviations": Table(
        "docs/methods_measured.md",
        "1 hour",
        command="python bench/deviations.py --write docs/methods_measured.md",
        writes=True,
    ),
    "findings": Table(
        "docs/findings.md",
        "hours of studies, then seconds",
        command="python studies/findings.py",
        writes=True,
        studies=True,
    ),
    "certificates_real": Table(
        "docs/findings_real.md",
        "an hour, minutes after the studies, then seconds",
        command="harness remedy --config examples/…/run.yaml … (on the page)",
        read=certificates,
    ),
    "findings_real": Table(
        "docs/findings_real.md",
        "two hours of studies, then seconds",
        command="python studies/findings.py --page docs/findings_real.md",
        writes=True,
        studies=True,
    ),
}


def between(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with the lines of one table replaced; what stands outside the markers is kept."""
    start, end = f"<!-- table {name} -->", f"<!-- end of table {name} -->"
    before, mark, rest = page.partition(start)
    if not mark or end not in rest:
        raise SystemExit(f"no table {name} between {start} and {end}.")
    return "\n".join([before + start, "", *lines, "", end + rest.partition(end)[2]])


def printed(text: str) -> list[str]:
    """What a command printed (its own name first), under the commit that it was filled at."""
    head = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True, cwd=ROOT)
    return [f"Filled at commit {commit.stdout.strip()}.", "", *text.strip().splitlines()]


def fill(name: str, recorded: Path | None = None) -> None:
    """Make one table and write its page."""
    table = TABLES[name]
    if table.make is not None:
        lines = table.make()
    elif (table.read is not None or table.studies) and recorded is None:
        raise SystemExit(f"{name}: {table.command} needs a folder of results: --from DIR.")
    elif table.read is not None and recorded is not None:
        lines = table.read(recorded)
    elif recorded is not None and not table.studies:
        lines = printed(recorded.read_text(encoding="utf-8"))
    else:
        folders = sorted({str(f.parent) for f in recorded.glob("*/numbers_*")}) if recorded else []
        words = [sys.executable, *shlex.split(table.command)[1:], *folders]
        done = subprocess.run(
            words, stdout=None if table.writes else subprocess.PIPE, text=True, cwd=ROOT
        )
        if done.returncode:
            raise SystemExit(f"{name}: {table.command} ended with status {done.returncode}.")
        if table.writes:
            return
        lines = printed(done.stdout)
    page = table.file.read_text(encoding="utf-8")
    table.file.write_text(between(page, name, lines), encoding="utf-8")


def check() -> None:
    """Fail where a table that is made here is not current, or one has no place in its page."""
    for name, table in TABLES.items():
        page = table.file.read_text(encoding="utf-8")
        if table.make is not None and between(page, name, table.make()) != page:
            raise SystemExit(f"{table.page}: table {name} is not current: make docs-tables")
        if not table.make and not table.writes:
            between(page, name, [])


def main() -> None:
    """Write the pages, or compare them."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", choices=[[], *TABLES], metavar="TABLE")
    options.add_argument("--all", action="store_true", help="those that take hours as well")
    options.add_argument("--from", dest="recorded", type=Path, help="what its command printed")
    options.add_argument("--check", action="store_true", help="fail where a page is not current")
    options.add_argument("--list", action="store_true", help="every table, its command and time")
    args = options.parse_args()
    cheap = [name for name, table in TABLES.items() if table.make]
    by_themselves = [name for name, t in TABLES.items() if t.read is None and not t.studies]
    names = args.names or (by_themselves if args.all else cheap)
    if args.list:
        for name, table in TABLES.items():
            print(f"{name:10} {table.page:18} {table.takes:12} {table.command or 'made here'}")
    elif args.check:
        check()
    elif args.recorded is not None and len(args.names) != 1:
        raise SystemExit("--from: name the one table that it is.")
    else:
        for name in names:
            fill(name, args.recorded)


if __name__ == "__main__":
    main()
