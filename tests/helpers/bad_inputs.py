"""Bad input of every kind, made from a seed: what people mistype, disks mangle, strangers send.

`cases(folder, count, seed)` gives command lines, with their files written below `folder`;
`outcome` runs one in this process. A run that accepts its input ends where training begins.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import signal
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TOY = Path(__file__).resolve().parents[1] / "toy"
LIMIT = 20
"""Seconds of computing after which a case counts as one that hangs."""

VALUES = [
    "", " ", "null", "true", "nan", ".nan", ".inf", "-.inf", "1e26", "-1e26", "1e400", "-1", "-0.5",
    "0", "99999999999999999999999", "0x10", "1_000", "0b2", "2020-13-45", "2020-01-01", "25:61:61",
    "!!int abc", "!!float x", "!!bool 3", "!!timestamp x", "!!binary '%'", "!!set {a}",
    "!!python/object/apply:os.system [id]", "!!python/name:os.system", "!mine x", "&a [*a]", "*a",
    "{a: 1, a: 2}", "{a:1}", "{{a: 1}: 2}", "{[1]: 2}", "? [1]", "[", "]", "{", "[1, 2", "'", '"',
    '"\\x00"', "\x07", "\x00", "\x1b[31m", "\u202e", "\ufeff", "\U0001f600", "[" * 400, "[" * 5000,
    "{a: " * 900, "- " * 3000, "a" * 6000, "- 1\n- 2", "%TAG", "---\n---\n", "<<: 3", "{<<: [1]}",
    "{<<: {a: 1}}", "/dev/zero", "/dev/null", "/dev/stdin", "/proc/self/mem", "..", "../x", "a/b",
    "/", ".", "os:system", "json:loads", "nowhere:x", ":", "a:", ":b", "\\", "${HOME}",
    "[null]", "[[]]", "[1, a, {}]", "{}", "[]", "{a: {b: {c: 1}}}", "{null: 1}", "{1: 2}", "=",
    "-", "--", "None", "self", "__class__", "1e-400", "0.1.2", "\u0661", "1,2", "0,0", "a" * 300,
]  # fmt: skip
"""Texts that are given as values of flags, settings, YAML keys and cells."""

OBJECTS: list[Any] = [
    None, True, False, 0, -1, 3, 10**30, 1e308, -0.5, "", "x", "a" * 5000, "\x00", "<script>", "..",
    "../../x", "/etc/passwd", "nan", [], [[]], {}, {"a": {}}, [None], ["x", "x"], [1, "a", {}],
    {"": ""}, "2020-01-01", "\ud800",
]  # fmt: skip
"""Values that stand in JSON in place of others."""


@dataclass(frozen=True)
class Case:
    """A command line; `wrong` says why it must not be accepted ("" = it may)."""

    kind: str
    argv: tuple[str, ...]
    wrong: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a case: the exit status, what was printed, what is wrong with that."""

    case: Case
    status: int
    output: str
    seconds: float
    fault: str


class AcceptedError(BaseException):
    """A run that would train now."""


def outcome(case: Case) -> Outcome:
    """Run a case here: a fault is a traceback, a hang, or acceptance of what is wrong."""
    import harness_plugin.run_tasks as run_tasks
    from harness_plugin.cli.main import main

    def accepted(*_: object) -> None:
        raise AcceptedError

    def late(*_: object) -> None:
        raise TimeoutError("hangs")

    said, fault, status, original = io.StringIO(), "", -1, run_tasks.run_task
    before = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    started = time.monotonic()
    run_tasks.run_task = accepted  # type: ignore[assignment]
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    signal.alarm(15 * LIMIT)  # what waits for ever; a busy machine is no hang
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = main(list(case.argv))
    except AcceptedError:
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        fault = traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        run_tasks.run_task = original
    output = said.getvalue()
    if not fault and "Traceback (most recent" in output:
        fault = output
    if not fault and case.wrong and status == 0:
        fault = f"accepted: {case.wrong}"
    if not fault and status not in (0, 1, 2, 3):  # 3: compare cannot tell
        fault = f"status {status}"
    if not fault and status == 2 and not output.strip():
        fault = "refused without a word"
    return Outcome(case, status, output, time.monotonic() - started, fault)


