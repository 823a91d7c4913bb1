"""What is read from inside a model, and the distillers that compare it."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from stepwise import Distillation
from torch import nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModelForImageClassification
from transformers import AutoModelForSequenceClassification as Texts

from harness_plugin import HarnessError
from harness_plugin.config.settings import StudentSettings
from harness_plugin.models.classifiers import load_trained
from harness_plugin.models.layers import (
    HiddenStateRecorder,
    Layers,
    OnlineTeacher,
    Shape,
    teacher_layer,
)
from harness_plugin.models.processors import train_tokenizer
from harness_plugin.models.t5 import T5EncoderClassifierConfig
from harness_plugin_hooks.distill.layers import (
    SCALED,
    AttentionTransfer,
    MiniLM,
    PatientKD,
    TinyBERT,
    activation_map,
    mean_over_pairs,
    relation_divergence,
    scores,
)

SMALL = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "deberta-v2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "t5_encoder_classifier": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8},
    "t5": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "num_decoder_layers": 1},
    "electra": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "embedding_size": 8,
    },
    "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "deit": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "architectures": ["DeiTForImageClassification"],
    },
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "resnet": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "embedding_size": 8},
}


IMAGES = ("vit", "deit", "dinov2", "resnet")


def model_of(kind, seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {**SMALL[kind], **changes}
    if kind in IMAGES:
        size = {} if kind == "resnet" else {"image_size": 32, "patch_size": 16}
        config = AutoConfig.for_model(kind, **arguments, **size)
        made = AutoModelForImageClassification.from_config(config, attn_implementation="eager")
        return made.eval()
    extra = {"decoder_start_token_id": 0, "eos_token_id": 1} if kind.startswith("t5") else {}
    if kind == "t5_encoder_classifier":
        config = T5EncoderClassifierConfig(vocab_size=50, **arguments, **extra)
    else:
        config = AutoConfig.for_model(kind, vocab_size=50, **arguments, **extra)
    return Texts.from_config(config, attn_implementation="eager").eval()


def inputs_of(kind, padding=0):
    generator = torch.Generator().manual_seed(1)
    if kind in IMAGES:
        return {"pixel_values": torch.randn(3, 3, 32, 32, generator=generator)}
    ids = torch.randint(5, 50, (3, 6), generator=generator)
    ids[:, -1] = 1  # T5's end of text
    mask = torch.ones_like(ids)
    if padding:
        pad = torch.zeros(3, padding, dtype=torch.int64)
        ids, mask = torch.cat([ids, pad], 1), torch.cat([mask, pad], 1)
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def seen(model, inputs):
    watch = HiddenStateRecorder(model)
    with watch.on():
        out = model(**inputs, output_hidden_states=True)
        return watch.layers(out, inputs)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_layers_of_every_architecture(kind):
    model = model_of(kind)
    layers = seen(model, inputs_of(kind))
    shape = Shape.of(model.config)
    assert shape.model_type == kind
    assert len(layers.hidden) == shape.layers + 1
    attends = 0 if kind == "resnet" else shape.layers
    assert [len(x) for x in (layers.queries, layers.keys, layers.values)] == [attends] * 3
    assert layers.heads == shape.heads == (0 if kind == "resnet" else 2)
    assert (layers.real is None) == (kind in IMAGES)
    assert not any(
        linear._forward_hooks
        for linears in HiddenStateRecorder(model).projections
        for linear in linears
    )  # transformers has hooks of its own on other modules


@pytest.mark.parametrize("kind", SCALED)
def test_scores_make_the_models_own_attention(kind):
    model, inputs = model_of(kind), inputs_of(kind)
    layers = seen(model, inputs)
    with torch.no_grad():
        attentions = model(**inputs, output_attentions=True).attentions
    for layer, expected in enumerate(attentions):
        result = scores(layers.queries[layer], layers.keys[layer], layers.heads).softmax(-1)
        assert torch.allclose(result, expected, atol=1e-6)


def test_layers_correspond_by_relative_depth():
    assert [teacher_layer(i, 6, 12) for i in range(1, 7)] == [2, 4, 6, 8, 10, 12]
    assert [teacher_layer(i, 4, 4) for i in range(1, 5)] == [1, 2, 3, 4]
    assert [teacher_layer(i, 2, 1) for i in (1, 2)] == [1, 1]


# ---- losses

KINDS = {
    "attention_transfer": (AttentionTransfer(1.0), ("bert", "vit", "resnet", "distilbert")),
    "pkd": (PatientKD(1.0), ("bert", "vit", "deberta-v2")),
    "tinybert": (TinyBERT(1.0), ("bert", "vit", "distilbert")),
    "minilm": (MiniLM(1.0, queries=1.0, keys=1.0), ("bert", "vit", "roberta")),
}
PAIRS = [(name, kind) for name, (_, kinds) in KINDS.items() for kind in kinds]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_model_has_nothing_to_learn_from_itself_and_something_from_another(name, kind):
    distiller, _ = KINDS[name]
    mine = seen(model_of(kind), inputs_of(kind))
    other = seen(model_of(kind, seed=1), inputs_of(kind))
    assert distiller.compare(mine, mine).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert bool((distiller.compare(mine, other) > 1e-8).all())


@pytest.mark.parametrize("name", sorted(KINDS))
def test_padding_changes_no_loss(name):
    distiller, _ = KINDS[name]
    plain, padded = (
        [seen(model_of("bert", seed), inputs_of("bert", padding)) for seed in (0, 1)]
        for padding in (0, 3)
    )
    first, second = distiller.compare(*plain), distiller.compare(*padded)
    assert torch.allclose(first, second, atol=1e-6, rtol=1e-4)


def test_activation_maps_by_hand():
    image = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    norm = (5**2 + 2**2) ** 0.5
    assert activation_map(image)[0].tolist() == pytest.approx([5 / norm, 2 / norm])
    assert torch.allclose(activation_map(7 * image), activation_map(image))


def test_layer_normalisation_leaves_no_activation_to_compare():
    """Why a transformer's map is its attention: every token has the same mean of squares."""
    hidden = seen(model_of("bert"), inputs_of("bert")).hidden[1]
    squares = hidden.square().mean(dim=2)
    assert torch.allclose(squares, torch.ones_like(squares), atol=1e-5)


