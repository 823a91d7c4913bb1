"""Attention: pure functions against hand-made values, every architecture, words, regions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import vit
from transformers import AutoConfig
from transformers import AutoModelForSequenceClassification as Texts

from harness_plugin import HarnessError
from harness_plugin.analysis.loaded_models import LoadedModel
from harness_plugin.config.settings import ImageSettings
from harness_plugin.data.dataset import make_split
from harness_plugin.models.processors import load_processor, save_image_processor, train_tokenizer
from harness_plugin.models.t5 import T5EncoderClassifierConfig
from harness_plugin.training.inputs.encode import EncodedImages, EncodedText
from harness_plugin_hooks.analyses.attention import measures
from harness_plugin_hooks.analyses.attention.heads import (
    Side,
    masses,
    measure,
    seen_at,
)
from harness_plugin_hooks.analyses.attention.places import (
    ImagePlaces,
    Places,
    coverage,
    text_places,
    words_of,
)


def test_tokens_become_words_by_hand():
    maps = torch.tensor(
        [[0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.2, 0.1], [0.25] * 4, [0.7, 0.1, 0.1, 0.1]]
    )
    unit = torch.tensor([[0, 0, 1, -1]])  # two tokens, one token, a special one that is left out
    result = measures.by_unit(maps[None], unit, 3)[0]
    expected = [[(0.3 + 0.7) / 2, (0.3 + 0.2) / 2, 0], [0.5, 0.25, 0], [0, 0, 0]]
    assert torch.allclose(result, torch.tensor(expected).double(), atol=1e-7)


PAIRS = [
    ("The old doctor didn't see the unbelievable lawyer.", "The lawyer saw no doctor!"),
    ("Rain", "It was raining, never mind."),
    ("a b c d e f g", "g"),
]


def test_words_and_cues_by_hand():
    words = words_of(PAIRS[0])
    answers = [
        PAIRS[0][s][a:b] for s, a, b in zip(words.segment, words.start, words.end, strict=True)
    ]
    assert [w for w, yes in zip(answers, words.overlap, strict=True) if yes] == [
        "The",
        "lawyer",
        "doctor!",
    ]
    assert [w for w, yes in zip(answers, words.negation, strict=True) if yes] == ["didn't", "no"]


def split_of(pairs=PAIRS):
    return make_split(
        "pairs",
        purpose="ood",
        inputs={"premise": [p for p, _ in pairs], "hypothesis": [h for _, h in pairs]},
        ids=[str(i) for i in range(len(pairs))],
        label_texts=["a"] * len(pairs),
        labels=("a",),
    )


def wordpiece(vocabulary=()):
    """A tokenizer of letters, unlike byte-level BPE in its offsets and special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyzTRI.,!'"
    tokens = ["<pad>", "<unk>", "</s>", *vocabulary, *letters, *(f"##{x}" for x in letters)]
    inner = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Byte-level BPE as runs make it, and letters."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("bpe")
    train_tokenizer([text for pair in PAIRS for text in pair], 300, folder)
    return {"bpe": AutoTokenizer.from_pretrained(folder), "letters": wordpiece()}


def encoded_by(tokenizer, pairs=PAIRS):
    ids = [tokenizer(*pair)["input_ids"] for pair in pairs]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    tokens = np.concatenate(ids).astype(np.int32)
    return EncodedText(tokens, offsets, None, int(tokenizer.pad_token_id))


@pytest.mark.parametrize("name", ["bpe", "letters"])
def test_every_word_has_its_tokens_and_no_others(tokenizers, name):
    tokenizer = tokenizers[name]
    places = text_places(split_of(), np.arange(3), ("premise", "hypothesis"), tokenizer, 200)
    for row, pair in enumerate(PAIRS):
        words = places.words[row]
        kept = places.word[row][places.segment[row] >= 0]
        assert (np.diff(kept) >= 0).all()
        assert set(kept) == set(range(len(words.start)))
        for number in range(len(words.start)):
            ids = places.ids[row][places.word[row] == number]
            answers = pair[words.segment[number]][words.start[number] : words.end[number]]
            joined = tokenizer.decode(ids).replace(" ", "").replace("##", "")
            assert joined.lower() == answers.lower()


def test_a_row_that_is_cut_otherwise_than_stored_is_refused(tokenizers):
    places = text_places(split_of(), np.arange(3), ("premise", "hypothesis"), tokenizers["bpe"], 99)
    inputs = encoded_by(tokenizers["letters"]).batch(np.array([0]))
    with pytest.raises(HarnessError, match="its files have changed"):
        places.batch(np.array([0]), inputs)


