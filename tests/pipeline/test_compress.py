"""A student that is its teacher made smaller, through the pipeline."""

import json

import pytest
import torch
from safetensors.torch import load_file

from harness_plugin import HarnessError
from harness_plugin.config.settings import StudentSettings
from harness_plugin.pipeline.roles.split_stages import predict_split
from harness_plugin.pipeline.run_task import train_models

FAST = ("references=false", "control=false", "teacher.epochs=1", "student.epochs=1")


def students(**compressed):
    return tuple(f"students.{name}={json.dumps(values)}" for name, values in compressed.items())


def models_of(ctx, seed=0):
    return {model.role: model for model in train_models(ctx, seed)}


def weights(model):
    return load_file(model.path / "model.safetensors")


def zeros(tensors):
    return sum(int((w == 0).sum()) for name, w in tensors.items() if is_inner(name, w))


def is_inner(name, weight):
    return weight.ndim > 1 and "embeddings" not in name and "classifier" not in name


@pytest.fixture
def trained(open_context):
    ctx = open_context(
        *FAST,
        *students(
            student=None,
            student_same={"compress": {"magnitude": {"sparsity": 0.0}}},
            student_int2={"compress": {"int2": {}}},
            student_pruned={"compress": {"magnitude": {"sparsity": 0.6}}},
            student_mended={
                "compress": {"magnitude": {"sparsity": 0.6}, "int8": {}},
                "epochs": 1,
                "kd_weight": 1,
                "method": "erm",
            },
            student_fewer={"compress": {"layers": {"keep": 1}}, "epochs": 1, "method": "erm"},
            student_torch={"compress": {"torch_int8": {}}},
            student_again={"teachers": ["student_fewer"], "compress": {"int8": {}}},
        ),
    )
    return ctx, models_of(ctx)


def test_students_of_every_kind(trained):
    """One run for many claims: a training of the toy teacher is what takes the time."""
    ctx, models = trained
    (split,) = ctx.data.evaluation[:1]
    logits = {name: predict_split(ctx, model, split).logits for name, model in models.items()}
    teacher = weights(models["teacher"])
    # nothing left out is the teacher itself
    assert (logits["student_same"] == logits["teacher"]).all()
    assert all(torch.equal(teacher[n], w) for n, w in weights(models["student_same"]).items())
    # few bits are another model, the teacher stays what it is
    assert (logits["student_int2"] != logits["teacher"]).any()
    inner = sum(w.numel() for n, w in teacher.items() if is_inner(n, w))
    pruned = weights(models["student_pruned"])
    pooled = zeros(pruned)
    assert pooled == round(0.6 * inner)
    # a training mends it and its zeros stay; rounding comes last
    mended = weights(models["student_mended"])
    assert zeros(mended) >= pooled
    gone = {n: w == 0 for n, w in pruned.items() if is_inner(n, w)}
    assert all(bool((mended[n][mask] == 0).all()) for n, mask in gone.items())
    assert any(not torch.equal(mended[n], w) for n, w in pruned.items())
    name = next(n for n in gone if n.endswith("query.weight"))
    assert all(len(row.unique()) <= 255 for row in mended[name])
    record = models["student_mended"].settings["compression"]
    assert [step["name"] for step in record["steps"]] == ["magnitude", "int8"]
    # layers are taken out, and a distilled student may be compressed itself
    config = json.loads((models["student_fewer"].path / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    assert len(weights(models["student_fewer"])) < len(teacher)
    assert len(weights(models["student_again"])) == len(weights(models["student_fewer"]))
    # int8 kernels answer, the float weights are kept for analyses
    assert (logits["student_torch"] != logits["teacher"]).any()
    assert abs(logits["student_torch"] - logits["teacher"]).max() < 0.2
    sizes = models["student_torch"].settings["compression"]["steps"][0]
    assert sizes["bytes"] < sizes["bytes_before"]
    # all of them are students to everything that comes after
    assert {m.kind for n, m in models.items() if n != "teacher"} == {"student"}
    assert models["student_int2"].method == "int2"


KEYS = [
    ({"int4": {}}, {"int3": {}}),
    ({"int4": {}}, {"int4": {"group_size": 32}}),
    ({"int4": {}}, {"int4": {"symmetric": False}}),
    ({"int4": {}}, {"int4": {"head": True}}),
    ({"magnitude": {}}, {"magnitude": {"sparsity": 0.7}}),
    ({"magnitude": {}}, {"magnitude": {"scope": "layer"}}),
    ({"wanda": {}}, {"wanda": {"rows": 64}}),
    ({"wanda": {}}, {"wanda": {"calibration": "balanced"}}),
    ({"wanda": {}}, {"wanda": {"calibration": "conflicting"}}),
    ({"int8": {}, "magnitude": {}}, {"magnitude": {}, "int8": {}}),
]


def test_every_option_is_in_the_key(open_context):
    values = {}
    for number, (one, other) in enumerate(KEYS):
        values |= {
            f"student_{number}a": {"compress": one},
            f"student_{number}b": {"compress": other},
        }
    models = models_of(open_context(*FAST, *students(student=None, **values)))
    for number in range(len(KEYS)):
        assert models[f"student_{number}a"].key != models[f"student_{number}b"].key, KEYS[number]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"compress": {"int9": {}}}, "int8"),
        ({"compress": {"magnitude": {"sparsity": 2.0}}}, "sparsity must be in .0, 1., found 2"),
        ({"compress": {"torch_int8": {}, "onnx_int8": {}}}, "name one|needs onnx"),
        ({"compress": {"int8": {}}, "rounds": 2, "epochs": 2}, "one round"),
        ({"compress": {"int8": {}}, "from_teacher": "even"}, "from_teacher none"),
    ],
)
def test_what_cannot_be_compressed_is_refused_before_training(open_context, values, message):
    with pytest.raises(HarnessError, match=message):
        open_context(*FAST, *students(student=values))


def test_balanced_rows_need_groups(open_context):
    values = {"compress": {"wanda": {"calibration": "balanced"}}}
    with pytest.raises(HarnessError, match="balanced calibration rows need group labels"):
        open_context(*FAST, "toy.annotated=false", "method=erm", *students(student=values))


def test_it_is_its_teachers_network_and_has_epochs_only_when_given(open_context):
    plan = open_context(*FAST, *students(student={"compress": {"int8": {}}})).plan
    student, teacher = plan.roles["student"], plan.roles["teacher"]
    assert student.model == teacher.model
    assert not student.trained
    assert StudentSettings(compress={"int8": {}}).epochs is None
