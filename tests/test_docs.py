"""The documentation is true: links, commands, names and examples are checked against the code."""

import ast
import importlib
import json
import re
import subprocess
import sys

import pytest
import yaml
from doc_pages import PAGES, PLUGINS, ROOT, blocks, text

from harness_plugin.config.merge import run_config, task_settings
from harness_plugin.config.settings import RoleSettings, TaskSettings
from harness_plugin.data.task import find_task, read_task
from harness_plugin.plugins import hookspecs
from harness_plugin.plugins.option_facts import OptionFacts
from harness_plugin.plugins.registry import collect, make_manager
from harness_plugin.scoring.gate import read_thresholds
from harness_plugin.study.plan import read_study

HOOKS = [
    name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "harness_plugin_spec")
]


def section(hook: str) -> str:
    """The part of docs/hooks.md below a hook's heading; the heading is the signature."""
    arguments = ", ".join(getattr(make_manager().hook, hook).spec.argnames)
    _, heading, rest = text("docs/hooks.md").partition(f"\n## {hook}({arguments})\n")
    assert heading, f"docs/hooks.md has no heading '## {hook}({arguments})'"
    return rest.partition("\n## ")[0]


def test_hook_headings_are_in_the_order_of_a_run():
    headings = re.findall(r"^## (\w+)\(", text("docs/hooks.md"), re.M)
    assert headings == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_an_example_that_registers(hook):
    (code,) = re.findall(r"^```python\n(.*?)^```", section(hook), re.S | re.M)
    names: dict = {}
    exec(compile(code, f"docs/hooks.md:{hook}", "exec"), names)
    plugin = type("Example", (), {hook: staticmethod(names[hook])})
    manager = make_manager()
    manager.register(plugin, name="example")
    manager.check_pending()
    assert [impl.plugin_name for impl in getattr(manager.hook, hook).get_hookimpls()] == ["example"]
    offers = [offer for registry in collect(manager).registries.values() for offer in registry]
    assert len(offers) == hook.startswith("register_")


def test_the_metric_of_the_docs_is_a_metric():
    import numpy as np

    names: dict = {}
    exec(re.findall(r"^```python\n(.*?)^```", section("register_metrics"), re.S | re.M)[0], names)

    class Two:
        probabilities = np.array([[0.9, 0.1], [0.4, 0.6]])

    values = names["confidence"](Two, np.array([[1.0, 1.0], [0.0, 2.0]]))
    assert values.tolist() == pytest.approx([0.75, 0.6])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_compile(page):
    for code in blocks(page, "python"):
        ast.parse(code)


@pytest.mark.parametrize("name", ["Truncated", "LogitMatching"])
def test_the_methods_of_the_docs_work(name):
    import torch

    from harness_plugin.training.batch import Batch, TrainingMetadata

    (code,) = [code for code in blocks(ROOT / "docs/writing_methods.md", "python") if name in code]
    names: dict = {}
    exec(code, names)
    label = torch.tensor([0, 1])
    logits, batch = torch.zeros(2, 2), Batch(torch.arange(2), label, label)
    if name == "Truncated":
        facts = TrainingMetadata(label=label, group=label, n_labels=2, groups=("a", "b"))
        loss = names[name](facts, share=0.5).loss(logits, batch)
        assert loss.item() == pytest.approx(0.693147)
    else:
        loss = names[name](2.0).loss(logits, torch.tensor([[1.0, 1.0], [0.0, 2.0]]), batch)
        assert loss.tolist() == [1.0, 2.0]


def test_the_loader_of_the_tasks_page_loads():
    from harness_plugin.data.dataset import DataRequest, check
    from harness_plugin.data.task import Task

    (code,) = blocks(ROOT / "tasks/README.md", "python")
    names: dict = {}
    exec(code, names)
    task = Task(
        task="tickets",
        summary="",
        bias="",
        modality="text",
        inputs=("text",),
        sources={"embedded": "unused:load"},
    )
    check(task, names["load"](DataRequest(task, "embedded", None, {})))