def test_pixels_become_patches(tmp_path):
    image = ImageSettings(size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    save_image_processor(image, tmp_path)
    processor = load_processor(str(tmp_path), "image")
    mask = np.zeros((8, 8), bool)
    mask[:4, :6] = True
    assert coverage(mask, processor, None, (2, 2)).tolist() == [1, 0.5, 0, 0]
    wide = np.pad(mask, 2)  # cropped and resized as the image is
    assert coverage(wide, processor, 8, (2, 2)).tolist() == [1, 0.5, 0, 0]
    twice = mask.repeat(2, axis=0).repeat(2, axis=1)
    assert np.allclose(coverage(twice, processor, None, (2, 2)), [1, 0.5, 0, 0], atol=0.05)


SMALL = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "deberta-v2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "t5_encoder_classifier": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8},
    "t5": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32},
}


def text_model(kind, seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"vocab_size": 400, "initializer_range": 0.5, **SMALL[kind], **changes}
    if kind.startswith("t5"):
        del settings["initializer_range"]
        settings |= {"decoder_start_token_id": 0, "initializer_factor": 3.0}
        settings |= {"eos_token_id": 2} if kind == "t5" else {}
    if kind == "t5_encoder_classifier":
        return Texts.from_config(T5EncoderClassifierConfig(**settings)).eval()
    return Texts.from_config(AutoConfig.for_model(kind, **settings)).eval()


def side(model, tokenizer, pairs=PAIRS, role="teacher"):
    places = text_places(
        split_of(pairs), np.arange(len(pairs)), ("premise", "hypothesis"), tokenizer, 200
    )
    subject = LoadedModel(role, 0, Path("made"), model)
    return Side(subject, encoded_by(tokenizer, pairs), places, str(len(tokenizer)))


