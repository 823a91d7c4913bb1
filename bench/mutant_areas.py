"""Areas of the source that `mutants.py` changes, and the tests that claim to cover them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HOOKS = "hooks/harness_plugin_hooks"
METHODS = ("groups", "robust", "ensemble", "environments", "contrast", "failure", "mixing")


@dataclass(frozen=True)
class Area:
    """Source files, how many mutants of them, and the tests that claim to cover them."""

    mutants: int
    files: tuple[str, ...]
    tests: tuple[str, ...]
    choose: str = ""
    """Which of the tests, as pytest's `-k`: those that train models are left out."""


AREAS: Mapping[str, Area] = {
    "losses of distillers": Area(
        40,
        tuple(
            f"{HOOKS}/distill/{name}.py"
            for name in ("intermediate", "logits", "features", "layers", "disagree", "subspace")
        ),
        (
            "tests/hooks/test_distiller_references.py",
            "tests/hooks/test_distillers.py",
            "tests/models/test_layers.py",
        ),
        "not trains and not learn and not continues and not share and not follows "
        "and not whatever and not takes_after and not live and not in_the_loop "
        "and not refused and not way_out and not what_works and not serves",
    ),
    "losses of methods": Area(
        40,
        tuple(f"{HOOKS}/methods/{name}.py" for name in METHODS),
        (
            "tests/hooks/test_methods.py",
            "tests/hooks/test_method_losses.py",
            "tests/hooks/test_method_pairs.py",
            "tests/hooks/test_method_contract.py",
            "tests/hooks/test_defaults.py",
            "tests/hooks/test_kernel_whitening.py",
            "tests/hooks/test_read.py",
        ),
    ),
    "the whole loss": Area(
        10, ("harness_plugin/training/loss.py",), ("tests/training/test_loss.py",)
    ),
    "last layers": Area(
        15,
        tuple(
            f"{HOOKS}/methods/last_layer/{name}.py"
            for name in ("afr", "dfr", "evals", "refit", "selective")
        ),
        tuple(f"tests/hooks/test_{name}.py" for name in ("last_layer", "afr", "evals")),
        "not only_the_last_layer and not its_share and not second_training "
        "and not worst_validation and not refused and not without_groups",
    ),
    "compressors": Area(
        10,
        tuple(
            f"{HOOKS}/compress/{name}.py"
            for name in ("rounding", "pruning", "structure", "batch_norm")
        ),
        ("tests/hooks/test_compressors.py",),
        "not onnx and not torch_int8",
    ),
    "certificates": Area(
        5,
        (f"{HOOKS}/remedies/certify/rule.py",),
        ("tests/hooks/test_certify.py",),
        "not again and not made_smaller and not changed and not refused and not false",
    ),
    "metrics": Area(25, ("harness_plugin/scoring/metrics.py",), ("tests/scoring/test_metrics.py",)),
    "statistics": Area(
        25,
        tuple(
            f"harness_plugin/scoring/statistics/{name}.py"
            for name in ("intervals", "minimum", "resampling", "significance")
        ),
        tuple(
            f"tests/scoring/test_{name}.py"
            for name in ("intervals", "minimum", "resampling", "significance")
        ),
    ),
    "keys": Area(10, ("harness_plugin/store/keys.py",), ("tests/store/test_keys.py",)),
    "sampling": Area(
        20,
        ("harness_plugin/training/inputs/batching.py",),
        ("tests/training/test_batching.py",),
        "not embedded_hans",
    ),
}
