"""Search, choose and run plans within a time budget, on a machine that is there for minutes.

    python examples/run_within.py OUTPUT --budget 540 --workers 14
        --search examples/pretrained_nli/search.yaml=0.17
        --plan examples/pretrained_nli/transfer.yaml=0.7 --plan examples/toxicity/transfer.yaml=0.85

Runs in a folder that holds what the plans name (the examples' README.md). The number after a plan
is the share of the budget until which it may train. The search (pretrained_nli/choose.py) gives the
arms of the first plan. Of a plan with further factors than `arm` the first levels are trained
first; the others follow once every plan had its turn, if there is time. Trainings that are not
finished are left out; tables are made of those that are. Everything is an ordinary call of `harness
study`, whose store (--store) continues it elsewhere. OUTPUT gets the tables and reports, the plans,
and archives with everything of the store but weights.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CHOOSE = HERE / "pretrained_nli" / "choose.py"

SHORTEST = 60.0
"""Seconds; workers take half of it to start, and what they had begun is lost at the end."""

ARCHIVE = 13 * 2**20
"""Bytes after which another archive is begun."""

SHARE = re.compile(r"0?\.\d+|1(\.0+)?")

COUNTED = re.compile(rb"\[(\d+)/(\d+)\]|(FAILED)")
"""What `harness study` says of every training that ended."""


class Driver:
    """The calls of `harness study`, each with an end in sight."""

    def __init__(self, args: argparse.Namespace, more: Sequence[str]) -> None:
        self.started = time.monotonic()
        self.budget: float = args.budget
        self.workers: int = args.workers
        self.store: Path = args.store.resolve()
        self.output: Path = args.output.resolve()
        self.more = more
        self.output.mkdir(parents=True, exist_ok=True)
        threads = {
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        paths = [
            str(ROOT),
            str(ROOT / "tasks"),
            str(ROOT / "hooks"),
            os.environ.get("PYTHONPATH", ""),
        ]
        self.environment = {
            **os.environ,
            **threads,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }

    def left(self, share: float = 1.0) -> float:
        """Seconds until `share` of the budget is over."""
        return share * self.budget - (time.monotonic() - self.started)

    def say(self, what: str) -> None:
        """One line with the time."""
        print(f"--- {time.monotonic() - self.started:5.0f} s: {what}", flush=True)

    def start(self, plan: Path, name: str, *words: str) -> subprocess.Popen[bytes]:
        """`harness study` on a plan, in a process group of its own."""
        command = [sys.executable, str(ROOT / "harness"), "study", str(plan), *self.more]
        command += [
            "--use_cache",
            str(self.store),
            "--output_path",
            str(self.output / name),
            *words,
        ]
        return subprocess.Popen(
            command, env=self.environment, start_new_session=True, stdout=subprocess.PIPE
        )

    def train(self, plan: Path, name: str, until: float) -> bool:
        """Train what is open until `until` of the budget, without scoring; whether all ended."""
        self.say(f"{name}: training, {self.left(until):.0f} s at most")
        running = self.start(plan, name, "--workers", str(self.workers))
        ended = threading.Event()
        reader = threading.Thread(target=self.listen, args=(running, ended), daemon=True)
        reader.start()
        while not ended.is_set() and running.poll() is None and self.left(until) > 0:
            ended.wait(0.5)
        self.stop(running)
        reader.join(5)
        return ended.is_set()

    def listen(self, running: subprocess.Popen[bytes], ended: threading.Event) -> None:
        """Pass the lines on; say when the last training has ended."""
        failures = 0
        assert running.stdout is not None
        for line in running.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            if count := COUNTED.search(line):
                failures += bool(count[3])
                done, of = (int(count[1]), int(count[2])) if count[1] else (0, 1)
                if done and done + failures >= of:
                    ended.set()

    def stop(self, running: subprocess.Popen[bytes]) -> None:
        """Interrupt, and kill what does not listen."""
        for how in (signal.SIGINT, signal.SIGKILL):
            if running.poll() is not None:
                return
            os.killpg(running.pid, how)
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                self.say("it does not stop: killed")

    def ends(self, running: subprocess.Popen[bytes], until: float) -> None:
        """Wait for a report, and interrupt it when the time is over."""
        try:
            output, _ = running.communicate(timeout=max(self.left(until), 1))
            print(output.decode(errors="replace"), flush=True)
        except subprocess.TimeoutExpired:
            self.stop(running)


def only(plan: Path, folder: Path, name: str, **levels: str) -> Path:
    """The plan with one level of each factor named, as the study `name`: the same trainings."""
    content = yaml.safe_load(plan.read_text(encoding="utf-8"))
    left_out = [
        {factor: [other for other in content["factors"][factor] if other != level]}
        for factor, level in levels.items()
        if len(content["factors"][factor]) > 1
    ]
    content["leave_out"] = [*content.get("leave_out", []), *left_out]
    content["study"] = name
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def first_levels(plan: Path, folder: Path) -> Path:
    """The plan with the first level of every factor but `arm`."""
    content = yaml.safe_load(plan.read_text(encoding="utf-8"))
    first = {name: next(iter(levels)) for name, levels in content["factors"].items()}
    first.pop("arm", None)
    return only(plan, folder, f"{content['study']}_first", **first)


def arms(plan: Path) -> list[str]:
    """The levels of the factor `arm`."""
    return list(yaml.safe_load(plan.read_text(encoding="utf-8"))["factors"]["arm"])


def index(store: Path, plans: Sequence[Path]) -> list[dict[str, Any]]:
    """Which model of the store is whose: study, levels, role and seed of every training."""
    from harness_plugin.config.merge import task_settings
    from harness_plugin.config.roles import plan_of_roles
    from harness_plugin.data.task import find_task
    from harness_plugin.plugins.registry import load_plugins
    from harness_plugin.study.graph import graph_of
    from harness_plugin.study.plan import read_study
    from harness_plugin.study.training_records import TrainingRecords

    records, plugins, models = TrainingRecords(store), load_plugins(), []
    for plan in plans:
        graph = graph_of(read_study(plan), plugins)
        study = graph.study
        for configuration, nodes in zip(study.configurations, graph.roles, strict=True):
            name = study.task_of(configuration)
            task, settings = find_task(name, plugins["task"]), study.settings_of(configuration)
            roles = plan_of_roles(task_settings(task, "path", [name, task.task], settings))
            about = {"study": study.name, **study.levels_of(configuration)}
            for role, node in zip(roles, nodes, strict=True):
                for seed in configuration.seeds:
                    if record := records.record(graph.name_of(node, seed)):
                        model = {"role": role, "seed": seed, "model": record["stage"]}
                        models.append({**about, **model})
    return models


def pack(store: Path, output: Path, plans: Sequence[Path]) -> None:
    """Predictions (half precision), records and scores of the store, oldest first, in archives.

    Weights, encoded rows and what teachers say of training rows stay.
    """
    (output / "index.json").write_text(json.dumps(index(store, plans)), encoding="utf-8")
    kinds = ("logits-", "model-", "study_scores-", "bias_model-", "studies")
    stages = [place for place in store.iterdir() if place.name.startswith(kinds)]
    files = [
        file
        for stage in sorted(stages, key=lambda place: place.stat().st_mtime)
        if stage.is_dir() and not stage.name.endswith(".partial")
        for file in sorted(stage.iterdir())
        if file.suffix == ".json" or file.name == "logits.npy"
        if not file.name.startswith(("tokenizer", "config"))
    ]
    number = 0
    while files:
        number += 1
        target = output / f"store_{number}.tar.xz"
        with tarfile.open(target, "w:xz", preset=1) as archive:
            while files and target.stat().st_size < ARCHIVE:
                file = files.pop(0)
                content = file.read_bytes()
                if file.suffix == ".npy":
                    half = io.BytesIO()
                    np.save(half, np.load(file).astype(np.float16))
                    content = half.getvalue()
                entry = tarfile.TarInfo(file.relative_to(store).as_posix())
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def with_share(text: str) -> tuple[Path, float]:
    """`PLAN=SHARE` as the file and the share of the budget until which it trains."""
    name, _, share = text.rpartition("=")
    if not name or not SHARE.fullmatch(share):
        raise argparse.ArgumentTypeError(f"{text!r}: PLAN=SHARE is needed, with a share up to 1")
    return Path(name).resolve(), float(share)


def choose(driver: Driver, search: Path, plan: Path) -> Path:
    """The plan with the arms that the search takes; as it is where the search took none."""
    output = driver.output / plan.name
    command = [str(CHOOSE), str(driver.output / "search"), "--search", str(search)]
    command += ["--plan", str(plan), "--output", str(output)]
    result = subprocess.run(
        [sys.executable, *command], env=driver.environment, capture_output=True, text=True
    )
    print(result.stdout, result.stderr[-500:], sep="\n", flush=True)
    (driver.output / "search.md").write_text(result.stdout, encoding="utf-8")
    if result.returncode:
        driver.say("the search chose nothing: the plan as it is")
        output.write_bytes(plan.read_bytes())
    return output


def main() -> None:
    """Search, choose, the plans' first levels, the others, scores, archives."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS")
    parser.add_argument("--workers", type=int, default=14, metavar="N")
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--search", type=with_share, metavar="PLAN=SHARE")
    parser.add_argument(
        "--plan", type=with_share, action="append", required=True, metavar="PLAN=SHARE"
    )
    parser.epilog = "What stands behind -- goes to every call of harness study."
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:at])
    driver = Driver(args, more=words[at + 1 :])
    sys.path[:0] = [str(ROOT), str(ROOT / "tasks"), str(ROOT / "hooks")]
    plans = [plan for plan, _ in args.plan]
    searches = []
    if args.search:
        search, until = args.search
        searches = [search]
        driver.train(search, "search", until)
        driver.ends(driver.start(search, "search", "--report"), until + 0.08)
        plans[0] = choose(driver, search, plans[0])
    firsts = [first_levels(plan, driver.output) for plan in plans]
    last = max(until for _, until in args.plan)
    whole = [
        driver.train(first, first.stem, until)
        for first, (_, until) in zip(firsts, args.plan, strict=True)
    ]
    for plan, done in zip(plans, whole, strict=True):
        if done and driver.left(last) > SHORTEST:
            driver.train(plan, plan.stem, last)
    reports = [
        driver.start(only(first, driver.output, f"{first.stem}_{arm}", arm=arm), arm, "--report")
        for first in firsts
        for arm in arms(first)
    ]
    reports += [
        driver.start(plan, f"{plan.stem}_{n}", "--report")
        for group in (firsts, plans)
        for n, plan in enumerate(group)
    ]
    driver.say("packing")
    pack(driver.store, driver.output, [*searches, *plans])
    for report in reports:
        driver.ends(report, 1.0)
    driver.say("done")


if __name__ == "__main__":
    main()
