"""Students that start from their teacher's weights: exact where shapes allow, else whole heads."""

import json

import pytest
import torch
from safetensors.torch import load_file
from stepwise import Distillation
from transformers import AutoConfig

from harness_plugin import HarnessError
from harness_plugin.config.settings import StudentSettings
from harness_plugin.models import classifiers, t5
from harness_plugin.models.transplant import MAPS, check_families, from_teacher
from harness_plugin.pipeline.run_task import train_models
from harness_plugin.training import loop

assert t5  # registers its model type
TEXT = {"vocab_size": 40, "num_labels": 3}
BERT = {
    **TEXT,
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}
T5 = {**TEXT, "num_layers": 4, "d_model": 32, "num_heads": 4, "d_kv": 8, "d_ff": 64}
KINDS = {
    "bert": ("text", BERT),
    "roberta": ("text", {**BERT, "max_position_embeddings": 20}),
    "deberta-v2": (
        "text",
        {**BERT, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"},
    ),
    "distilbert": (
        "text",
        {**TEXT, "n_layers": 4, "dim": 32, "n_heads": 4, "hidden_dim": 64},
    ),
    "t5_encoder_classifier": ("text", T5),
    "t5": ("text", {**T5, "num_decoder_layers": 4, "decoder_start_token_id": 0}),
    "vit": (
        "image",
        {
            "num_labels": 3,
            "num_hidden_layers": 4,
            "hidden_size": 32,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "image_size": 8,
            "patch_size": 4,
        },
    ),
    "swin": (
        "image",
        {
            "num_labels": 3,
            "image_size": 8,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 2,
        },
    ),
    "resnet": (
        "image",
        {
            "num_labels": 3,
            "layer_type": "basic",
            "depths": [2, 2],
            "hidden_sizes": [8, 16],
            "embedding_size": 8,
        },
    ),
}


def made(kind, seed=0, **changes):
    modality, config = KINDS[kind]
    torch.manual_seed(seed)
    model = classifiers.AUTO[modality].from_config(AutoConfig.for_model(kind, **config | changes))
    with torch.no_grad():  # biases start at zero, where a wrong copy would not show
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def started(kind, layers="even", same_vocabulary=True, order=(0, 1, 2), teacher=None, **changes):
    teacher = teacher or made(kind, seed=1)
    student = made(kind, **changes)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    start = from_teacher(
        student, teacher, layers, same_vocabulary=same_vocabulary, label_order=order
    )
    return teacher, student, start, before


def logits_of(model, kind):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        if KINDS[kind][0] == "image":
            return model(torch.randn(2, 3, 8, 8, generator=generator)).logits
        ids = torch.randint(5, 40, (2, 7), generator=generator)
        ids[:, -1] = 1  # T5 reads its decoder where a text ends
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_architecture_becomes_its_teacher(kind):
    teacher, student, start, _ = started(kind)
    assert start.fraction == 1.0
    assert start.left == ()
    assert torch.equal(logits_of(student, kind), logits_of(teacher, kind))


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [("even", [0, 2]), ("first", [0, 1]), ("last", [2, 3]), ("tinybert", [1, 3])],
)
def test_layers_are_those_of_the_map(layers, chosen):
    assert [MAPS[layers](i, 2, 4) for i in range(2)] == chosen
    teacher, student, start, _ = started("bert", layers, num_hidden_layers=2)
    assert start.fraction == 1.0
    theirs, mine = teacher.state_dict(), student.state_dict()
    for layer, other in enumerate(chosen):
        name = "bert.encoder.layer.{}.intermediate.dense.weight"
        assert torch.equal(mine[name.format(layer)], theirs[name.format(other)])


def test_twelve_layers_to_six_by_every_map():
    result = {name: [MAPS[name](i, 6, 12) for i in range(6)] for name in MAPS}
    assert result == {
        "even": [0, 2, 4, 6, 8, 10],
        "first": [0, 1, 2, 3, 4, 5],
        "last": [6, 7, 8, 9, 10, 11],
        "tinybert": [1, 3, 5, 7, 9, 11],
    }