def test_patience_by_hand():
    def layers(tokens):  # embeddings and layers, one row of one token each
        return Layers(tuple(torch.tensor([[token]]) for token in tokens))

    student = layers([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]])
    teacher = layers([[9.0, 9.0], [1.0, 1.0], [0.0, 2.0], [3.0, 0.0], [1.0, 5.0]])
    # the student's one middle layer hears layer 2 of 4 (skip) or 3 of 4 (last)
    assert PatientKD(1.0).compare(student, teacher).item() == pytest.approx(2 / 2)
    assert PatientKD(1.0, layers="last").compare(student, teacher).item() == pytest.approx(0)


def test_tinybert_by_hand():
    def layers(query, hidden):
        vectors = torch.tensor(query)[None]
        return Layers(
            (torch.tensor(hidden)[None],) * 2, (vectors,), (torch.eye(2)[None],), (vectors,), 1
        )

    student = layers([[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    teacher = layers([[0.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]])
    # scores differ by 1/sqrt 2 and 2/sqrt 2 in two of four pairs; hidden by 1 in two of four
    attention = (0.5 + 2) / 4
    # one layer of attention; the embeddings' hidden states, and the layer's
    assert TinyBERT(1.0).compare(student, teacher).item() == pytest.approx(attention + 2 * 0.5)
    only = TinyBERT(1.0, attention=0.0, hidden=3.0).compare(student, teacher)
    assert only.item() == pytest.approx(3 * 2 * 0.5)
    pairs = torch.tensor([[[1.0, 2.0], [3.0, 100.0]]])
    assert mean_over_pairs(pairs, torch.tensor([[True, False]])).item() == 1


def test_relations_by_hand_and_any_number_of_heads():
    student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, 2.0]]]]).log1p()
    p = torch.tensor([0.25, 0.75])
    expected = float((p * (p / 0.5).log()).sum())
    assert relation_divergence(student, teacher, None).item() == pytest.approx(expected)
    mine = seen(model_of("bert", num_attention_heads=4), inputs_of("bert"))
    other = seen(model_of("bert", seed=1, hidden_size=32), inputs_of("bert"))
    for heads in (0, 2, 8):
        result = MiniLM(1.0, relation_heads=heads).compare(mine, other)
        assert bool(torch.isfinite(result).all())
        assert bool((result > 0).all())


def test_a_projector_learns_what_a_narrow_student_cannot_be():
    narrow = seen(model_of("bert"), inputs_of("bert"))
    wide = seen(model_of("bert", hidden_size=32), inputs_of("bert"))
    distiller = PatientKD(1.0)
    distiller.projector = nn.Linear(16, 32)
    first = distiller.compare(narrow, wide).sum()
    optimizer = torch.optim.Adam(distiller.parameters(), lr=0.05)
    for _ in range(50):
        optimizer.zero_grad()
        distiller.compare(narrow, wide).sum().backward()
        optimizer.step()
    assert distiller.compare(narrow, wide).sum() < 0.2 * first
    mapped = normalize(distiller.projector(narrow.hidden[1][:, 0]), dim=1)
    assert mapped.shape == (3, 32)


# ---- refusals


def shape(kind, layers=2, width=16, heads=2):
    return Shape(kind, layers, width, heads)


