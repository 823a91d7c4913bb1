"""Compressors on single weights and small models, against closed forms and the libraries' own."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification
from transformers import AutoModelForSequenceClassification as TextClassifier

from harness_plugin import HarnessError
from harness_plugin.models.network import last_layer
from harness_plugin.models.t5 import T5EncoderClassifierConfig
from harness_plugin.plugins.option_facts import check_ranges
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.training.compression import CompressionContext, Compressor
from harness_plugin_hooks.compress.libraries import OnnxInt8, TorchInt8
from harness_plugin_hooks.compress.pruning import Magnitude, Wanda, wanda_scores
from harness_plugin_hooks.compress.rounding import rounded
from harness_plugin_hooks.compress.structure import WholeLayers
from harness_plugin_hooks.compress.targets import weight_layers

COMPRESSORS = load_plugins()["compressor"].subclasses(Compressor)
GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(6, 100, generator=GENERATOR) * torch.tensor([[0.01], [1], [5], [1], [0], [2]])


@pytest.fixture
def made(request):
    """A tiny classifier of a family with random weights, and two batches of its inputs."""
    torch.manual_seed(0)
    if request.param == "bert":
        config = AutoConfig.for_model(
            "bert",
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=1024,
            num_labels=3,
        )
        model = TextClassifier.from_config(config)
    elif request.param == "t5":
        config = T5EncoderClassifierConfig(
            vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=4, num_heads=4, num_labels=3
        )
        model = TextClassifier.from_config(config)
    elif request.param == "vit":
        config = AutoConfig.for_model(
            "vit",
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=32,
            image_size=16,
            patch_size=8,
            num_labels=3,
        )
        model = AutoModelForImageClassification.from_config(config)
    else:
        config = AutoConfig.for_model(
            "resnet",
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 1],
            layer_type="basic",
            num_labels=3,
        )
        model = AutoModelForImageClassification.from_config(config)
    if request.param in ("bert", "t5"):
        ids = torch.randint(2, 50, (4, 7))
        ids[:, -1] = 1
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    else:
        inputs = {"pixel_values": torch.randn(4, 3, 16, 16)}
    return model.eval(), [inputs]


FAMILIES = pytest.mark.parametrize("made", ["bert", "vit", "resnet", "t5"], indirect=True)


def context(folder, batches):
    return CompressionContext(folder, lambda: iter(batches))


# ---- rounding


def test_a_weight_rounded_by_hand():
    """Steps 0.5 / 1 (3 bits: -3 … 3 and 0 … 7)."""
    weight = torch.tensor([[1.5, -0.6, 0.2, 0.8]])
    assert rounded(weight, 3).tolist() == [[1.5, -0.5, 0.0, 1.0]]
    weight = torch.tensor([[5.0, -2.0, 0.4, 2.6]])
    assert rounded(weight, 3, symmetric=False).tolist() == [[5.0, -2.0, 0.0, 3.0]]
    pairs = torch.tensor([[3.0, 1.4, -0.3, 0.1, 7.0]])
    assert rounded(pairs, 3, 2).tolist()[0] == pytest.approx([3, 1, -0.3, 0.1, 7], abs=1e-6)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("group_size", [0, 32, 128])
@pytest.mark.parametrize("symmetric", [True, False])
def test_no_weight_moves_by_more_than_half_a_step(bits, group_size, symmetric):
    result = rounded(WEIGHT, bits, group_size, symmetric)
    for row, new in zip(WEIGHT, result, strict=True):
        for part in range(0, 100, group_size or 100):
            w, r = row[part:][: group_size or 100], new[part:][: group_size or 100]
            if symmetric:
                step = w.abs().max() / (2 ** (bits - 1) - 1)
            else:
                step = (w.max().clamp(min=0) - w.min().clamp(max=0)) / (2**bits - 1)
            assert (r - w).abs().max() <= step / 2 * (1 + 1e-5)
            assert len(r.unique()) <= 2**bits


@pytest.mark.parametrize("symmetric", [True, False])
def test_more_bits_are_nearer_and_many_are_the_weight_itself(symmetric):
    errors = [
        float((rounded(WEIGHT, bits, 0, symmetric) - WEIGHT).square().sum())
        for bits in (2, 3, 4, 8, 16)
    ]
    assert errors == sorted(errors, reverse=True)
    assert torch.equal(rounded(WEIGHT, 48, 0, symmetric), WEIGHT)
    once = rounded(WEIGHT, 4)
    assert torch.allclose(rounded(once, 4), once, atol=1e-7)


def test_smaller_groups_are_nearer():
    errors = [float((rounded(WEIGHT, 4, size) - WEIGHT).norm()) for size in (0, 50, 10)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # it is the reference here
def test_eight_bits_are_those_of_torch():
    """torch scales by max|w| / 127.5 where we scale by / 127: a step apart at most."""
    from torch.ao.quantization import per_channel_dynamic_qconfig

    observer = per_channel_dynamic_qconfig.weight()
    weight = WEIGHT[[0, 1, 2, 3, 5]]
    observer(weight)
    scales, zeros = observer.calculate_qparams()
    theirs = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8).dequantize()
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((rounded(weight, 8) - theirs).abs() <= step).all()
    assert (rounded(weight, 8) - weight).norm() == pytest.approx(
        float((theirs - weight).norm()), rel=0.1
    )


# ---- every compressor on every family


@FAMILIES
@pytest.mark.parametrize("name", sorted(COMPRESSORS))
def test_it_compresses_and_what_comes_out_answers(made, name, tmp_path):
    model, batches = made
    cls = COMPRESSORS[name]
    options = cls.resolved({})
    if reason := cls.refusal(options, model.config.model_type):
        pytest.skip(reason)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    of_resnet = model.config.model_type == "resnet"
    if name in (("heads", "layers") if of_resnet else ("recalibrate_batch_norm",)):
        with pytest.raises(HarnessError, match=r"(take channels|another compressor| out)\.$"):
            cls.compress(model, context(tmp_path, batches), options)
        return
    record = cls.compress(model, context(tmp_path, batches), options)
    with torch.inference_mode():
        logits = cls.answering(model, tmp_path, options)(**batches[0]).logits
    assert logits.shape == (4, 3)
    assert torch.isfinite(logits).all()
    head = last_layer(model)
    place = next(key for key, module in model.named_modules() if module is head)
    assert torch.equal(head.weight, before[f"{place}.weight"])  # the last layer is left alone
    assert record


# ---- batch normalisation


NORM = COMPRESSORS["recalibrate_batch_norm"]


def test_batch_normalisation_keeps_the_moments_of_all_rows(tmp_path):
    """Channel values 0, 2, 4 | 10 in batches of 3 and 1 rows of 1 x 2 pixels, by hand."""
    norm = nn.BatchNorm2d(1)
    model = nn.Sequential(norm)
    model.forward = lambda x: norm(x)
    rows = torch.tensor([0.0, 2.0, 4.0, 10.0])[:, None, None, None].expand(4, 1, 1, 2)
    batches = [{"x": rows[:3]}, {"x": rows[3:]}]
    record = NORM.compress(model, context(tmp_path, batches), NORM.resolved({}))
    assert norm.running_mean.item() == 4
    assert norm.running_var.item() == pytest.approx(2 * (16 + 4 + 0 + 36) / 7)
    assert record == {"batch_norms": 1, "largest_shift": pytest.approx(4, rel=1e-4)}
    assert not norm.training
    assert norm.momentum == 0.1
    with pytest.raises(HarnessError, match="one calibration row has no variance"):
        NORM.compress(model, context(tmp_path, [{"x": rows[:1, :, :, :1]}]), NORM.resolved({}))


def biased(norm, inputs):
    values = inputs[0].numel() / norm.num_features
    norm.running_var.mul_((values - 1) / values)


@pytest.mark.parametrize("made", ["resnet"], indirect=True)
def test_a_pruned_network_answers_as_with_the_statistics_of_its_own_batch(made, tmp_path):
    model, batches = made
    Magnitude.compress(model, context(tmp_path, []), Magnitude.resolved({}))
    weights = [parameter.clone() for parameter in model.parameters()]
    with torch.inference_mode():
        stale = model(**batches[0]).logits
        own = copy.deepcopy(model).train()(**batches[0]).logits
    NORM.compress(model, context(tmp_path, batches), NORM.resolved({}))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:  # evaluation divides by the unbiased variance, training by the biased one
        norm.register_forward_pre_hook(biased)
    with torch.inference_mode():
        mended = model(**batches[0]).logits
    assert torch.allclose(mended, own, atol=1e-4)
    assert not torch.allclose(stale, own, atol=1e-2)


@pytest.mark.parametrize("made", ["resnet"], indirect=True)
def test_a_network_with_wrong_statistics_gets_its_answers_back(made, tmp_path):
    """Its own answers are what is right: a fifth of them and more change, then none."""
    model, _ = made
    images = torch.randn(120, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    images += torch.arange(120)[:, None, None, None] % 3  # three kinds of image
    batches = [{"pixel_values": part} for part in images.split(60)]

    @torch.inference_mode()
    def answers():
        logits = model(pixel_values=images).logits
        return (logits - logits.mean(dim=0)).argmax(dim=1)

    NORM.compress(model, context(tmp_path, batches), NORM.resolved({}))
    right = answers()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    for number, norm in enumerate(norms):  # as if weights before it were another model's
        scale = torch.linspace(0.2, 5, norm.num_features)
        norm.running_mean.add_(norm.running_var.sqrt() * (-1) ** number)
        norm.running_var.mul_(scale)
    assert (answers() == right).float().mean() < 0.8
    record = NORM.compress(model, context(tmp_path, batches), NORM.resolved({}))
    assert record["largest_shift"] > 0.4
    assert torch.equal(answers(), right)
    stem = norms[0]
    with torch.no_grad():
        convolved = model.resnet.embedder.embedder.convolution(images)
    assert torch.allclose(stem.running_mean, convolved.mean(dim=(0, 2, 3)), atol=1e-5)
    for norm, (mean, variance) in zip(norms, kept, strict=True):
        assert torch.allclose(norm.running_mean, mean, atol=1e-5)
        assert torch.allclose(norm.running_var, variance, rtol=1e-4)


# ---- pruning


@FAMILIES
@pytest.mark.parametrize(("sparsity", "scope"), [(0.0, "global"), (0.7, "global"), (0.3, "layer")])
def test_exactly_the_share_of_weights_is_zero(made, sparsity, scope, tmp_path):
    model, batches = made
    before = copy.deepcopy(model)
    options = Magnitude.resolved({"sparsity": sparsity, "scope": scope})
    record = Magnitude.compress(model, context(tmp_path, batches), options)
    layers = weight_layers(model, head=False)
    zeros = {name: int((layer.weight == 0).sum()) for name, layer in layers.items()}
    if scope == "layer":
        expected = {n: round(sparsity * layer.weight.numel()) for n, layer in layers.items()}
        assert zeros == expected
    else:
        every = sum(layer.weight.numel() for layer in layers.values())
        assert sum(zeros.values()) == round(sparsity * every)
    assert record["pruned_weights"] == sum(zeros.values())
    old = weight_layers(before, head=False)
    if sparsity == 0:
        assert all(torch.equal(old[n].weight, layer.weight) for n, layer in layers.items())
    elif scope == "global":
        gone = torch.cat([old[n].weight[x.weight == 0].abs() for n, x in layers.items()])
        left = torch.cat([x.weight[x.weight != 0].abs() for x in layers.values()])
        assert gone.max() <= left.min()


def test_wanda_scores_by_hand():
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0, -3.0], [2.0, 0.5]])
    scores = wanda_scores(linear, torch.tensor([2.0, 0.5], dtype=torch.double))
    assert scores.tolist() == [[2.0, 1.5], [4.0, 0.25]]
    depthwise = nn.Conv2d(2, 2, 1, groups=2, bias=False)
    depthwise.weight.data = torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1)
    result = wanda_scores(depthwise, torch.tensor([3.0, 5.0], dtype=torch.double))
    assert result.flatten().tolist() == [3.0, 10.0]


class Two(nn.Module):
    """Linear layers with inputs that a test knows."""

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"num_labels": 3})()
        self.first, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 3)

    def forward(self, x, attention_mask):
        return self.head(self.first(x))


def test_wanda_keeps_small_weights_of_large_inputs_and_reads_no_padding(tmp_path):
    model = Two()
    model.first.weight.data = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    x = torch.tensor([[[9.0, 1.0], [0.0, 1000.0]]])
    batch = {"x": x, "attention_mask": torch.tensor([[1, 0]])}
    record = Wanda.compress(model, context(tmp_path, [batch]), Wanda.resolved({}))
    assert model.first.weight.tolist() == [[1.0, 0.0], [3.0, 0.0]]
    assert record == {"pruned_weights": 2, "of_weights": 4}


@pytest.mark.parametrize("made", ["bert"], indirect=True)
def test_a_head_that_is_left_out_adds_nothing(made, tmp_path):
    model, batches = made
    cls = COMPRESSORS["heads"]
    record = cls.compress(model, context(tmp_path, batches), cls.resolved({"sparsity": 0.75}))
    assert record == {"pruned_heads": 12, "of_heads": 16}
    layer = model.bert.encoder.layer[0].attention
    by_head = layer.self.value.weight.reshape(4, 4, 16).abs().sum(dim=(1, 2))
    assert int((by_head == 0).sum()) == 3
    dead = (layer.self.value.weight == 0).all(dim=1)
    with torch.inference_mode():
        before = model(**batches[0]).logits
        layer.output.dense.weight[:, dead] = 7.0
        assert torch.allclose(model(**batches[0]).logits, before, atol=1e-6)


@pytest.mark.parametrize("made", ["bert", "vit", "t5"], indirect=True)
@pytest.mark.parametrize(("which", "kept"), [("even", [0, 2]), ("first", [0, 1])])
def test_layers_that_stay_are_saved_and_read_again(made, which, kept, tmp_path):
    model, batches = made
    record = WholeLayers.compress(
        model, context(tmp_path, batches), WholeLayers.resolved({"keep": 2, "which": which})
    )
    assert record["layers"] == kept
    with torch.inference_mode():
        logits = model.eval()(**batches[0]).logits
        model.save_pretrained(tmp_path / "saved")
        again = type(model).from_pretrained(tmp_path / "saved").eval()
        assert torch.allclose(again(**batches[0]).logits, logits, atol=1e-5)
    assert model.config.num_hidden_layers == 2


def test_keeping_more_layers_than_there_are_is_refused(tmp_path):
    config = AutoConfig.for_model(
        "bert", vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1
    )
    model = TextClassifier.from_config(config)
    with pytest.raises(HarnessError, match="keep at most 1"):
        WholeLayers.compress(model, context(tmp_path, []), WholeLayers.resolved({"keep": 2}))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("magnitude", {"sparsity": 1.0}, "sparsity must be in [0, 1), found 1.0"),
        ("magnitude", {"scope": "row"}, "scope must be global or layer"),
        ("wanda", {"calibration": "some"}, "random or balanced or conflicting"),
        ("wanda", {"rows": 0}, "rows must be at least 1"),
        ("layers", {"which": "odd"}, "even or first"),
    ],
)
def test_options_out_of_their_range_are_refused(name, options, message):
    with pytest.raises(HarnessError, match=re.escape(message)):
        check_ranges(load_plugins()["compressor"].offer(name), options)


def test_a_group_of_one_weight_is_refused():
    cls = COMPRESSORS["int4"]
    assert "group_size 0 or at least 2" in cls.refusal(cls.resolved({"group_size": 1}), "bert")


# ---- libraries


@pytest.mark.parametrize("made", ["bert"], indirect=True)
def test_torch_int8_is_the_librarys_own(made, tmp_path):
    model, batches = made
    options = TorchInt8.resolved({})
    record = TorchInt8.compress(model, context(tmp_path, batches), options)
    small = TorchInt8.answering(model, tmp_path, options)
    kinds = {type(module).__module__ for module in small.modules()}
    assert any("quantized.dynamic" in kind for kind in kinds)
    assert record["bytes"] < record["bytes_before"]
    assert record["latency_ms"] > 0
    with torch.inference_mode():
        ours, theirs = model(**batches[0]).logits, small(**batches[0]).logits
    assert not torch.equal(ours, theirs)
    assert torch.allclose(ours, theirs, atol=0.05)


@pytest.mark.parametrize("made", ["bert", "resnet"], indirect=True)
def test_onnx_int8_answers_nearly_as_the_model(made, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, batches = made
    options = OnnxInt8.resolved({})
    record = OnnxInt8.compress(model, context(tmp_path, batches), options)
    assert (tmp_path / "model.int8.onnx").stat().st_size == record["bytes"] < record["bytes_before"]
    two = {name: value[:2] for name, value in batches[0].items()}
    with torch.inference_mode():
        small = OnnxInt8.answering(model, tmp_path, options)(**two).logits
        assert np.allclose(small, model(**two).logits, atol=0.05)
    assert math.isfinite(record["latency_ms"])
