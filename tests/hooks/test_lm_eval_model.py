"""Our classifiers as a model of lm-evaluation-harness: what it asks, what they answer."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip(
    "lm_eval", reason="lm_eval is not installed: pip install 'debias-transfer[lm-eval]'"
)

from lm_eval.api.instance import Instance
from lm_eval_runs import THREE, TWO, evaluate
from logged import logged
from sqlitedict import SqliteDict

from harness_plugin import HarnessError
from harness_plugin.models import classifiers, processors
from harness_plugin_hooks.adapters.lm_eval_model import (
    SequenceClassifier,
    about,
)
from harness_plugin_hooks.adapters.lm_eval_rows import (
    Prompt,
    Question,
)

pytestmark = pytest.mark.usefixtures("quiet_lm_eval")


@pytest.fixture
def passes(monkeypatch):
    """How many rows pass through models of `transformers`."""
    from transformers import BertForSequenceClassification

    seen = []
    forward = BertForSequenceClassification.forward

    def counted(self, *args, **values):
        seen.append(len(values["input_ids"]))
        return forward(self, *args, **values)

    monkeypatch.setattr(BertForSequenceClassification, "forward", counted)
    return seen


def test_every_document_passes_through_the_model_once(checkpoints, passes):
    evaluate(checkpoints["teacher"], limit=50)
    assert sum(passes) == 50


def reference(checkpoint, pairs):
    """Log-probabilities by transformers alone, a pair at a time."""
    tokenizer = processors.load_processor(str(checkpoint), "text")
    model = classifiers.load_trained(str(checkpoint), "text", attention="eager").eval()
    with torch.inference_mode():
        return torch.cat(
            [model(**tokenizer(*pair, return_tensors="pt")).logits.double() for pair in pairs]
        ).log_softmax(-1)


def instances(pairs, question):
    return [
        Instance("loglikelihood", {}, (Prompt.of("as it is", pair, question), f" {label}"), i)
        for pair in pairs
        for i, label in enumerate(question.labels)
    ]


@pytest.mark.parametrize("rule", ["argmax", "sum"])
def test_three_labels_are_collapsed_by_the_named_rule(checkpoints, hans, rule):
    rows = hans.splits["hans"].rows[:40]
    pairs = list(zip(rows["premise"], rows["hypothesis"], strict=True))
    collapse = (("contradiction", "non-entailment"), ("neutral", "non-entailment"))
    lm = SequenceClassifier(str(checkpoints["three"]), batch_size=8, device="cpu")
    with logged() as messages:
        got = lm.loglikelihood(instances(pairs, Question(TWO, collapse, rule)))
    expected = reference(checkpoints["three"], pairs).numpy()
    two = np.stack([expected[:, 0], np.logaddexp(expected[:, 1], expected[:, 2])], 1)
    assert np.allclose(np.reshape([p for p, _ in got], (40, 2)), two, atol=1e-5)
    entailed = expected.argmax(1) == 0 if rule == "argmax" else two.argmax(1) == 0
    assert np.array_equal(np.reshape([f for _, f in got], (40, 2))[:, 0], entailed)
    answers = "neutral -> non-entailment, contradiction -> non-entailment"
    assert lm.get_model_info()["model_collapse"] == [f"{answers} ({rule})"]
    assert f"labels are collapsed: {answers} ({rule})" in "".join(messages)


def test_labels_of_the_model_that_a_set_lacks_can_be_left_out(checkpoints, hans):
    rows = hans.splits["hans"].rows[:10]
    pairs = list(zip(rows["premise"], rows["hypothesis"], strict=True))
    lm = SequenceClassifier(str(checkpoints["three"]), device="cpu")
    got = lm.loglikelihood(instances(pairs, Question(THREE[::2], (), "restrict")))
    expected = reference(checkpoints["three"], pairs)[:, ::2].log_softmax(-1)
    assert np.allclose([p for p, _ in got], expected.flatten().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give --model_args pretrained=DIR"),
        ({"pretrained": "nowhere/at/all"}, "cannot be loaded"),
        ({"pretrained": "student", "labels": "a/b/c"}, "3 labels were given, .* has 2 classes"),
        ({"pretrained": "student", "dtype": "int8"}, "unknown dtype of model seqcls 'int8'"),
        ({"pretrained": "student", "maxlength": 3}, "Did you mean max_length"),
        ({"pretrained": "student", "attention": "flash"}, "unknown attention of model seqcls"),
    ],
)
def test_wrong_model_arguments_are_named(checkpoints, values, message):
    if values.get("pretrained") in checkpoints:
        values = {**values, "pretrained": str(checkpoints[values["pretrained"]])}
    with pytest.raises(HarnessError, match=message):
        SequenceClassifier(**values, device="cpu")


def test_labels_without_a_name_are_refused_and_can_be_named(checkpoints, tmp_path):
    nameless = shutil.copytree(checkpoints["teacher"], tmp_path / "nameless")
    config = json.loads((nameless / "config.json").read_text())
    config["id2label"] = {"0": "LABEL_0", "1": "LABEL_1"}
    config["label2id"] = {"LABEL_0": 0, "LABEL_1": 1}
    (nameless / "config.json").write_text(json.dumps(config))
    with pytest.raises(HarnessError, match=r"LABEL_0, LABEL_1.*labels=entailment/neutral"):
        SequenceClassifier(str(nameless), device="cpu")
    turned = SequenceClassifier(str(nameless), labels="non-entailment/entailment", device="cpu")
    right = SequenceClassifier(str(checkpoints["teacher"]), device="cpu")
    requests = instances([("the cat sat", "the cat")], Question(TWO))
    (a, b), (c, d) = turned.loglikelihood(requests), right.loglikelihood(requests)
    assert (a, b) == (d, c)


def test_a_classifier_has_no_perplexity(checkpoints):
    with pytest.raises(HarnessError, match="has no perplexity"):
        SequenceClassifier(str(checkpoints["three"]), device="cpu").loglikelihood_rolling([])


def test_long_texts_are_cut_and_counted(checkpoints):
    lm = SequenceClassifier(str(checkpoints["teacher"]), max_length=8, device="cpu")
    lm.loglikelihood(instances([("the cat " * 9, "the cat"), ("a", "b")], Question(TWO)))
    assert lm.get_model_info()["model_truncated"] == 1
    whole = SequenceClassifier(str(checkpoints["teacher"]), batch_size="auto", device="cpu")
    assert whole.max_length == 128
    requests = instances([("the cat", "the cat")], Question(TWO))
    assert len(whole.loglikelihood(requests)) == 2


def test_a_request_says_all_that_its_answer_depends_on():
    question = Question(TWO, (("neutral", "non-entailment"),), "sum")
    prompt = pickle.loads(pickle.dumps(Prompt.of("asked", ("a b", "c"), question)))
    assert about(prompt) == (("a b", "c"), question)
    assert prompt == "asked"
    assert about("made elsewhere") == (("made elsewhere",), None)


def test_one_cache_path_never_mixes_teacher_and_student(checkpoints, tmp_path, passes):
    alone = {name: evaluate(checkpoints[name], limit=60) for name in ("teacher", "student")}
    numbers = {name: result["results"]["hans"] for name, result in alone.items()}
    assert numbers["teacher"]["acc,none"] != numbers["student"]["acc,none"]
    passes.clear()
    path = str(tmp_path / "cache" / "answers")
    for name in ("teacher", "student", "teacher"):
        result = evaluate(checkpoints[name], limit=60, use_cache=path)
        assert result["results"]["hans"] == numbers[name]
    assert sum(passes) == 120  # the second time, the teacher's answers come from the cache
    tables = [t for t in SqliteDict.get_tablenames(f"{path}_rank0.db") if t.startswith("seqcls")]
    assert len(tables) == 2
