"""Model inputs are those of the tokenizer or processor itself, made once, and never another's."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ConvNextImageProcessorPil, ViTImageProcessorPil

from harness_plugin import HarnessError
from harness_plugin.config.settings import ImageSettings
from harness_plugin.data.dataset import make_split
from harness_plugin.models import processors
from harness_plugin.store.stages import Store
from harness_plugin.training.inputs import encode
from harness_plugin.training.inputs.pixels import to_pixels

FIRST = ["the cat sat", "a", "dogs bark at the cat in the yard", "", "the cat"]
SECOND = ["a cat", "the dogs bark loudly at a passing car today", "cat", "yard", ""]


def pairs(first=FIRST, second=SECOND):
    inputs = {"premise": first, "hypothesis": second}
    return text_split(inputs)


def text_split(inputs):
    n = len(next(iter(inputs.values())))
    return make_split(
        "pairs",
        purpose="ood",
        inputs=inputs,
        ids=[str(i) for i in range(n)],
        label_texts=["no"] * n,
        labels=("no",),
    )


def tokenizer_in(folder, types=True, vocab_size=300):
    processors.train_tokenizer(FIRST + SECOND, vocab_size, folder)
    tokenizer = processors.load_processor(str(folder), "text")
    if not types:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


@pytest.fixture
def tokenizer(tmp_path):
    return tokenizer_in(tmp_path / "tokenizer")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def text(split, tokenizer, store, columns=("premise", "hypothesis"), max_length=12):
    return encode.encode(split, columns, tokenizer, store, max_length=max_length)


@pytest.mark.parametrize("types", [True, False])
@pytest.mark.parametrize("columns", [("premise", "hypothesis"), ("premise",)])
def test_a_batch_is_the_tokenizers_own(tmp_path, store, types, columns):
    tokenizer = tokenizer_in(tmp_path / "t", types)
    encoded = text(pairs(), tokenizer, store, columns)
    rows = np.array([3, 0, 2])
    texts = [[(FIRST if c == "premise" else SECOND)[i] for i in rows] for c in columns]
    expected = tokenizer(
        *texts, truncation=True, max_length=12, padding="longest", return_tensors="pt"
    )
    batch = encoded.batch(rows)
    assert set(batch) == set(expected)
    assert ("token_type_ids" in batch) is types
    for name, value in batch.items():
        assert torch.equal(value, expected[name]), name


def test_lengths_and_truncation_are_counted(tokenizer, store):
    encoded = text(pairs(), tokenizer, store, max_length=12)
    whole = [len(ids) for ids in tokenizer(FIRST, SECOND)["input_ids"]]
    assert encoded.lengths.tolist() == [min(n, 12) for n in whole]
    (stage,) = [path for path in store.root.glob("encoded-*") if path.is_dir()]
    record = json.loads((stage / "stage.json").read_text())
    assert record["truncated"] == sum(n > 12 for n in whole) > 0
    assert record["rows"] == 5


def test_rows_of_several_chunks_keep_their_places(tokenizer, store, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK", 2)
    encoded = text(pairs(), tokenizer, store)
    expected = tokenizer(FIRST, SECOND, truncation=True, max_length=12)["input_ids"]
    for i in range(5):
        assert encoded.batch(np.array([i]))["input_ids"][0].tolist() == expected[i]


def test_an_empty_batch_has_no_columns(tokenizer, store):
    assert text(pairs(), tokenizer, store).batch(np.array([], int))["input_ids"].shape == (0, 0)


def stages(store):
    return sum(path.is_dir() for path in store.root.glob("encoded-*"))


def test_the_store_serves_the_same_and_nothing_else(tmp_path, tokenizer, store, monkeypatch):
    text(pairs(), tokenizer, store)
    with monkeypatch.context() as patched:
        patched.setattr(encode, "write_text_rows", None)  # cannot be built again
        text(pairs(), tokenizer, store)
    assert stages(store) == 1
    text(pairs(first=[*FIRST[:4], "a cat"]), tokenizer, store)
    text(pairs(), tokenizer, store, max_length=11)
    text(pairs(), tokenizer, store, columns=("hypothesis", "premise"))
    text(pairs(), tokenizer_in(tmp_path / "other", vocab_size=40), store)
    text(pairs(), tokenizer_in(tmp_path / "plain", types=False), store)
    assert stages(store) == 6


def test_earlier_calls_of_a_tokenizer_leave_no_trace_in_its_key(tokenizer):
    before = encode.processor_key(tokenizer)
    tokenizer("a cat", padding="max_length", truncation=True, max_length=7)
    assert encode.processor_key(tokenizer) == before


def test_a_tokenizer_without_padding_is_refused(tokenizer, store):
    tokenizer.pad_token = None
    with pytest.raises(HarnessError, match="has no padding token"):
        text(pairs(), tokenizer, store)


def test_token_types_of_another_layout_are_refused(tokenizer, store, monkeypatch):
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A", pair="$A $B:1 [CLS]:2", special_tokens=[("[CLS]", 2)]
    )
    with pytest.raises(HarnessError, match="pairs: row 1: the tokenizer's token types do not read"):
        text(pairs(), tokenizer, store)


def faces(values, features=None):
    import datasets

    return make_split(
        "faces",
        purpose="ood",
        inputs={"image": values},
        ids=[str(i) for i in range(len(values))],
        label_texts=["no"] * len(values),
        labels=("no",),
        features={"image": datasets.Image() if features is None else features},
    )


def drawn(folder, size=(40, 40), n=3):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        paths.append(str(folder / f"{i}.png"))
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(paths[-1])
    return paths


@pytest.mark.parametrize("size", [(40, 40), (16, 16), (30, 50)])
@pytest.mark.parametrize("kind", ["vit", "plain", "scaled", "convnext"])
def test_images_are_normalised_as_the_processor_does(tmp_path, store, size, kind):
    processor = {
        "vit": ViTImageProcessorPil(size={"height": 16, "width": 16}),
        "plain": ViTImageProcessorPil(size={"height": 16, "width": 16}, do_normalize=False),
        "scaled": ViTImageProcessorPil(size={"height": 16, "width": 16}, rescale_factor=1 / 127.5),
        "convnext": ConvNextImageProcessorPil(size={"shortest_edge": 16}, crop_pct=0.875),
    }[kind]
    paths = drawn(tmp_path, size)
    encoded = encode.encode(faces(paths), ["image"], processor, store, max_length=0)
    assert encoded.lengths is None
    batch = encoded.batch(np.array([2, 0]))["pixel_values"]
    expected = processor([Image.open(paths[i]) for i in (2, 0)], return_tensors="pt")
    assert batch.shape == (2, 3, 16, 16)
    assert torch.allclose(batch, expected["pixel_values"].float(), atol=1e-5)


def test_a_crop_comes_before_the_size(tmp_path, store):
    processors.save_image_processor(ImageSettings(size=16), tmp_path / "processor")
    processor = processors.load_processor(str(tmp_path / "processor"), "image")
    path = drawn(tmp_path, (40, 30), 1)[0]
    whole = np.asarray(Image.open(path))
    encoded = encode.encode(
        faces([path]), ["image"], processor, store, max_length=0, center_crop=16
    )
    assert np.array_equal(encoded.pixels[0], whole[12:28, 7:23])
    other = encode.encode(faces([path]), ["image"], processor, store, max_length=0, center_crop=20)
    assert not np.array_equal(other.pixels, encoded.pixels)
    assert stages(store) == 2


def test_arrays_are_read_as_images(tmp_path, store):
    import datasets

    values = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    split = faces(list(values), datasets.Array3D((8, 8, 3), "uint8"))
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    encoded = encode.encode(split, ["image"], processor, store, max_length=0)
    assert np.array_equal(encoded.pixels, values)


def test_an_unreadable_image_is_named_by_its_row(tmp_path, store):
    paths = drawn(tmp_path)
    (tmp_path / "1.png").write_bytes(b"no image")
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    with pytest.raises(HarnessError, match=r"row 2.* cannot be "):
        encode.encode(faces(paths), ["image"], processor, store, max_length=0)
    (tmp_path / "1.png").unlink()
    with pytest.raises(FileNotFoundError):
        faces(paths).fingerprint  # noqa: B018


def test_threads_give_the_pixels_of_one_in_the_order_of_the_rows(tmp_path, store):
    rng = np.random.default_rng(1)
    files = []
    for number in range(600):  # more than a chunk; sizes differ, so that threads overtake
        side = 8 + 40 * (number % 7 == 0)
        image = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        image.save(file := tmp_path / f"{number}.png")
        files.append(str(file))
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    encoded = encode.encode(faces(files), ["image"], processor, store, max_length=0)
    alone = [to_pixels(Image.open(file), processor, None, (16, 16)) for file in files]
    assert np.array_equal(encoded.pixels, np.stack(alone))


def test_a_changed_image_processor_is_another_key():
    keys = {
        encode.processor_key(
            ViTImageProcessorPil(size={"height": side, "width": side}, do_resize=r)
        )
        for side in (8, 16)
        for r in (True, False)
    }
    assert len(keys) == 4


def test_pixels_are_an_ordinary_npy_file(tmp_path):
    """What NumPy itself would write, row by row, without a memory map of it."""
    from harness_plugin.training.inputs import encode

    images = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)

    class Rows:
        def select_columns(self, names):
            return self

    class Of:
        rows, name = Rows(), "made"

        def __len__(self):
            return 3

    def some(rows, column, start, count, then):
        return images[start : start + count]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "read_images", some)
        patch.setattr(encode, "target_size", lambda processor: (4, 5))
        patch.setattr(np.lib.format, "open_memmap", None)
        encode.write_images(Of(), "image", None, None, tmp_path, True)
    np.save(tmp_path / "whole.npy", images)
    written = (tmp_path / "pixels.npy").read_bytes()
    assert written == (tmp_path / "whole.npy").read_bytes()
    assert np.load(tmp_path / "pixels.npy", mmap_mode="r").shape == (3, 4, 5, 3)
