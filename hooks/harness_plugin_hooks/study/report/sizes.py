"""How many parameters a study's teachers and students have, read off their weights' headers."""

from __future__ import annotations

from pathlib import Path

from harness_plugin.models.weight_files import parameters
from harness_plugin.study.graph import Graph
from harness_plugin.study.scheduler import Progress


def sizes(graph: Graph, progress: Progress, root: Path) -> dict[str, int]:
    """Parameters by "TASK: teacher=LEVEL" and "TASK: student=LEVEL", of models that are there.

    Empty without factors of these names.
    """
    study, out = graph.study, dict[str, int]()
    stages = {node: str(record.get("stage")) for (node, _), record in progress.done.items()}
    for configuration, nodes in zip(study.configurations, graph.roles, strict=True):
        levels = study.levels_of(configuration)
        for number in nodes:
            role = graph.nodes[number].role
            role = "student" if role.startswith("student") else role
            key = f"{levels['task']}: {role}={levels.get(role, '')}"
            if role not in ("teacher", "student") or role not in levels or key in out:
                continue
            weights = root / f"model-{stages.get(number, '')}" / "model.safetensors"
            if weights.is_file():
                out[key] = parameters(weights)
    return out
