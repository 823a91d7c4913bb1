"""`harness analyze`: what happens inside the models of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.cli.parser import Parser, comma_list, seed_list
from harness_plugin.cli.startup import installed_plugins, is_main_process, quiet_libraries
from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    from harness_plugin.plugins.registry import Plugins

EXAMPLES = """\
examples:
  harness analyze results
  harness analyze results --cka --groups aligned,conflicting --split hans
  harness analyze results --attention --matched 256
  harness analyze results --cka --pool cls --rbf 0.5 --examples 1000
  harness analyze results --circuits --corruption swap --pairs 200

Checkpoints that were made elsewhere: `harness --eval_only … --output_path DIR` first, then
`harness analyze DIR`.
"""


def parser(plugins: Plugins | None = None) -> Parser:
    """Every option of `harness analyze`, one for each analysis that `plugins` offer."""
    out = Parser(
        prog="harness analyze",
        description="Compare the insides of the teacher, student and control of a finished run.",
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    from argparse import RawDescriptionHelpFormatter

    out.formatter_class = RawDescriptionHelpFormatter
    out.add_argument("run", type=Path, metavar="RUN", help="the --output_path of a run")
    which = out.add_argument_group("analyses (default: all)")
    for offer in (plugins or installed_plugins())["analysis"]:
        which.add_argument(f"--{offer.name}", action="store_true", help=offer.summary)
    rows = out.add_argument_group("models and rows")
    rows.add_argument("--tasks", type=comma_list, default=(), metavar="A,B", help="of the run")
    rows.add_argument("--started", metavar="TIME", help="which run, where RUN holds several")
    rows.add_argument(
        "--roles", type=comma_list, default=(), metavar="A,B", help="default: the three of a run"
    )
    rows.add_argument("--seeds", type=seed_list, default=(), metavar="0,1", help="default: all")
    rows.add_argument("--split", metavar="SET", help="default: the first with both kinds of rows")
    rows.add_argument(
        "--groups",
        type=comma_list,
        metavar="A,B",
        help="aligned, conflicting, all, or the set's own groups; equally many rows of each "
        "(default: aligned and conflicting, all where a set says not which are)",
    )
    rows.add_argument(
        "--examples", type=int, default=2000, metavar="N", help="at most, of each group (2000)"
    )
    cka = out.add_argument_group("CKA")
    cka.add_argument(
        "--pool",
        choices=("mean", "cls", "tokens"),
        default="mean",
        help="a row's vector: mean over real tokens (default), the first token; or every token",
    )
    cka.add_argument(
        "--rbf", type=float, metavar="W", help="Gaussian kernel, W x the median distance wide"
    )
    cka.add_argument(
        "--views",
        type=comma_list,
        default=("plain", "standardised", "without_top"),
        metavar="A,B",
        help="features as they are, standardised, without their dominant direction",
    )
    cka.add_argument("--permutations", type=int, default=100, metavar="N", help="of the null (100)")
    cka.add_argument("--float64", action="store_true", help="Gram matrices in double precision")
    attention = out.add_argument_group("attention")
    attention.add_argument(
        "--matched",
        type=int,
        default=128,
        metavar="N",
        help="rows of each group on which every head is compared with every head (128)",
    )
    circuits = out.add_argument_group("circuits")
    circuits.add_argument(
        "--pairs", type=int, default=128, metavar="N", help="clean and corrupted, all groups (128)"
    )
    circuits.add_argument(
        "--corruption",
        choices=("auto", "swap", "negation", "premise", "counterfactual", "mean"),
        default="auto",
        help="how a row's twin differs; mean: no twin, nodes say their means (auto: the first that "
        "the task has)",
    )
    circuits.add_argument(
        "--ig_steps", type=int, default=10, metavar="M", help="of EAP-IG (10); 0: plain EAP"
    )
    circuits.add_argument(
        "--random_circuits", type=int, default=3, metavar="N", help="of every size (3)"
    )
    probes = out.add_argument_group("linear probes")
    probes.add_argument("--probe_rows", type=int, default=2000, metavar="N", help="in all (2000)")
    probes.add_argument("--probe_folds", type=int, default=5, metavar="N", help="(5)")
    probes.add_argument(
        "--probe_permutations",
        type=int,
        default=1,
        metavar="N",
        help="trainings on shuffled targets, each layer of each model (1)",
    )
    out.add_argument("--resamples", type=int, default=1000, metavar="N", help="of intervals (1000)")
    out.add_argument("--seed", type=int, default=0, metavar="N", help="of rows and resamples (0)")
    out.add_argument("--output_path", type=Path, metavar="DIR", help="default: RUN")
    out.add_argument("--device", metavar="NAME", help="default: that of the run")
    out.add_argument("--threads", type=int, metavar="N", help="default: those of the run")
    return out


def main(words: list[str]) -> int:
    """Analyse every task of the run, show tables, write the files."""
    plugins = installed_plugins()
    given = vars(parser(plugins).parse_args(words))
    check(given)
    from harness_plugin.analysis.open_run import open_run
    from harness_plugin.analysis.run_analyses import (
        AnalysisRequest,
        chosen_analyses,
        make,
        show,
        write,
    )
    from harness_plugin.pipeline.outputs import check_writable

    folder: Path = given["output_path"] or given["run"]
    quiet_libraries()
    tasks = open_run(
        given["run"],
        plugins,
        started=given["started"],
        tasks=given["tasks"],
        machine={"device": given["device"], "threads": given["threads"]},
    )
    check_writable(folder)
    names = chosen_analyses([o.name for o in plugins["analysis"] if given[o.name]], plugins)
    wanted = AnalysisRequest(
        roles=given["roles"],
        seeds=given["seeds"],
        split=given["split"],
        groups=given["groups"] or (),
        examples=given["examples"],
        seed=given["seed"],
        options=options_of(given),
    )
    for task in tasks:
        made = make(task, names, wanted)
        if is_main_process():
            show(made.findings)
            for file in write(made, folder):
                print(f"  {file}")
    return 0


def check(given: dict[str, Any]) -> None:
    """Refuse numbers that mean nothing, before anything is loaded."""
    least = {"examples": 4, "matched": 1, "permutations": 0, "resamples": 100, "threads": 1}
    least |= {"pairs": 1, "ig_steps": 0, "random_circuits": 0}
    least |= {"probe_rows": 20, "probe_folds": 2, "probe_permutations": 0}
    for name, fewest in least.items():
        if given[name] is not None and given[name] < fewest:
            raise HarnessError(f"--{name} {given[name]}: expected at least {fewest}.")
    if given["rbf"] is not None and not given["rbf"] > 0:
        raise HarnessError(f"--rbf {given['rbf']:g}: expected a width above 0.")
    if given["groups"] == ():
        raise HarnessError("--groups: name at least one group.")


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """The options of every analysis, by its name."""
    from harness_plugin_hooks.analyses.attention_report import AttentionOptions
    from harness_plugin_hooks.analyses.circuits import CircuitOptions
    from harness_plugin_hooks.analyses.cka import Kernel
    from harness_plugin_hooks.analyses.probes import ProbeOptions
    from harness_plugin_hooks.analyses.similarity import CKAOptions

    return {
        "cka": CKAOptions(
            pool=given["pool"],
            kernel=Kernel(given["rbf"]),
            views=given["views"],
            permutations=given["permutations"],
            resamples=given["resamples"],
            seed=given["seed"],
            double=given["float64"],
        ),
        "attention": AttentionOptions(
            matched=given["matched"], resamples=given["resamples"], seed=given["seed"]
        ),
        "circuits": CircuitOptions(
            pairs=given["pairs"],
            corruption=given["corruption"],
            ig_steps=given["ig_steps"],
            random_circuits=given["random_circuits"],
            resamples=given["resamples"],
            seed=given["seed"],
        ),
        "probes": ProbeOptions(
            split=given["split"],
            rows=given["probe_rows"],
            folds=given["probe_folds"],
            permutations=given["probe_permutations"],
            resamples=given["resamples"],
            seed=given["seed"],
        ),
    }
