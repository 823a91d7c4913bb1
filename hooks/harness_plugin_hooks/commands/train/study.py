"""`harness study PLAN`: many runs planned together, each model trained once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.cli.parser import Parser, add_run_options, seed_list
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import quiet_libraries
from harness_plugin.machine.terminal import show_table

if TYPE_CHECKING:
    from harness_plugin.plugins.registry import Plugins
    from harness_plugin.study.executors import Executor
    from harness_plugin.study.graph import Graph
    from harness_plugin.study.results import Rows
    from harness_plugin.study.scheduler import Progress

EXAMPLES = """\
examples:
  harness study plan.yaml --dry_run      what it comes to, what sharing saves
  harness study plan.yaml --workers 2    two trainings at a time on this machine
  harness study plan.yaml --executor ray --address auto
  harness study plan.yaml --executor slurm --slurm slurm_partition=gpu
  harness study plan.yaml --status       how far it is; needs the store alone
  harness study plan.yaml --report       tables and pages of what is finished

The same command continues: what is done is never trained again. Exit status: 0 done, 1 some
trainings failed, 2 bad input, 130 interrupted.
"""


def parser() -> Parser:
    """Every option of `harness study`."""
    out = Parser(
        "harness study",
        description="Run a matrix of tasks, methods, sizes, remedies and seeds, described in one "
        "YAML plan (docs/studies.md). Equal models are trained once.",
        epilog=EXAMPLES,
    )
    out.add_argument("plans", type=Path, nargs="+", metavar="PLAN", help="YAML files, one a study")
    what = out.add_argument_group("what to do (default: train what is open, score, report)")
    alone = what.add_mutually_exclusive_group()
    alone.add_argument("--dry_run", action="store_true", help="show the plan, train nothing")
    alone.add_argument("--status", action="store_true", help="show how far it is, train nothing")
    alone.add_argument("--report", action="store_true", help="score and report what is finished")
    alone.add_argument(
        "--resume", action="store_true", help="continue; an error where nothing of it is done"
    )
    where = out.add_argument_group("where")
    where.add_argument(
        "--executor", choices=("local", "ray", "slurm"), default="local", help="local"
    )
    where.add_argument(
        "--workers", type=int, metavar="N", help="trainings at a time (local: 1, in this process)"
    )
    where.add_argument(
        "--address", metavar="HOST:PORT", help="of a Ray cluster (auto: the running one)"
    )
    where.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of submitit: timeout_min=240, slurm_partition=gpu, slurm_account=…; "
        "cluster=local runs the jobs on this machine",
    )
    add_run_options(where, "use_cache")
    where.add_argument(
        "--output_path", type=Path, metavar="DIR", help="results (default: results/STUDY)"
    )
    change = out.add_argument_group("changes to the plan")
    change.add_argument("--seeds", type=seed_list, default=(), metavar="N[,N]", help="these seeds")
    change.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a task setting"
    )
    return out


def main(words: list[str]) -> int:
    """Plan, then train, score and report; the exit status says whether all went well."""
    args = vars(parser().parse_args(words))
    if args["workers"] is not None and args["workers"] < 1:
        raise HarnessError(f"--workers {args['workers']}: expected at least 1.")
    if args["address"] and args["executor"] != "ray":
        raise HarnessError("--address is for --executor ray.")
    if args["slurm"] and args["executor"] != "slurm":
        raise HarnessError("--slurm is for --executor slurm.")
    from harness_plugin.store.stages import default_root

    chosen = args["use_cache"] or os.environ.get("HARNESS_PLUGIN_CACHE") or ""
    if "://" in str(chosen):
        raise HarnessError(
            f"--use_cache {chosen}: models are read through memory maps, which need a file system. "
            "Mount the bucket (fsspec's FUSE, s3fs, gcsfuse), and give its folder."
        )
    root = Path(args["use_cache"] or default_root()).absolute()
    plugins = installed_plugins()
    status = 0
    for graph in planned(args, plugins):
        folder = args["output_path"] or Path("results")
        folder = folder / graph.study.name if len(args["plans"]) > 1 else folder
        if args["output_path"] is None and len(args["plans"]) == 1:
            folder = folder / graph.study.name
        status = max(status, one_study(graph, root, folder, args))
    return status


def planned(args: dict[str, Any], plugins: Plugins) -> list[Graph]:
    """All plans, checked before the first is run."""
    from harness_plugin.study.graph import graph_of
    from harness_plugin.study.plan import read_study

    studies = [read_study(file, args["set"], args["seeds"]) for file in args["plans"]]
    names = [study.name for study in studies]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise HarnessError(f"two plans are called {', '.join(twice)}.")
    return [graph_of(study, plugins) for study in studies]


def one_study(graph: Graph, root: Path, folder: Path, args: dict[str, Any]) -> int:
    """Do with one study what was asked for."""
    from harness_plugin.study.scheduler import execute, failed_before, so_far
    from harness_plugin.study.status import summary
    from harness_plugin.study.training_records import TrainingRecords

    records = TrainingRecords(root)
    progress = so_far(graph, records)
    slots = args["workers"] or 1
    if args["status"] or args["report"]:
        failed_before(graph, records, progress)
    others = records.models_besides(progress.done.values())
    print(*summary(graph, progress, slots, others), sep="\n", flush=True)
    if args["status"]:
        show_status(graph, progress, records)
        return 0
    if args["dry_run"]:
        return 0
    if args["resume"] and not progress.done:
        raise HarnessError(f"study {graph.study.name}: nothing of it is in {root} yet.")
    from harness_plugin.pipeline.outputs import check_writable

    check_writable(folder)
    if not args["report"]:
        quiet_libraries()
        graph.check_choices(installed_plugins())
        executor = executor_of(args, graph, root)
        with ProgressPrinter(graph) as printer:
            progress = execute(graph, executor, root, printer)
    return finished(graph, progress, root, folder)


def executor_of(args: dict[str, Any], graph: Graph, root: Path) -> Executor:
    """Where the trainings run; `root` is the store, which all nodes see."""
    from harness_plugin.study.executors import InProcess, Workers

    if args["executor"] == "ray":
        from harness_plugin_hooks.study.ray_executor import RayExecutor

        return RayExecutor.open(args["address"], args["workers"], graph.study.plan.resources)
    if args["executor"] == "slurm":
        from harness_plugin_hooks.study.slurm_executor import SlurmExecutor

        options = slurm_options(args["slurm"])
        cluster = str(options.pop("cluster", "slurm"))
        return SlurmExecutor.open(root / "slurm", args["workers"], options, cluster=cluster)
    return Workers(args["workers"]) if (args["workers"] or 1) > 1 else InProcess()


def slurm_options(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE as submitit takes them: numbers as numbers; HarnessError for one without `=`."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise HarnessError(f"--slurm {pair}: expected KEY=VALUE, such as timeout_min=240.")
        options[name] = int(value) if value.isdigit() else value
    return options


class ProgressPrinter:
    """Says what happens: a live table on a terminal, a line a training elsewhere."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.printed: set[tuple[int, int]] = set()
        self.live: Any = None
        self.next_look = 0.0

    def __enter__(self) -> ProgressPrinter:
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(refresh_per_second=2, transient=False)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, progress: Progress) -> None:
        """Show the state."""
        if self.live is not None:
            from harness_plugin.study.status import table_of

            if (started_looking := time.monotonic()) >= self.next_look:
                self.live.update(table_of(self.graph, progress, progress.elsewhere))
                # a table of 100,000 trainings takes a while: at most a hundredth of the time
                self.next_look = started_looking + 100 * (time.monotonic() - started_looking)
            return
        if not self.printed:
            self.printed = {*progress.done} if progress.resumed else {(-1, -1)}
        from harness_plugin.machine.progress import duration

        for node, seed in [w for w in progress.done if w not in self.printed]:
            record, one = progress.done[node, seed], self.graph.nodes[node]
            how = "from the store" if record.get("reused") else duration(record["seconds"])
            count = f"[{len(progress.done)}/{self.graph.trainings}]"
            print(f"  {count} {one.task} {one.role} ({one.method}) seed {seed}: {how}", flush=True)
        for node, seed in [w for w in progress.failed if w not in self.printed]:
            failure, one = progress.failed[node, seed], self.graph.nodes[node]
            print(f"  FAILED {one.task} {one.role} seed {seed}: {failure.error}", flush=True)
        self.printed |= {*progress.done, *progress.failed}