def cases(
    folder: Path, count: int, seed: int, kinds: Sequence[str] = (), run: Path | None = None
) -> Iterator[Case]:
    """`count` cases, of the kinds in turn; the same seed gives the same ones.

    `run`: the results of a finished run on the toy task, which is made where none is at hand.
    """
    makers = {name: maker for name, maker in MAKERS.items() if not kinds or name in kinds}
    good = Good(folder, run)
    for number in range(count):
        names = list(makers)
        name = names[number % len(names)]
        place = folder / f"case-{number}"
        place.mkdir(parents=True)
        yield makers[name](random.Random(f"{seed}-{number}-{name}"), place, good)


class Good:
    """Inputs that hold, made once, for cases that change one thing of them."""

    def __init__(self, folder: Path, run: Path | None) -> None:
        self.folder, self.run = folder, run
        self._made: dict[str, Path] = {}

    def get(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of a good input."""
        if name not in self._made:
            place = self.folder / f"good-{name}"
            place.mkdir(parents=True)
            make(place)
            self._made[name] = place
        return self._made[name]


def base_run(place: Path, task: str = "") -> list[str]:
    """Flags of a toy run that would be accepted."""
    fixed = ["--threads", "1", "--precision", "no", "--attention", "sdpa", "--device", "cpu"]
    out = ["--output_path", str(place / "out"), "--use_cache", str(place.parent / "store")]
    return ["--tasks", task or str(TOY / "toy.yaml"), *fixed, *out]


def flag_case(rng: random.Random, place: Path, good: Good) -> Case:
    """An option of a command with a bad value."""
    from harness_plugin.cli.parser import run_parser

    options = [a for a in run_parser()._actions if a.option_strings and a.dest != "help"]
    action = rng.choice(options)
    value = rng.choice(VALUES)
    flag = action.option_strings[0]
    given = [flag] if action.nargs == 0 else [f"{flag}={value}"]
    wrong = ""
    if action.dest == "include_path" and value.strip() and not Path(value).is_dir():
        wrong = "a folder that does not exist"
    return Case("flags", (*base_run(place), *given), wrong)


def setting_case(rng: random.Random, place: Path, good: Good) -> Case:
    """`--set` of a setting that exists, or nearly."""
    key = rng.choice(setting_names())
    if rng.random() < 0.1:
        key = rng.choice([f"{key}x", f"{key}.x", key[1:] or "x", f".{key}", key.replace(".", "..")])
    return Case("settings", (*base_run(place), "--set", f"{key}={rng.choice(VALUES)}"))


def setting_names() -> list[str]:
    """Every setting's dotted name, those of roles and students below them."""
    from harness_plugin.config import settings as s

    roles = [f"{role}.{n}" for role in ("teacher", "student") for n in s.RoleSettings.model_fields]
    students = [f"students.student.{n}" for n in s.StudentSettings.model_fields]
    teachers = [f"teachers.teacher_b.{n}" for n in s.TeacherSettings.model_fields]
    images = [f"image.{n}" for n in s.ImageSettings.model_fields]
    own = [f"toy.{n}" for n in ("rows", "annotated", "teacher.epochs", "nothing", "options.rows")]
    methods = [f"method_options.{n}" for n in ("group_dro.eta", "jtt.epochs", "jtt", "none.x")]
    runs = list(s.RunConfig.model_fields)
    return [
        *s.TaskSettings.model_fields,
        *roles,
        *students,
        *teachers,
        *images,
        *own,
        *methods,
        *runs,
    ]


def mangled(rng: random.Random, text: str) -> str:
    """A text with a piece lost, doubled, replaced or inserted."""
    lines = text.split("\n")
    spot, value = rng.randrange(len(lines)), rng.choice(VALUES)
    how = rng.randrange(6)
    if how == 0:
        del lines[spot]
    elif how == 1:
        lines.insert(spot, lines[spot])
    elif how == 2:
        key, colon, _ = lines[spot].partition(":")
        lines[spot] = f"{key}{colon or ':'} {value}"
    elif how == 3:
        lines.insert(spot, f"{' ' * rng.randrange(6)}{rng.choice(VALUES)}: {value}")
    elif how == 4:
        lines[spot] = value
    else:
        whole = "\n".join(lines)
        cut = rng.randrange(len(whole) + 1)
        return whole[:cut] + rng.choice(["", "\x00", "\t", value, "\ud800"[:0]]) + whole[cut + 3 :]
    return "\n".join(lines)


def write(path: Path, text: str | bytes) -> None:
    """Write a file; a text that UTF-8 has no bytes for as other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def yaml_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A run file, a task's file, gates or a study's plan that something is wrong with."""
    which = rng.choice(["run", "task", "field", "thresholds", "study"])
    if which == "run":
        text = yaml.safe_dump({"tasks": [str(TOY / "toy.yaml")], "seeds": [0], "settings": {
            "method": "group_dro", "teacher": {"epochs": 1, "config": {}}}})  # fmt: skip
        write(place / "run.yaml", mangled(rng, text))
        flags = base_run(place)[2:]
        return Case("yaml", ("run", "--config", str(place / "run.yaml"), *flags))
    if which == "study":
        text = yaml.safe_dump({"study": "s", "tasks": [str(TOY / "toy.yaml")], "seeds": [0, 1],
            "settings": {"teacher": {"epochs": 1}}})  # fmt: skip
        write(place / "plan.yaml", mangled(rng, text))
        cache = ("--use_cache", str(place.parent / "store"))
        return Case("yaml", ("study", str(place / "plan.yaml"), "--dry_run", *cache))
    if which == "thresholds":
        text = "gates:\n  - metric: acc\n    max_drop: 0.02\n  - metric: worst_group_acc\n"
        write(place / "gates.yaml", mangled(rng, text))
        run = str(good.get("run", results_folder))
        return Case("yaml", ("compare", run, run, "--thresholds", str(place / "gates.yaml")))
    shutil.copy(TOY / "toy_data.py", place)
    text, wrong = (TOY / "toy.yaml").read_text(encoding="utf-8"), ""
    if which == "task":
        text = mangled(rng, text)
    else:
        field, value, wrong = rng.choice(NAMES_NOTHING)
        task = yaml.safe_load(text)
        task[field] = value
        text = yaml.safe_dump(task)
    write(place / "toy.yaml", text)
    if rng.random() < 0.5 and not wrong:
        return Case("yaml", ("validate", str(place / "toy.yaml")))
    return Case("yaml", tuple(base_run(place, str(place / "toy.yaml"))), wrong)


NAMES_NOTHING = [
    ("primary_gap", "no_such_gap", "a gap that no metric computes"),
    ("bias_features", "toy_data:absent", "a function that does not exist"),
    ("bias_features", "nowhere:x", "a module that does not exist"),
    ("counterfactual", "toy_data:absent", "a function that does not exist"),
    ("sources", {"embedded": "os:system"}, "no loader"),
    ("sources", {"embedded": "os:getcwd"}, "no loader"),
    ("sources", {"embedded": "toy_data"}, "no function"),
    ("inputs", ["premise", "premise"], "one column twice"),
    ("inputs", ["premise", "label"], "the label as an input"),
    ("inputs", ["absent"], "a column that does not exist"),
]
"""Keys of a task's file whose value names nothing that could work."""


TABLE = "text,label,attribute,split\n" + "".join(
    f"words {n} of a row,{'ab'[n % 2]},{'xy'[n // 2 % 2]},{'train' if n % 3 else 'test'}\n"
    for n in range(48)
)


def table_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A table of one's own, or its task, that something is wrong with."""
    task = {"task": "mine", "base": "csv_groups", "table": "table.csv"}
    small = {"model": "bert-pico", "init": "scratch", "config": {}}
    task["recipe"] = {"all": {"teacher": small, "student": small}}  # type: ignore[assignment]
    text, name, wrong = TABLE, "table.csv", ""
    how = rng.randrange(8)
    if how == 0:
        option = rng.choice(["label", "attribute", "split", "id", "delimiter", "table", "labels",
            "purposes", "aligned", "breakdowns", "quoted"])  # fmt: skip
        task[option] = rng.choice([rng.choice(OBJECTS), rng.choice(VALUES)])
    elif how == 1:
        option, value, wrong = rng.choice([
            ("labels", ["a", "b", "c"], "a label that no row has"),
            ("inputs", ["text", "text"], "one column twice"),
            ("attribute", "label", "the label as its own attribute"),
            ("labels", ["a", "a"], "a label twice"),
        ])  # fmt: skip
        task[option] = value
    elif how == 2:
        rows = [dict(zip(("text", "label", "attribute", "split"), line.split(","), strict=True))
            for line in TABLE.split("\n")[1:-1]]  # fmt: skip
        name = task["table"] = rng.choice(["table.jsonl", "table.parquet", "table.tsv"])
        spot = rng.randrange(len(rows))
        rows[spot][rng.choice(list(rows[spot]))] = rng.choice(OBJECTS)
        text = "\n".join(json.dumps(row) for row in rows)
        if rng.random() < 0.3:
            text = text.replace("words 3 ", rng.choice(['"', "[" * 100_000, "\x00"]), 1)
    elif how == 3:
        blob = bytearray(TABLE.encode())
        for _ in range(rng.randrange(1, 5)):
            blob[rng.randrange(len(blob))] = rng.randrange(256)
        write(place / name, bytes(blob))
        text = ""
    else:
        text = mangled(rng, TABLE)
    if text:
        write(place / name, text)
    write(place / "mine.yaml", yaml.safe_dump(task))
    if wrong or rng.random() < 0.3:
        return Case("tables", tuple(base_run(place, str(place / "mine.yaml"))), wrong)
    return Case("tables", ("validate", str(place / "mine.yaml")))


def predictions_good(place: Path) -> None:
    """The rows of the toy task's first evaluation set, answered."""
    from harness_plugin.data.dataset import load_data
    from harness_plugin.data.task import read_task

    split = load_data(read_task(TOY / "toy.yaml"), "embedded").evaluation[0]
    rows = ["id,label"] + [
        f"{i},{split.labels[k]}" for i, k in zip(split.ids, split.label, strict=True)
    ]
    write(place / "answers.csv", "\n".join(rows) + "\n")
    write(place / "split.txt", split.name)
    write(place / "labels.json", json.dumps(split.labels))


def prediction_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A file of predictions that something is wrong with."""
    base = good.get("predictions", predictions_good)
    text = (base / "answers.csv").read_text(encoding="utf-8")
    split, labels = (base / "split.txt").read_text(), json.loads((base / "labels.json").read_text())
    lines = text.strip().split("\n")
    name, wrong, more = "answers.csv", "", []
    how = rng.randrange(9)
    if how == 0:
        text = mangled(rng, text)
    elif how == 1:
        spot = rng.randrange(1, len(lines))
        change = rng.choice(["gone", "twice", "label", "id"])
        wrong = f"a row: {change}"
        identity, _, _ = lines[spot].partition(",")
        replaced = {"gone": [], "twice": [lines[spot]] * 2, "label": [f"{identity},no such label"],
            "id": [f"nobody,{labels[0]}"]}[change]  # fmt: skip
        text = "\n".join([*lines[:spot], *replaced, *lines[spot + 1 :]])
    elif how == 2:
        name = "answers.jsonl"
        rows = [dict(zip(("id", "label"), line.split(","), strict=True)) for line in lines[1:]]
        spot = rng.randrange(len(rows))
        rows[spot][rng.choice(["id", "label", "logits", "text"])] = rng.choice(OBJECTS)
        text = "\n".join(json.dumps(row) for row in rows)
        if rng.random() < 0.4:
            text = (
                rng.choice(["[" * 100_000, '{"id": ' * 50_000, "\x00" * 9, "3", '"a"'])
                + "\n"
                + text
            )
    elif how == 3:
        name = "answers.csv"
        head = rng.choice(["id,prob_{0},prob_{1}", "id,logit_{0},logit_{1}"]).format(*labels)
        rows = [f"{line.partition(',')[0]},0.25,0.75" for line in lines[1:]]
        spot = rng.randrange(len(rows))
        values = rng.choice(["nan,nan", "inf,0", ",", "x,y", "-1,2", "0.9,0.9", "1e400,0", "0.5"])
        rows[spot] = f"{rows[spot].partition(',')[0]},{values}"
        text = "\n".join([head, *rows])
        wrong = "a probability that is none" if head.startswith("id,prob") else ""
        wrong = wrong or ("a logit that is no number" if values not in ("-1,2", "0.9,0.9") else "")
    elif how == 4:
        name = rng.choice(
            ["answers.parquet", "answers.npy", "answers.json", "answers", "answers.csv.gz"]
        )
    elif how == 5:
        more = [f"--model_name={rng.choice([*VALUES, '..', 'a/b', 'x' * 300, '/'])}"]
    elif how == 6:
        more = [
            "--labels",
            rng.choice(VALUES),
            "--kind",
            rng.choice(["label", "logits", "probabilities"]),
        ]
    elif how == 7:
        blob = bytearray(text.encode())
        for _ in range(rng.randrange(1, 9)):
            blob[rng.randrange(len(blob))] = rng.choice([0, 10, 34, 44, 255, rng.randrange(256)])
        write(place / name, bytes(blob))
        text = ""
    else:
        name = rng.choice(["/dev/zero", "/dev/null", ".", "absent.csv", "/proc/self/mem"])
        wrong = "no file of predictions"
    file = place / name
    if text and wrong != "no file of predictions":
        write(file, text)
    out = ["--output_path", str(place / "out"), "--resamples", "100", "--sets", split]
    argv = ("score", "--tasks", str(TOY / "toy.yaml"), "--predictions", str(file), *out, *more)
    return Case("predictions", argv, wrong)


def results_folder(place: Path) -> None:
    """What `harness score` writes of the toy task's answers."""
    predictions_good(place / "given")
    split = (place / "given" / "split.txt").read_text()
    file = str(place / "given" / "answers.csv")
    argv = ["score", "--tasks", str(TOY / "toy.yaml"), "--predictions", file, "--sets", split]
    argv += ["--teacher_predictions", file, "--output_path", str(place), "--resamples", "100"]
    argv += ["--log_samples"]
    quiet_main(argv)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in JSON."""
    if path:
        yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in items:
        yield from places(each, (*path, key))


def with_change(rng: random.Random, value: Any) -> Any:
    """JSON with one value lost, or another one in its place."""
    path = rng.choice(list(places(value)))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    if rng.random() < 0.3:
        del holder[path[-1]]
    else:
        holder[path[-1]] = rng.choice(OBJECTS)
    return value


def result_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A results folder that something is wrong with, before every command that reads one."""
    base = good.get("run", results_folder)
    shutil.copytree(base, place / "run")
    files = [f for f in (place / "run").rglob("*") if f.is_file() and f.suffix in (".json", ".csv")]
    file = next(f for f in files if f.name.startswith("transfer_"))
    if rng.random() < 0.2:
        file = rng.choice(files)
    if file.suffix == ".json" and rng.random() < 0.7:
        write(file, json.dumps(with_change(rng, json.loads(file.read_text()))))
    elif rng.random() < 0.3:
        write(file, rng.choice(["", "[" * 100_000, "{", "null", "[]", "3", "\x00" * 99, "NaN"]))
    else:
        write(file, mangled(rng, file.read_text(encoding="utf-8")))
    run = str(place / "run")
    command = rng.choice(["compare", "report", "submit", "analyze"])
    argv = {
        "compare": ("compare", str(base), run, "--resamples", "100"),
        "report": ("report", run, "--output_path", str(place / "page")),
        "submit": (
            "submit",
            run,
            "--output_path",
            str(place / "b.zip"),
            "--name",
            "n",
            "--allow_embedded",
        ),
        "analyze": ("analyze", run, "--cka"),
    }[command]
    return Case("results", argv)


def finished_run(place: Path) -> None:
    """A trained run of the toy task, as small as can be."""
    quiet_main([*base_run(place), "--seeds", "0", "--log_samples", "--resamples", "100",
        "--set", "teacher.epochs=0.1", "--set", "student.epochs=0.1"])  # fmt: skip


def quiet_main(argv: list[str]) -> None:
    """Run a command that must succeed; what it prints is not shown."""
    from harness_plugin.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if main(argv) != 0:
            raise RuntimeError(f"a good input cannot be made: {argv}")


def bundle_good(place: Path, good: Good) -> None:
    """A bundle of a run on generated data, as a folder."""
    run = good.run or good.get("finished", finished_run) / "out"
    quiet_main(
        ["submit", str(run), "--output_path", str(place / "b"), "--name", "n", "--allow_embedded"]
    )


def bundle_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A bundle that something is wrong with."""
    base = good.get("bundle", lambda folder: bundle_good(folder, good))
    base = base / "b"
    parts = {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*") if p.is_file()}
    key = rng.choice(sorted(parts))
    how = rng.randrange(5)
    if how == 0:
        del parts[key]
    elif how == 1:
        blob = bytearray(parts[key])
        blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
        parts[key] = bytes(blob)
    elif how == 2 and key.endswith(".json"):
        parts[key] = json.dumps(with_change(rng, json.loads(parts[key]))).encode()
    elif how == 3:
        name = rng.choice(
            ["../x", "/x", "tasks/../x.json", "a\\b", "tasks/t/results.json", "x\x00y"]
        )
        parts[name] = rng.choice([b"", b"{}", parts[key]])
    else:
        deep = rng.choice([b"[" * 200_000, b"[[]," * 100_000, b'{"a":' * 50_000, b"", b"\x00" * 64])
        parts[key] = deep
    if rng.random() < 0.5 and "manifest.json" in parts:
        parts["manifest.json"] = manifest_for(parts)
    file = place / "b.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    if rng.random() < 0.1:
        blob = bytearray(file.read_bytes())
        blob[rng.randrange(len(blob))] ^= 0xFF
        file.write_bytes(bytes(blob))
    if rng.random() < 0.2:
        where = (
            "leaderboard",
            str(place),
            "--output_path",
            str(place / "site"),
            "--allow_embedded",
        )
        return Case("bundles", (*where, "--skip_refused"))
    return Case("bundles", ("verify", str(file), "--allow_embedded"))


def manifest_for(parts: dict[str, bytes]) -> bytes:
    """The manifest of changed parts, as a stranger would write it."""
    import hashlib

    try:
        listed = json.loads(parts["manifest.json"])
        listed["parts"] = {
            key: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for key, content in parts.items()
            if key != "manifest.json"
        }
        return json.dumps(listed).encode()
    except (ValueError, TypeError, RecursionError):
        return parts["manifest.json"]


MAKERS: dict[str, Callable[[random.Random, Path, Good], Case]] = {
    "flags": flag_case,
    "settings": setting_case,
    "yaml": yaml_case,
    "tables": table_case,
    "predictions": prediction_case,
    "results": result_case,
    "bundles": bundle_case,
}