def anchor(heading: str) -> str:
    """A heading's link target, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for link in re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    ):
        if link.startswith(("http://", "https://")):
            continue
        file, _, part = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), f"{page.name} links to {link}"
        if part:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
            assert part in map(anchor, headings), f"{page.name} links to {link}"


def yaml_blocks() -> list[tuple[str, str]]:
    """Every YAML block: page and text."""
    pages = [*PAGES, *sorted(ROOT.glob("studies/*.md"))]
    return [(str(p.relative_to(ROOT)), block) for p in pages for block in blocks(p, "yaml")]


class Tagged(yaml.SafeLoader):
    """A file of lm-evaluation-harness: `!function MODULE.NAME`."""


Tagged.add_constructor("!function", lambda loader, node: importlib_name(node.value))


def importlib_name(name: str):
    """The object of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(("page", "block"), yaml_blocks())
def test_yaml_blocks_are_what_their_readers_take(page, block, tmp_path):
    """Plans, tasks, gates, run files, files of lm-evaluation-harness: each by its own reader."""
    file = tmp_path / "block.yaml"
    file.write_text(block, encoding="utf-8")
    value = yaml.load(block, Tagged)
    if isinstance(value, list):  # steps of a workflow, of which our action has inputs
        inputs = yaml.safe_load(text("action.yml"))["inputs"]
        for step in value:
            assert "run" in step or set(step["with"]) <= set(inputs), page
    elif "study" in value:
        assert read_study(file).name == value["study"]
    elif "gates" in value:
        assert len(read_thresholds(file).gates) == len(value["gates"])
    elif "class" in value:
        assert isinstance(value["class"], type)
    elif "method" in value and isinstance(value["method"], dict):  # what a plugin says of options
        for options in value["method"].values():
            assert all(OptionFacts.model_validate(fact).help for fact in options.values())
    elif "task" in value:
        assert read_task(file, PLUGINS["task"]).task == value["task"]
    else:
        assert run_config(file, {}, ()).tasks


def test_the_site_is_built_without_a_broken_link(tmp_path, capfd):
    for name in ("material", "mkdocstrings"):
        pytest.importorskip(name, reason=f"{name} is not installed (pip install '.[docs]')")
    words = [sys.executable, str(ROOT / "docs/build_site.py"), "--output_path", str(tmp_path)]
    done = subprocess.run(words, check=False)
    assert done.returncode == 0, capfd.readouterr().err
    pages = {page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html")}
    assert {"index.html", "docs/concepts.html", "tasks/README.html"} & pages
    reference = (tmp_path / "docs/reference.html").read_text(encoding="utf-8")
    assert 'id="harness_plugin.api.functions.run"' in reference
    assert "register_methods" in reference
    assert (tmp_path / "search/search_index.json").is_file()


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("metric", "docs/concepts.md"),
        ("method", "docs/methods.md"),
        ("distiller", "docs/distillation.md"),
        ("augmentation", "docs/distillation.md"),
        ("bias_model", "docs/methods.md"),
        ("group_inference", "docs/methods.md"),
        ("backbone", "docs/hooks.md"),
        ("remedy", "docs/remedies.md"),
        ("analysis", "hooks/README.md"),
        ("output", "hooks/README.md"),
        ("command", "hooks/README.md"),
        ("task", "tasks/README.md"),
    ],
)
def test_every_registered_name_is_documented(kind, page):
    missing = [
        offer.name
        for offer in PLUGINS[kind]
        if f"`{offer.name}`" not in text(page) and not own_page(offer.name)
    ]
    assert not missing, f"{page} does not name {', '.join(missing)}"


def test_every_option_of_a_method_is_documented():
    kinds = ("method", "bias_model", "group_inference", "distiller")
    for offer in (offer for kind in kinds for offer in PLUGINS[kind]):
        for option in offer.load().defaults:
            page = "docs/distillation.md" if offer.kind == "distiller" else "docs/methods.md"
            assert f"`{option}`" in text(page), f"{offer.name}.{option}"


