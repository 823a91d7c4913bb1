"""Any sequence classifier as a model of lm-evaluation-harness: `--model seqcls`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

# that harness registers its own when it finds none: ours must not be the first
import lm_eval.models  # noqa: F401
import numpy as np
import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from harness_plugin.config.run_config import RunConfig
from harness_plugin.data.dataset import make_split
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.models.weight_files import check_folder
from harness_plugin.pipeline.roles.split_stages import weights_key
from harness_plugin.records import Predictions, predictions_of
from harness_plugin.store.keys import code_version
from harness_plugin.store.stages import key_of
from harness_plugin.training.inputs.encode import EncodedText, processor_key, write_text_rows
from harness_plugin.training.predict import predict
from harness_plugin_hooks.adapters.checkpoints import (
    ATTENTIONS,
    EvaluatedWith,
    evaluated_with,
    load_classifier,
    named_labels,
)
from harness_plugin_hooks.adapters.lm_eval_rows import LabelLogProbability, Prompt, Question

LOG = logging.getLogger(__name__)
RowKey: TypeAlias = tuple[tuple[str, ...], Question | None]
"""A row's texts, and its question; None = one of the choices, whatever they are."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BATCH_SIZE: int = RunConfig.model_fields["eval_batch_size"].default
LARGEST = 512
"""Where `--batch_size auto` begins, unless --max_batch_size says otherwise."""