def test_a_narrower_student_keeps_whole_heads():
    query = "bert.encoder.layer.0.attention.self.query.weight"
    dense = "bert.encoder.layer.0.attention.output.dense.weight"
    fewer = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    teacher, student, start, _ = started("bert", **fewer)
    theirs, mine = teacher.state_dict(), student.state_dict()
    assert start.fraction == 1.0
    assert torch.equal(mine[query], theirs[query][:16, :16])
    assert torch.equal(mine["classifier.weight"], theirs["classifier.weight"][:, :16])
    # four heads of four units out of four heads of eight: the first half of every head
    teacher, student, start, _ = started("bert", **fewer | {"num_attention_heads": 4})
    theirs, mine = teacher.state_dict(), student.state_dict()
    units = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]
    assert torch.equal(mine[query], theirs[query][units][:, :16])
    assert torch.equal(mine[dense], theirs[dense][:16][:, units])
    assert torch.equal(
        mine[query.replace("weight", "bias")], theirs[query.replace("weight", "bias")][units]
    )


def test_where_layers_differ_in_heads_a_narrower_student_keeps_its_own_attention():
    """Four units of two heads of two are no two heads of four: nothing says where one ends."""
    teacher, student, start, before = started("swin", embed_dim=4, num_heads=[1, 2])
    theirs, mine = teacher.state_dict(), student.state_dict()
    block = "swin.encoder.layers.0.blocks.1"
    own = [f"{block}.attention.{name}_proj.weight" for name in "qkvo"]
    own += [f"{block}.attention.{name}_proj.bias" for name in "qkv"]
    assert set(own) <= set(start.left)
    assert all(torch.equal(mine[name], before[name]) for name in own)
    wide = f"{block}.mlp.fc1.weight"
    assert torch.equal(mine[wide], theirs[wide][:16, :4])
    _, shallower, whole, _ = started("swin", depths=[1, 2])
    assert whole.fraction == 1.0
    assert sum(p.numel() for p in shallower.parameters()) < 1e5


@pytest.mark.parametrize("kind", ["t5_encoder_classifier", "t5"])
def test_t5_keeps_its_relative_bias_in_the_first_block(kind):
    fewer = {"num_layers": 2} | ({"num_decoder_layers": 2} if kind == "t5" else {})
    teacher, student, start, _ = started(kind, "last", **fewer)
    assert start.fraction == 1.0
    theirs, mine = teacher.state_dict(), student.state_dict()
    for name in mine:
        if "relative_attention_bias" in name:
            assert torch.equal(mine[name], theirs[name])


def test_other_kinds_of_blocks_hand_on_the_stem_only():
    wide = made("resnet", 1, layer_type="bottleneck", hidden_sizes=[32, 64])
    _, student, start, before = started("resnet", teacher=wide)
    assert 0 < start.fraction < 0.1
    after = student.state_dict()
    changed = {n for n in after if not torch.equal(after[n], before[n])}
    assert changed
    assert all("embedder" in name for name in changed)


def test_residual_stages_may_lose_blocks_and_width():
    _, _, start, _ = started(
        "resnet", "first", depths=[1, 1], hidden_sizes=[4, 8], embedding_size=4
    )
    assert start.fraction == 1.0


def test_another_vocabulary_keeps_its_own_embeddings():
    teacher, student, start, before = started("bert", same_vocabulary=False)
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(student.state_dict()[name], before[name])
    assert start.left == (name,)
    assert start.fraction < 1
    assert teacher


def test_labels_in_another_order_get_their_own_rows():
    teacher, student, *_ = started("bert", order=(2, 0, 1))
    theirs, mine = logits_of(teacher, "bert"), logits_of(student, "bert")
    assert torch.allclose(mine, theirs[:, [2, 0, 1]], atol=1e-6)


def test_an_image_of_another_size_keeps_its_positions():
    *_, start, _ = started("vit", image_size=16)
    assert start.left == ("vit.embeddings.position_embeddings",)


def test_what_cannot_be_handed_on_is_refused():
    with pytest.raises(HarnessError, match=r"has 6 layers of bert.encoder.layer, its teacher 4"):
        started("bert", num_hidden_layers=6)
    with pytest.raises(HarnessError, match="the student is a bert, its teacher a vit"):
        check_families("bert", "vit", "even")
    with pytest.raises(HarnessError, match="must stay the first; use first or even"):
        check_families("resnet", "resnet", "last")


def test_another_family_is_refused_before_any_training(open_context):
    ctx = open_context("student.model=t5-pico", "student.config={}")
    student = StudentSettings(from_teacher="even")
    with pytest.raises(HarnessError, match="the student is a t5_encoder_classifier, its"):
        ctx.check_student(student)


