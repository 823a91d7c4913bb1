"""`harness export`: one model of a run as a folder, and from there to the hub."""

from __future__ import annotations

from pathlib import Path

from harness_plugin.cli.parser import Parser
from harness_plugin.cli.startup import installed_plugins

EXAMPLES = """\
examples:
  harness export results my-student
  harness export results my-teacher --role teacher --seed 1 --tasks hans
  harness export results my-student --license apache-2.0 --push_to_hub me/mine
"""


def parser() -> Parser:
    """Every option of `harness export`."""
    out = Parser(
        "harness export",
        description="Write one trained model of a run as a folder that from_pretrained loads: "
        "weights, tokenizer, the record of its training, and a card with its numbers.",
        epilog=EXAMPLES,
    )
    out.add_argument("run", type=Path, metavar="RUN", help="the --output_path of a run")
    out.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    out.add_argument("--role", default="student", metavar="ROLE", help="which model (student)")
    out.add_argument("--seed", type=int, default=0, metavar="N", help="of which seed (0)")
    out.add_argument("--tasks", metavar="NAME", help="of which task, where the run has several")
    out.add_argument(
        "--license",
        metavar="ID",
        help="the model's, as the hub names licences; default: apache-2.0 for a model from scratch "
        "on generated data, else the card names none",
    )
    out.add_argument("--onnx", action="store_true", help="write model.onnx as well")
    out.add_argument("--push_to_hub", metavar="ID", help="upload the folder as this repository")
    out.add_argument("--private", action="store_true", help="create the repository as private")
    return out


def main(words: list[str]) -> int:
    """Write the folder, then what was asked for besides."""
    args = parser().parse_args(words)
    from harness_plugin.pipeline.outputs import check_writable
    from harness_plugin_hooks.outputs.export import model_folder

    plugins = installed_plugins()
    chosen = model_folder.choose(args.run, args.tasks, args.role, args.seed)
    check_writable(args.folder)
    files = model_folder.write(chosen, args.folder, plugins, args.license)
    if args.onnx:
        from harness_plugin_hooks.outputs.export.onnx import write_onnx

        files.append(write_onnx(args.folder))
    print(f"{args.folder}: {', '.join(file.name for file in files)}")
    if args.push_to_hub:
        from harness_plugin_hooks.outputs.export.publish import push_to_hub

        print(push_to_hub(args.folder, args.push_to_hub, private=args.private))
    return 0