def measured(*sides, rows=3, pairs=((0, 1),)):
    return measure(sides, pairs, np.arange(rows), matched_rows=8, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_every_text_model_is_read_and_padding_changes_nothing(tokenizers, kind):
    # T5's own head reads its decoder at the last end of text
    tokenizer = tokenizers["letters" if kind == "t5" else "bpe"]
    together = side(text_model(kind), tokenizer)
    (result,), _ = measured(together, pairs=())
    assert result.heads.keys() == result.layers.keys()
    for key, value in result.layers.items():
        assert (value.shape, result.heads[key].mean.shape) == ((3, 2), (2, 2))
        there = value[~np.isnan(value)]
        assert ((there >= 0) & (there <= 1 + 1e-9)).all(), key
    each = [
        measured(side(together.subject.model, tokenizer, [pair]), rows=1, pairs=())[0][0]
        for pair in PAIRS
    ]
    for row, one in enumerate(each):
        for part in ("layers", "rolled", "uniform"):
            for key, value in getattr(one, part).items():
                assert np.allclose(
                    value[0], getattr(result, part)[key][row], atol=1e-5, equal_nan=True
                )
    for key, heads in result.heads.items():
        rows = [one.heads[key].mean for one in each if key in one.heads]
        shown = [value for value in rows if not np.isnan(value).any()]
        assert heads.rows == len(shown)
        assert np.allclose(
            heads.mean, np.mean(shown, axis=0) if shown else np.nan, atol=1e-5, equal_nan=True
        )


def test_a_model_compared_with_itself_and_with_its_heads_reordered(tokenizers):
    model = text_model("bert", num_attention_heads=4)
    turned = text_model("bert", num_attention_heads=4)
    order = [2, 0, 3, 1]
    for layer in turned.bert.encoder.layer:
        inner = layer.attention.self
        for linear in (inner.query, inner.key, inner.value):
            for part in (linear.weight.data, linear.bias.data):
                part[:] = part.view(4, 4, -1)[order].reshape(part.shape)
        out = layer.attention.output.dense.weight.data
        out[:] = out.view(16, 4, 4)[:, order].reshape(out.shape)
    sides = [side(model, tokenizers["bpe"]), side(turned, tokenizers["bpe"], role="student")]
    _, (pair,) = measured(*sides)
    assert pair.level == "token"
    for specials in (True, False):
        assert np.abs(pair.layers[specials]).max() < 1e-6
        message = measures.matched_heads(pair.heads[specials])
        expected = [
            (4 * layer + order[head], 4 * layer + head) for layer in (0, 1) for head in range(4)
        ]
        assert message == expected
        assert max(pair.heads[specials][match] for match in message) < 1e-6
        assert pair.heads[specials].max() > 0.05


def test_models_of_other_sizes_and_tokenizers_are_compared_by_words(tokenizers):
    small = text_model("bert")
    large = text_model("t5_encoder_classifier", num_layers=4, num_heads=4)
    sides = [side(large, tokenizers["letters"]), side(small, tokenizers["bpe"], role="student")]
    _, (pair,) = measured(*sides)
    assert pair.level == "word"
    assert pair.aligned.tolist() == [1, 3]  # equal relative depth
    for specials in (True, False):
        assert pair.layers[specials].shape == (3, 2)
        there = pair.layers[specials][~np.isnan(pair.layers[specials])]
        assert len(there) == 6
        assert ((there > 0) & (there < math.log(2))).all()
        assert pair.heads[specials].shape == (16, 4)
        assert len(measures.matched_heads(pair.heads[specials])) == 4


def test_one_attention_under_two_tokenizers_is_the_same_by_words(tokenizers):
    """Maps that are made from words, spread over the tokens that each tokenizer makes of them."""
    rng = np.random.default_rng(0)
    views = []
    words = None
    for tokenizer in tokenizers.values():
        one = side(text_model("bert"), tokenizer)
        places = one.places.batch(np.arange(3), one.encoded.batch(np.arange(3)))
        if words is None:
            words = rng.dirichlet(np.ones(places.words), (1, 3, places.words))
        member = (places.word[..., None] == torch.arange(places.words)).double()
        sizes = member.sum(dim=1).clamp(min=1)
        maps = member @ torch.from_numpy(words) @ (member / sizes[:, None]).transpose(1, 2)
        views.append((maps, places))
    (ours, here), (theirs, there) = (seen_at(*view, "word", False) for view in views)
    assert torch.equal(here, there)
    p, _ = measures.restricted(ours, here)
    q, _ = measures.restricted(theirs, here)
    assert torch.allclose(p, q, atol=1e-12)


def test_masses_by_hand():
    """Three tokens and a special one: [CLS] a | b c, of which c is in both."""
    maps = torch.tensor(
        [[0.4, 0.1, 0.2, 0.3], [0.5, 0.1, 0.1, 0.3], [0.2, 0.4, 0.2, 0.2], [0.1, 0.6, 0.2, 0.1]]
    )[None, None]
    real = torch.ones(1, 4, dtype=torch.bool)
    content = torch.tensor([[False, True, True, True]])
    segment = torch.tensor([[-1, 0, 1, 1]])
    overlap = torch.tensor([[0.0, 0, 0, 1]]).double()
    sets = {"overlap": overlap, "negation": torch.zeros(1, 4).double()}
    places = Places(real, content, sets, segment)
    asking = torch.tensor([[True, False, False, False]])

    def values_of(keys):
        kept, there = measures.restricted(maps, keys[:, None])
        return {n: float(v) for n, v in masses(kept, there, places, keys, asking)}

    whole, words = values_of(real), values_of(content)
    assert whole["overlap"] == pytest.approx((0.3 + 0.3 + 0.2 + 0.1) / 4)
    assert whole["first_to_second"] == pytest.approx(0.4)
    assert whole["second_to_first"] == pytest.approx((0.4 + 0.6) / 2)
    assert whole["cross"] == pytest.approx((0.4 + 0.4 + 0.6) / 3)
    assert math.isnan(whole["negation"])
    assert words["overlap"] == pytest.approx((0.3 / 0.5 + 0.2 / 0.8 + 0.1 / 0.9) / 3)
    assert words["first_to_second"] == pytest.approx(0.4 / 0.5)


def test_a_vit_attends_to_its_region_and_patches_must_agree():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    images = EncodedImages(pixels, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    region = np.tile([1.0, 0.5, 0.0, 0.0], (5, 1))
    model = vit()
    subject = LoadedModel("teacher", 0, Path("made"), model)
    (result,), _ = measured(Side(subject, images, ImagePlaces(region, 4), "p"), rows=5, pairs=())
    with measures.eager(model):
        maps = measures.read_attention(model, images.batch(np.arange(5)))
    for layer, seen in enumerate(maps):
        by_hand = seen[:, :, 0, 1] + 0.5 * seen[:, :, 0, 2]
        patches = by_hand / seen[:, :, 0, 1:].sum(dim=-1)
        for specials, heads in ((True, by_hand), (False, patches)):
            key = specials, "region"
            assert np.allclose(result.layers[key][:, layer], heads.mean(dim=1), atol=1e-6)
            assert np.allclose(result.heads[key].mean[layer], heads.mean(dim=0), atol=1e-6)
    assert np.allclose(result.uniform[False, "region"], 1.5 / 4)
    assert (result.rolled[False, "region"] > 0).all()


def test_attention_is_eager_while_it_is_read_and_then_what_it_was():
    model = text_model("bert", attn_implementation="sdpa")
    inputs = {"input_ids": torch.tensor([[1, 2, 3]]), "attention_mask": torch.ones(1, 3).long()}
    assert model.config._attn_implementation == "sdpa"
    seen = []

    def fail_half_way():
        with measures.eager(model):
            seen.append(model.config._attn_implementation)
            seen.append(len(measures.read_attention(model, inputs)))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert seen == ["eager", 2]
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(HarnessError, match="only eager attention does"):
        measures.read_attention(model, inputs)
    with pytest.raises(HarnessError, match="eval mode"):
        measures.read_attention(model.train(), inputs)