@dataclass(frozen=True)
class Alone:
    """A process that predicts for itself, in the form in which `predict` knows many of them."""

    device: torch.device
    how: EvaluatedWith = field(default_factory=EvaluatedWith)
    process_index: int = 0
    num_processes: int = 1

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of a forward pass."""
        return self.how.autocast(self.device)

    def reduce(self, table: torch.Tensor) -> torch.Tensor:
        """There is nothing to add."""
        return table


@register_model("seqcls")
class SequenceClassifier(LM):  # type: ignore[misc]
    """A classifier over texts or pairs of texts; each document passes through it once.

    Of our tasks it reads the texts themselves, not the instruction that other models are given.

    Model arguments: `pretrained` (a folder saved with save_pretrained, or a hub id), `labels`
    ("entailment/neutral/contradiction", in the order of the logits, for a checkpoint whose classes
    are called LABEL_0 …), `max_length` in tokens, `attention` (sdpa or eager), `dtype`,
    `trust_remote_code`. A model that a run trained is evaluated as the run did unless these say
    otherwise: its length, its attention, float32 weights under its autocast. Any other gets a run's
    defaults (128, sdpa, float32). A `dtype` casts the weights, without autocast.

    The log-probability of a choice is that of the label it names; the flag says whether the model
    predicts it. The labels of a set and how the model's become these come with the request.
    """

    def __init__(
        self,
        pretrained: str = "",
        labels: str | Sequence[str] | None = None,
        max_length: int | None = None,
        dtype: str = "auto",
        attention: str | None = None,
        trust_remote_code: bool = False,
        batch_size: int | str = BATCH_SIZE,
        max_batch_size: int | None = None,
        device: str | None = None,
        **rest: Any,
    ) -> None:
        super().__init__()
        if rest:
            known = [
                "pretrained",
                "labels",
                "max_length",
                "dtype",
                "attention",
                "trust_remote_code",
            ]
            raise unknown("argument of model seqcls", next(iter(rest)), known)
        if not pretrained:
            raise HarnessError("model seqcls: give --model_args pretrained=DIR (or a hub id).")
        if dtype not in ("auto", *DTYPES):
            raise unknown("dtype of model seqcls", str(dtype), ["auto", *DTYPES])
        if attention not in (None, *ATTENTIONS):
            raise unknown("attention of model seqcls", str(attention), ATTENTIONS)
        if Path(pretrained).is_dir():
            check_folder(Path(pretrained))
        self._join(device)
        self._device = self._place(device)
        recorded = evaluated_with(pretrained)
        self.how = EvaluatedWith(
            max_length or recorded.max_length,
            recorded.precision if dtype == "auto" else "no",
            attention or recorded.attention,
        )
        hint = f"--model_args pretrained={pretrained},labels"
        self.labels = named_labels(pretrained, labels, hint, trust_remote_code)
        self.tokenizer, model = load_classifier(pretrained, self.how, trust_remote_code)
        self.model = model.to(DTYPES.get(dtype, torch.float32))
        # lm_eval asks for batches of 1 where nobody asked for anything
        self.batch_size = BATCH_SIZE if str(batch_size) == "1" else batch_size
        self.max_batch_size = max_batch_size
        self.max_length = self.how.max_length
        self.truncated = 0
        self.rules: dict[str, None] = {}
        self.weights = weights_key(pretrained)
        self.fingerprint = key_of(
            {
                "weights": self.weights,
                "tokenizer": processor_key(self.tokenizer),
                "labels": self.labels,
                "settings": [*astuple(self.how), dtype],
                "code": code_version("harness_plugin.models.classifiers:load_trained"),
            }
        )

    def _join(self, device: str | None) -> None:
        """Become one of the processes that a launcher started."""
        self._processes: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            cpu = device == "cpu" or not torch.cuda.is_available()
            self._processes = PartialState(cpu=cpu)
            self._rank = self._processes.process_index
            self._world_size = self._processes.num_processes

    def _place(self, device: str | None) -> torch.device:
        """The device that is used; lm_eval asks for cuda:0 where nobody asked for anything."""
        if self._processes is not None:
            return torch.device(self._processes.device)
        cuda = torch.cuda.is_available()
        place = device or ("cuda" if cuda else "cpu")
        if place.startswith("cuda") and not cuda:
            LOG.warning("seqcls: no CUDA device is available here; running on the CPU.")
            place = "cpu"
        return torch.device(place)

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """(log p(label), whether it is the predicted one) of every request."""
        choices_of: dict[RowKey, dict[str, None]] = {}
        for request in requests:
            context, choice = request.args
            choices_of.setdefault(about(context), {})[choice.strip()] = None
        answers = self.answers({key: tuple(choices) for key, choices in choices_of.items()})
        return [answers[about(context), choice.strip()] for context, choice in args_of(requests)]

    def answers(
        self, choices_of: Mapping[RowKey, tuple[str, ...]]
    ) -> dict[tuple[RowKey, str], tuple[float, bool]]:
        """Scores of every (row, choice); each row is evaluated once."""
        batches: dict[tuple[int, Question], list[RowKey]] = {}
        for (texts, question), choices in choices_of.items():
            of = (len(texts), question or Question(choices))
            batches.setdefault(of, []).append((texts, question))
        answered: dict[tuple[RowKey, str], tuple[float, bool]] = {}
        for (_, question), rows in batches.items():
            predictions = self.predictions([texts for texts, _ in rows], question)
            log_probabilities = np.log(np.clip(predictions.probabilities, 1e-45, None))
            for row, key in enumerate(rows):
                for label in choices_of[key]:
                    if label not in question.labels:
                        raise unknown("label among the choices", label, question.labels)
                    index = question.labels.index(label)
                    predicted = bool(predictions.predicted[row] == index)
                    value = LabelLogProbability(log_probabilities[row, index])
                    answered[key, label] = value, predicted
        return answered

    def predictions(self, texts: Sequence[tuple[str, ...]], question: Question) -> Predictions:
        """The record of the answers to (N,) texts or pairs, collapsed as in a run."""
        names = [f"text{i}" for i in range(len(texts[0]))]
        split = make_split(
            "requests",
            purpose="ood",
            inputs=dict(zip(names, map(list, zip(*texts, strict=True)), strict=True)),
            ids=[str(i) for i in range(len(texts))],
            label_texts=[question.labels[0]] * len(texts),  # the gold ones are not known
            labels=question.labels,
            missing_labels=(),
        )
        split = replace(
            split, collapse=dict(question.collapse) or None, collapse_rule=question.rule
        )
        nothing = np.empty((0, len(self.labels)), np.float32)
        predictions = predictions_of(
            split,
            nothing,
            task="lm_eval",
            role="seqcls",
            model="seqcls",
            seed=0,
            model_labels=self.labels,
        )
        self.report(predictions)
        with TemporaryDirectory() as folder:
            record = write_text_rows(
                split, names, self.tokenizer, self.how.max_length, Path(folder), self.rank > 0
            )
            encoded = read_encoded(Path(folder), int(self.tokenizer.pad_token_id))
            logits = self.logits(encoded)
        self.truncated += int(record["truncated"])
        if record["truncated"]:
            LOG.warning(
                "seqcls: %d of %d texts are cut to %d tokens",
                record["truncated"],
                len(texts),
                self.how.max_length,
            )
        return replace(predictions, logits=logits)

    def report(self, predictions: Predictions) -> None:
        """Say once how the model's labels become those of the set; refuse labels that cannot."""
        pairs = [
            f"{name} -> {predictions.labels[target] if target >= 0 else 'left out'}"
            for name, target in zip(predictions.model_labels, predictions.targets, strict=True)
            if target < 0 or name.lower() != predictions.labels[target].lower()
        ]
        rule = f"{', '.join(pairs)} ({predictions.collapse_rule})"
        if pairs and rule not in self.rules:
            self.rules[rule] = None
            LOG.warning("seqcls: labels are collapsed: %s", rule)

    def logits(self, encoded: EncodedText) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(N, C) logits; with batch size "auto", by the largest batches that fit into memory."""
        quiet, alone = self.rank > 0, Alone(self.device, self.how)

        def by(size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
            return predict(alone, self.model, encoded, batch_size=size, name="seqcls", quiet=quiet)

        if not str(self.batch_size).startswith("auto"):
            return by(int(self.batch_size))
        from accelerate.utils import find_executable_batch_size

        computed: np.ndarray[Any, np.dtype[np.float32]] = find_executable_batch_size(
            by, starting_batch_size=self.max_batch_size or LARGEST
        )()
        return computed

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """Refused: a classifier has no likelihood of a text."""
        raise HarnessError("model seqcls answers multiple_choice tasks; it has no perplexity.")

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """Refused: a classifier writes nothing."""
        raise HarnessError("model seqcls answers multiple_choice tasks; it generates no text.")

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Keep the answers of this model in a table of its own in lm_eval's cache.

        That harness looks answers up by the request alone, so that `--use_cache` with one path
        would hand the teacher's answers to the student (lm-evaluation-harness #2715, #4063).
        """
        super().set_cache_hook(cache_hook)
        if (stored := cache_hook.dbdict) is not None:
            table = f"seqcls-{self.fingerprint}"
            columns = "(key TEXT PRIMARY KEY, value BLOB)"
            stored.conn.execute(f'CREATE TABLE IF NOT EXISTS "{table}" {columns}')
            stored.tablename = table
            stored.conn.commit()

    def get_model_info(self) -> dict[str, Any]:
        """Entries of the results' `config`, beside those that lm_eval writes there."""
        return {
            "model_num_parameters": self.model.num_parameters(),
            "model_dtype": str(self.model.dtype),
            "model_revision": getattr(self.model.config, "_commit_hash", None) or "",
            "model_sha": self.weights,
            "model_labels": list(self.labels),
            "model_collapse": list(self.rules),
            "model_device": str(self.device),
            "model_attention": self.model.config._attn_implementation,
            "model_max_length": self.how.max_length,
            "model_precision": self.how.precision,
            "model_truncated": self.truncated,
        }

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """(W, …) the tensors of all processes."""
        if self._processes is None:
            return tensor
        from accelerate.utils import gather

        gathered: torch.Tensor = gather(tensor)
        return gathered

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """The objects of all processes on process `dst`, merged into one, None elsewhere.

        Process r of W holds documents r, r + W, …; merged, they stand in the order in which one
        process has them, so that neither hashes nor sums depend on the number of processes.
        """
        if self._processes is None:
            return [obj]
        from accelerate.utils import gather_object

        parts = gather_object([obj])
        return [interleaved(parts)] if self.rank == dst else None

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self._processes is not None:
            self._processes.wait_for_everyone()


def about(context: str) -> RowKey:
    """The texts and the question of a request; a text of another task's is asked as it is."""
    return (context.texts, context.question) if isinstance(context, Prompt) else ((context,), None)


def args_of(requests: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """The context and the choice of every request."""
    return (request.args for request in requests)


def interleaved(parts: Sequence[Any]) -> Any:
    """Lists taken in turn; mappings key by key, where a key that a part lacks counts as empty."""
    if all(isinstance(part, Mapping) for part in parts):
        keys = dict.fromkeys(chain.from_iterable(parts))
        kinds = {key: type(next(part[key] for part in parts if key in part)) for key in keys}
        return {key: interleaved([part.get(key, kinds[key]()) for part in parts]) for key in keys}
    missing = object()
    turns = chain.from_iterable(zip_longest(*parts, fillvalue=missing))
    return [value for value in turns if value is not missing]


def read_encoded(folder: Path, pad: int) -> EncodedText:
    """Read the rows that `write_text_rows` wrote."""
    second = folder / "second.npy"
    return EncodedText(
        np.load(folder / "tokens.npy"),
        np.load(folder / "offsets.npy"),
        np.load(second) if second.exists() else None,
        pad,
    )