def show_status(graph: Graph, progress: Progress, ledger: Any) -> None:
    """The table of a study that may be running elsewhere."""
    from harness_plugin.study.status import table_of

    owners = {
        which: owner
        for which in graph.instances()
        if which not in progress.done and (owner := ledger.owner(graph.name_of(*which)))
    }
    show_table(table_of(graph, progress, owners))


def finished(graph: Graph, progress: Progress, root: Path, folder: Path) -> int:
    """Score what is finished, write tables and report; 1 when something failed."""
    from harness_plugin.study import results

    quiet_libraries()
    rows = results.rows_of_study(graph, progress, root, quiet=False)
    if not (rows.numbers or rows.failures or progress.failed):
        raise HarnessError(f"study {graph.study.name}: no configuration is finished in any seed.")
    for one in rows.failures:
        print(f"  FAILED scores of {one['configurations'][0]}: {one['error']}", flush=True)
    files = results.write(graph, progress, rows, folder)
    if rows.numbers:
        files = [*report_of(graph, progress, rows, root, folder), *files]
    for file in files:
        print(f"  {file}")
    if progress.failed:
        names = {f.error for f in progress.failed.values() if f.tries}
        print(
            f"harness: {len(progress.failed)} of {graph.trainings} trainings failed "
            f"({'; '.join(sorted(names))[:500]}); the same command tries them again.",
            file=sys.stderr,
        )
    return 1 if progress.failed or rows.failures else 0


def report_of(graph: Graph, progress: Progress, rows: Rows, root: Path, folder: Path) -> list[Path]:
    """Write tables, report and chart; with the parameters of the sizes that are factors."""
    if not any(row["role"].startswith("student") for row in rows.numbers):
        print("  no student, so that there is no report: the tables have all numbers")
        return []
    import pandas as pd

    from harness_plugin.store.files import write_json
    from harness_plugin_hooks.study import report
    from harness_plugin_hooks.study.report.sizes import sizes

    parameters = sizes(graph, progress, root)
    tables = pd.DataFrame(rows.numbers), pd.DataFrame(rows.estimates)
    files = report.write(folder, graph.study, *tables, parameters)
    if parameters:
        files.append(folder / f"sizes_{graph.study.name}.json")
        write_json(files[-1], parameters)
    return files