def own_page(task: str) -> str:
    """What a task's own page says, "" where it has none."""
    page = ROOT / "tasks" / "harness_plugin_tasks" / task / "README.md"
    return page.read_text("utf-8") if page.is_file() else ""


def test_every_option_of_a_task_is_documented():
    for offer in PLUGINS["task"]:
        part = text("tasks/README.md").partition(f"\n### {offer.name}\n")[2].partition("\n## ")[0]
        part = own_page(offer.name) or part
        for option in find_task(offer.name, PLUGINS["task"]).options:
            assert f"`{option}`" in part, f"no page names {offer.name}.{option}"


def test_every_setting_of_a_role_and_a_task_is_documented():
    missing = [
        name
        for model in (RoleSettings, TaskSettings)
        for name in model.model_fields
        if f"`{name}`" not in text("docs/running.md")
        and f"`{name}`" not in text("docs/methods.md") + text("docs/distillation.md")
        and f"`teacher.{name}`" not in text("docs/running.md")
    ]
    assert set(missing) <= {"teacher", "student", "labels"}


def test_every_plugin_of_this_distribution_is_documented():
    for name, _ in PLUGINS.manager.list_name_plugin():
        assert f"`{name}`" in text("hooks/README.md")


def run_cells(cells, names):
    """Run code as a notebook does: the last expression of a cell is shown."""
    shown = []
    for number, code in enumerate(cells):
        *body, last = ast.parse(code).body
        show = isinstance(last, ast.Expr)
        module = ast.Module([*body, *([] if show else [last])], type_ignores=[])
        exec(compile(module, f"cell {number}", "exec"), names)
        if show:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    return shown


def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    notebook = json.loads(text("docs/tutorial.ipynb"))
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    monkeypatch.chdir(tmp_path)
    shown = run_cells(cells, {})
    output = capsys.readouterr().out
    assert output.startswith("undecided | student on ")
    assert "Did you mean group_dro" in output
    assert sum("<table" in one for one in shown) == 4
    assert "report_" in shown[-1]


def test_the_page_of_the_python_api_runs(finished_report, tmp_path, monkeypatch, capsys):
    """Its blocks in order, on a made-up run of three seeds instead of a trained one."""
    import harness_plugin as hp
    from harness_plugin.api.keywords import configured
    from harness_plugin.api.results import RunResult

    right = {"teacher": 0.95, "student": 0.8, "control": 0.75}
    report = finished_report(tmp_path / "made", right)
    real, configs = hp.run, []

    def run(tasks, **keywords):
        if tasks == "hanns":
            return real(tasks, **keywords)
        values = {k: v for k, v in keywords.items() if k not in ("settings", "output_path")}
        configs.append(configured(tasks, values, keywords.get("settings"), None, None))
        return RunResult(report)

    monkeypatch.setattr(hp, "run", run, raising=False)
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(ROOT / "docs/python_api.md", "python"))
    for real_name, made in (('"hans"].', '"made"].'), ('result["hans"]', 'result["made"]')):
        code = code.replace(real_name, made)
    code = code.replace('"student", "hans"', '"student", "swapped"')
    code = code.replace('"gap_entailment"', '"gap_avg_worst"')
    names: dict = {}
    run_cells([code], names)
    assert "Did you mean hans" in capsys.readouterr().out
    assert names["compared"].state == "pass"
    assert names["page"].is_file()
    assert names["scores"].transfer_of("student", "swapped", "gap_avg_worst", "gap_widening")
    for config in configs:
        assert config.tasks == ("hans",)
        task_settings(find_task("hans", PLUGINS["task"]), "embedded", ["hans"], config.settings)


def test_the_page_names_every_function_of_the_api():
    import harness_plugin

    page = text("docs/python_api.md")
    assert all(f"`hp.{name}(" in page for name in harness_plugin.API)
    assert all(name in page for name in harness_plugin.RESULTS)
