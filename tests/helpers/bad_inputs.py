"""Bad input of every kind, made from a seed: what people mistype, disks mangle, strangers send.

`cases(folder, count, seed)` gives command lines, with their files written below `folder`;
`outcome` runs one in this process. A run that accepts its input ends where training begins.
"""

from __future__ import annotations

import contextlib
import io
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bad_input_files import prediction_case, table_case, yaml_case
from bad_input_parts import VALUES, Case, Good, base_run
from bad_input_results import bundle_case, result_case

LIMIT = 20
"""Seconds of computing after which a case counts as one that hangs."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case: the exit status, what was printed, what is wrong with that."""

    case: Case
    status: int
    output: str
    seconds: float
    fault: str
    hangs: bool
    megabytes: float
    """Of memory, at the most, above what this process had before."""


class HangError(BaseException):
    """A case took too long; no `except Exception` on the way takes it for a fault of its own."""


class AcceptedError(BaseException):
    """A run that would train now."""


def outcome(case: Case) -> Outcome:
    """Run a case here: a fault is a traceback, a hang, or acceptance of what is wrong."""
    import harness_plugin.run_tasks as run_tasks
    from harness_plugin.cli.main import main

    def accepted(*_: object) -> None:
        raise AcceptedError

    def late(*_: object) -> None:
        raise HangError

    printed, fault, status, original = io.StringIO(), "", -1, run_tasks.run_task
    before = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    started, idle, hangs = time.monotonic(), memory(anew=True), False
    run_tasks.run_task = accepted  # type: ignore[assignment]
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    signal.alarm(15 * LIMIT)  # what waits for ever; a busy machine is no hang
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = main(list(case.argv))
    except AcceptedError:
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except HangError:
        hangs, fault = True, f"hangs: {traceback.format_exc()}"
    except BaseException:
        fault = traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        run_tasks.run_task = original
    output = printed.getvalue()
    if not fault and "Traceback (most recent" in output:
        fault = output
    if not fault and case.wrong and status == 0:
        fault = f"accepted: {case.wrong}"
    if not fault and status not in (0, 1, 2, 3):  # 3: compare cannot tell
        fault = f"status {status}"
    if not fault and status == 2 and not output.strip():
        fault = "refused without a word"
    seconds, more = time.monotonic() - started, memory() - idle
    return Outcome(case, status, output, seconds, fault, hangs, more)


def memory(anew: bool = False) -> float:
    """The most MB that this process has held, since the last call with `anew`; 0.0 off Linux."""
    if not (status := Path("/proc/self/status")).exists():
        return 0.0
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def cases(folder: Path, count: int, seed: int, kinds: Sequence[str], good: Good) -> Iterator[Case]:
    """`count` cases, of the kinds in turn; the same seed gives the same ones."""
    makers = {name: MAKERS[name] for name in kinds}
    for number in range(count):
        names = list(makers)
        name = names[number % len(names)]
        place = folder / f"case-{number}"
        place.mkdir(parents=True)
        yield makers[name](random.Random(f"{seed}-{number}-{name}"), place, good)


def flag_case(rng: random.Random, place: Path, good: Good) -> Case:
    """An option of a command with a bad value."""
    from harness_plugin.cli.parser import run_parser

    options = [a for a in run_parser()._actions if a.option_strings and a.dest != "help"]
    action = rng.choice(options)
    value = rng.choice(VALUES)
    flag = action.option_strings[0]
    values = [flag] if action.nargs == 0 else [f"{flag}={value}"]
    wrong = ""
    if action.dest == "include_path" and value.strip() and not Path(value).is_dir():
        wrong = "a folder that does not exist"
    return Case("flags", (*base_run(place), *values), wrong)


def setting_case(rng: random.Random, place: Path, good: Good) -> Case:
    """`--set` of a setting that exists, or nearly."""
    key = rng.choice(setting_names())
    if rng.random() < 0.1:
        key = rng.choice([f"{key}x", f"{key}.x", key[1:] or "x", f".{key}", key.replace(".", "..")])
    return Case("settings", (*base_run(place), "--set", f"{key}={rng.choice(VALUES)}"))


def setting_names() -> list[str]:
    """Every setting's dotted name, those of roles and students below them."""
    from harness_plugin.config import settings as s
    from harness_plugin.config.run_config import RunConfig

    roles = [f"{role}.{n}" for role in ("teacher", "student") for n in s.RoleSettings.model_fields]
    students = [f"students.student.{n}" for n in s.StudentSettings.model_fields]
    teachers = [f"teachers.teacher_b.{n}" for n in s.TeacherSettings.model_fields]
    images = [f"image.{n}" for n in s.ImageSettings.model_fields]
    own = [f"toy.{n}" for n in ("rows", "annotated", "teacher.epochs", "nothing", "options.rows")]
    methods = [f"method_options.{n}" for n in ("group_dro.eta", "jtt.epochs", "jtt", "none.x")]
    runs = list(RunConfig.model_fields)
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


MAKERS: dict[str, Callable[[random.Random, Path, Good], Case]] = {
    "flags": flag_case,
    "settings": setting_case,
    "yaml": yaml_case,
    "tables": table_case,
    "predictions": prediction_case,
    "results": result_case,
    "bundles": bundle_case,
}