@pytest.mark.parametrize(
    ("kind", "options", "student", "teacher", "message"),
    [
        (AttentionTransfer, {}, shape("resnet"), shape("vit"), "are not the same positions"),
        (AttentionTransfer, {}, shape("t5"), shape("t5"), "is no softmax of Q K^T"),
        (TinyBERT, {}, shape("albert"), shape("albert"), "dinov2, and not of albert"),
        (PatientKD, {}, shape("t5"), shape("bert"), "a t5 has no token that stands"),
        (PatientKD, {}, shape("bert", 1), shape("bert"), "no layer below its last"),
        (PatientKD, {}, shape("bert", 4), shape("bert", 3), "4 layers, its teacher 3"),
        (PatientKD, {}, shape("bert", 2), shape("bert", 2), ""),
        (TinyBERT, {}, shape("deberta-v2"), shape("bert"), "is no softmax of Q K^T"),
        (TinyBERT, {}, shape("bert", heads=4), shape("bert"), "4 heads, its teacher 2"),
        (TinyBERT, {"attention": 0.0}, shape("bert", heads=4), shape("bert"), ""),
        (MiniLM, {}, shape("resnet"), shape("resnet"), "deberta-v2, not of resnet"),
        (MiniLM, {}, shape("t5"), shape("t5"), "set distiller_options={attention: 0"),
        (MiniLM, {"attention": 0.0}, shape("t5"), shape("t5"), ""),
        (MiniLM, {"relation_heads": 3}, shape("bert"), shape("bert"), "do not divide a width"),
        (MiniLM, {"layer": 2}, shape("bert"), shape("bert"), "no layer 2"),
    ],
)
def test_models_whose_layers_cannot_be_compared(kind, options, student, teacher, message):
    problem = kind.mismatch(kind.resolved(options), student, teacher)
    assert message in problem
    assert bool(problem) == bool(message)


def refused(ctx, **student):
    with pytest.raises(HarnessError) as caught:
        ctx.check_student(StudentSettings(**student))
    return str(caught.value)


def test_other_positions_are_refused_before_any_training(open_context, tmp_path):
    message = refused(open_context("student.max_length=12"), distiller="minilm")
    assert "cut to 12 and 16 tokens; give both the same max_length" in message
    message = refused(open_context(), distiller="tinybert", teachers=("teacher", "erm_teacher"))
    assert "2 are named: name one, or take a distiller on logits" in message
    ctx = open_context("teacher.epochs=0.1")
    model = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    foreign = tmp_path / "foreign"
    shutil.copytree(model.path, foreign)
    train_tokenizer(["other words make another vocabulary"], 40, foreign)
    foreign = open_context(f"teacher.model={foreign}", "teacher.config={}")
    assert "do not have the same tokenizer" in refused(foreign, distiller="minilm")


# ---- in the loop


def test_the_teacher_in_the_loop_is_no_part_of_the_student(open_context):
    ctx = open_context("teacher.epochs=1", "student.epochs=1")
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    before = load_file(teacher.path / "model.safetensors")
    settings = StudentSettings(method="erm", distiller="tinybert")
    student = ctx.trained(
        "student", ctx.settings.student, "erm", 0, Distillation((teacher,), settings)
    )
    after = load_file(teacher.path / "model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)
    control = ctx.trained("control", ctx.settings.student, "erm", 0)
    mine, theirs = (load_file(m.path / "model.safetensors") for m in (student, control))
    assert mine.keys() == theirs.keys()


def test_a_live_teacher_gives_what_it_gives_elsewhere_without_dropout_or_gradient(open_context):
    ctx = open_context("teacher.epochs=0.2")
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    encoded = ctx.encoded(ctx.data.train, ctx.settings.teacher)
    model = load_trained(str(teacher.path), "text", attention="sdpa").train()
    live = OnlineTeacher(model, encoded)
    rows = torch.arange(8)
    first, second = live.layers(rows), live.layers(rows)
    assert all(torch.equal(a, b) for a, b in zip(first.hidden, second.hidden, strict=True))
    assert not any(x.requires_grad for x in (*first.hidden, *first.queries))


def test_a_student_takes_after_its_teachers_layers(open_context):
    ctx = open_context("teacher.epochs=3", "student.epochs=6")
    teacher = ctx.trained("teacher", ctx.settings.teacher, "erm", 0)
    result = {}
    for name, options in (("kd", {}), ("tinybert", {"weight": 10.0})):
        settings = StudentSettings(
            method="erm", distiller=name, distiller_options=options, ce_weight=0.1, kd_weight=1.0
        )
        model = ctx.trained(
            "student", ctx.settings.student, "erm", 0, Distillation((teacher,), settings)
        )
        inputs = ctx.encoded(ctx.data.train, ctx.settings.student).batch(torch.arange(32).numpy())
        mine, theirs = (
            seen(load_trained(str(m.path), "text", attention="sdpa").eval(), inputs)
            for m in (model, teacher)
        )
        only = TinyBERT(1.0, hidden=0.0)
        result[name] = float(only.compare(mine, theirs).mean())
    assert result["tinybert"] < 0.5 * result["kd"]