def test_a_student_begins_where_its_teacher_is_and_says_how_much_of_it(open_context):
    ctx = open_context("teacher.epochs=1", "student.epochs=0.1", "student.learning_rate=1e-9")
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    result = {}
    for layers in ("none", "even"):
        settings = StudentSettings(method="erm", from_teacher=layers)
        distillation = Distillation((teacher,), settings)
        result[layers] = ctx.trained("student", ctx.settings.student, "erm", 0, distillation)
    assert result["none"].settings["from_teacher"] is None
    record = json.loads((result["even"].path / "stage.json").read_text())
    assert record["from_teacher"]["fraction"] == 1.0
    assert result["even"].settings["from_teacher"]["layers"] == "even"
    theirs, mine, scratch = (
        load_file(m.path / "model.safetensors") for m in (teacher, result["even"], result["none"])
    )
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    assert torch.allclose(mine[name], theirs[name], atol=1e-5)
    assert not torch.allclose(scratch[name], theirs[name], atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.*")
def test_the_control_of_a_student_that_starts_from_its_teacher_is_its_twin(
    open_context, monkeypatch
):
    """First weights and seed of the batches are the same; the control learns from labels alone."""
    first = {}
    fit = loop.fit

    def seen(accelerator, model, rows, loss, args, options, *rest):
        first.setdefault(
            options.name.split()[0],
            ({k: v.clone() for k, v in model.state_dict().items()}, args.seed, loss),
        )
        return fit(accelerator, model, rows, loss, args, options, *rest)

    monkeypatch.setattr(loop, "fit", seen)
    context = open_context(
        "students={student: {from_teacher: even}, student_raw: {}}",
        "teacher.epochs=0.3",
        "student.epochs=0.2",
        "references=false",
    )
    result = {model.role: model for model in train_models(context, 0)}
    (weights, seed, loss), (twin, twin_seed, twin_loss) = first["student"], first["control_even"]
    assert weights.keys() == twin.keys()
    assert all(torch.equal(weights[name], twin[name]) for name in weights)
    assert seed == twin_seed
    assert (loss.kd_weight, twin_loss.kd_weight, twin_loss.ce_weight) == (0.5, 0, 1)
    raw = first["student_raw"][0]
    assert all(torch.equal(raw[name], first["control"][0][name]) for name in raw)
    assert any(not torch.equal(raw[name], weights[name]) for name in raw)
    assert result["student"].start == result["control_even"].start == "even layers of teacher"
    assert result["student_raw"].start == result["control"].start == ""
    assert "distillation" not in result["control_even"].settings
    assert result["student"].settings["distillation"]["from_teacher"] == "even"


def test_the_erm_student_starts_from_the_layers_of_the_erm_teacher(open_context, monkeypatch):
    """It learns from labels by ERM; students of other starts have others."""
    first = {}
    fit = loop.fit

    def seen(accelerator, model, rows, loss, args, options, *rest):
        weights = {k: v.clone() for k, v in model.state_dict().items()}
        first.setdefault(options.name.split()[0], (weights, args.seed, loss))
        result = fit(accelerator, model, rows, loss, args, options, *rest)
        last[options.name.split()[0]] = {k: v.clone() for k, v in model.state_dict().items()}
        return result

    last = {}
    monkeypatch.setattr(loop, "fit", seen)
    context = open_context(
        "students={student: {from_teacher: even}}",
        "method=resample",
        "teacher.epochs=0.3",
        "student.epochs=0.2",
        "control=false",
    )
    result = {model.role: model for model in train_models(context, 0)}
    assert list(result) == ["teacher", "erm_teacher", "student", "erm_student_even"]
    (weights, seed, _), (twin, twin_seed, loss) = first["student"], first["erm_student_even"]
    shared = [name for name in twin if name in last["erm_teacher"] and "embeddings" in name]
    assert shared
    assert all(torch.equal(twin[name], last["erm_teacher"][name]) for name in shared)
    assert any(not torch.equal(twin[name], weights[name]) for name in shared)
    assert seed == twin_seed
    assert (loss.kd_weight, loss.ce_weight) == (0, 1)
    reference = result["erm_student_even"]
    assert (reference.start, reference.method) == ("even layers of erm_teacher", "erm")
    assert "distillation" not in reference.settings
