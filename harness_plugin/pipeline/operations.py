"""Floating-point operations of trainings: a price that is the same on every machine.

An update is three forward passes of its rows, the backward pass being two of them (Kaplan et al.
2020, arXiv:2001.08361, section 2.1, whose 6 N operations a token transformers uses as well). The
forward pass is counted rather than derived from N: matrix products and convolutions of one row, the
one whose length is nearest the mean, a multiplication and an addition being two operations. No
gradient passes a frozen encoder: its update is one forward pass, the head's gradient left aside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness_plugin.models.classifiers import load_trained
from harness_plugin.pipeline.prepare.plan import ResolvedRole
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import encoded_rows
from harness_plugin.records import TrainedModel

FORWARD_AND_BACKWARD = 3
"""Forward passes that an update costs."""


def operations_of(ctx: RunContext, trained: Sequence[TrainedModel]) -> dict[str, float]:
    """Role -> operations of its training, the mean over seeds.

    All updates count at the role's own network, those of a method's first models too. A distiller
    that sees the teacher's layers adds the teacher's forward passes. Not counted: padding, the
    optimiser, heads that a distiller adds, answers that a teacher gives once and the store keeps.
    """
    forward: dict[str, float] = {}
    models = {model.role: model for model in trained}  # seeds of a role are of one size

    def of_row(role: str) -> float:
        if role not in forward:
            forward[role] = forward_pass(ctx, ctx.plan.roles[role], models[role])
        return forward[role]

    def of_training(role: ResolvedRole) -> float:
        updates = [model.updates for model in trained if model.role == role.name]
        if not any(updates):
            return 0.0
        passes = 1 if role.args.freeze_encoder else FORWARD_AND_BACKWARD
        each, chosen = passes * of_row(role.name), role.distillation
        if chosen and chosen.kd_weight and "layers" in chosen.distiller.cls.teacher_outputs:
            each += of_row(chosen.teachers[0])
        return each * role.args.batch_size * sum(updates) / len(updates)

    return {name: of_training(role) for name, role in ctx.plan.roles.items() if name in models}


def forward_pass(ctx: RunContext, role: ResolvedRole, model: TrainedModel) -> float:
    """Operations of a model's forward pass of one training row.

    Attention is counted in full whatever kernel computes it: the eager one here.
    """
    rows = encoded_rows(ctx, ctx.data.train, role.model.checkpoint, model.max_length)
    lengths = rows.lengths
    typical = 0 if lengths is None else int(np.abs(lengths - lengths.mean()).argmin())
    trust = ctx.config.trust_remote_code
    network = load_trained(
        str(model.path), ctx.task.modality, attention="eager", trust_remote_code=trust
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(**rows.batch(np.array([typical])))
    return float(counter.get_total_flops())
