"""bench/scale.py: the line through measured updates, and the scheduler on a clock of its own."""

import importlib
import sys
from pathlib import Path

import pytest

from harness_plugin.config.settings import RoleSettings
from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import read_study

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    before = {name: sys.modules.pop(name, None) for name in ("scale", "flops")}
    yield importlib.import_module("scale")
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.mark.parametrize(
    ("model", "size", "batch", "measured"),
    [
        ("bert-base", 128, 128, 46.5e-3),
        ("bert-base", 128, 256, 69.7e-3),
        ("t5-base", 128, 128, 59.11e-3),
        ("vit-base", 224, 64, 39.96e-3),
        ("vit-base", 224, 128, 55.37e-3),
        ("resnet-50", 224, 64, 26.28e-3),
        ("resnet-50", 224, 256, 65.8e-3),
    ],
)
def test_updates_take_what_was_measured(scale, model, size, batch, measured):
    """bench/gpu_h100.md, bf16."""
    assert f"{1e3 * measured:.4g}" in (BENCH / "gpu_h100.md").read_text(encoding="utf-8")
    role = RoleSettings(model=model, batch_size=batch)
    assert scale.update(role, scale.Released(1, 1, size)) == pytest.approx(measured, rel=0.02)


@pytest.fixture
def graph(tmp_path, plugins):
    """A teacher and three students of it, in one seed."""
    file = tmp_path / "plan.yaml"
    file.write_text(
        "study: small\ntasks: [hans]\nseeds: [0]\nfactors: {student.epochs: [3, 4, 5]}\n"
        "settings:\n  references: false\n  control: false\n"
        "  students: {student: {method: erm, ce_weight: 0, kd_weight: 1}, student_ce: false}\n"
    )
    return graph_of(read_study(file), plugins)


@pytest.mark.parametrize(("workers", "expected"), [(1, 5.0 + 3 * 2.0), (3, 5.0 + 2.0), (2, 9.0)])
def test_students_wait_for_their_teacher_and_share_the_workers(scale, graph, workers, expected):
    lengths = {
        graph.name_of(n, 0): 2.0 if node.learns_from else 5.0 for n, node in enumerate(graph.nodes)
    }
    assert sorted(lengths.values()) == [2.0, 2.0, 2.0, 5.0]
    seconds, used = scale.makespan(graph, lengths, workers)
    assert seconds == expected
    assert used == pytest.approx(11.0 / (workers * expected))


def test_a_trainings_time_is_updates_a_teachers_pass_and_evaluation(scale, graph):
    data, bert = scale.Released(1_000, 500, 128), RoleSettings(model="bert-base", batch_size=100)
    student = next(node for node in graph.nodes if node.learns_from)
    row = scale.shape_of("bert-base", 128)[2]
    expected = 30 * scale.update(bert, data) + (1_000 + 500) * row / 370e12
    mine = bert.model_copy(update={"epochs": 3.0})
    assert scale.seconds_of(student, mine, data, [bert]) == pytest.approx(expected)
