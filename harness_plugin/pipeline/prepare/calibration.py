"""A CPU's quickest threads, precision and attention for a model: measured on its shape, and kept.

The shape is the teacher's, in most runs the largest model, whose choice no other student of the
same teacher changes. It is built with random weights and two of its layers, which take a share of
the time of all, and updated with every candidate in turn.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, PreTrainedConfig

from harness_plugin.machine.environment import cpu_name
from harness_plugin.machine.load import Neighbours
from harness_plugin.models.checkpoints import (
    check_config,
    load_config,
    locate,
    overridden,
    read_as,
)
from harness_plugin.models.classifiers import AUTO, supported_attention
from harness_plugin.models.hub import reading
from harness_plugin.pipeline.prepare.open_task import OpenTask
from harness_plugin.plugins.registry import Plugins
from harness_plugin.store.files import disk_errors
from harness_plugin.store.seals import DamagedError, read_sealed, write_sealed

Setting: TypeAlias = tuple[int, str, str]
"""Threads, precision, attention."""

LAYERS = 2
"""Layers that are measured, of as many as there are; blocks of a stage: one."""
DEPTH = ("num_hidden_layers", "num_layers", "num_decoder_layers", "n_layers", "n_layer")
WORDS = 512
"""Vocabulary that is measured: an embedding takes no longer for more."""
FIRST_WORD = 256
SIDE = 224
"""Pixels of the largest image that is measured, and of those that checkpoints read."""
SAMPLE = 64
"""Rows whose words are counted."""
TOKENS_PER_WORD = 1.3
STEP = 0.3
"""Seconds of a step, above which it has fewer rows than an update."""
TURN = 0.02
"""Seconds of a candidate's turn in a round: its quickest step counts."""
ROUNDS = 5
SLOWER, FAR = 1.3, 3.0
"""Times the quickest with as many threads, and of all: slower candidates have no more turns."""
QUIET = 0.85
"""Share of the cores that others must leave for a measurement to be kept for good."""


@dataclass(frozen=True)
class Shape:
    """What the time of a training step depends on; `Shape.of` makes one of a whole model.

    `length` is the tokens of a row, or the pixels of an image's side.
    """

    modality: str
    config: PreTrainedConfig
    rows: int
    length: int
    trust_remote_code: bool = False

    @classmethod
    def of(
        cls,
        modality: str,
        config: PreTrainedConfig,
        rows: int,
        length: int,
        trust_remote_code: bool = False,
    ) -> Shape:
        """The shape of a model: its configuration with few layers and few words."""
        known = config.to_dict()
        small: dict[str, Any] = {
            name: min(LAYERS, known[name]) for name in DEPTH if isinstance(known.get(name), int)
        }
        if isinstance(depths := known.get("depths"), list):
            small["depths"] = [1] * len(depths)
        if modality == "text":
            ids = {name: value for name, value in known.items() if name.endswith("_token_id")}
            small |= {n: min(v, WORDS - 1) for n, v in ids.items() if isinstance(v, int)}
            small |= {"vocab_size": WORDS, "pad_token_id": small.get("pad_token_id", 0)}
            most = known.get("max_position_embeddings")
            length = min(length, most - 2) if isinstance(most, int) and most > 2 else length
        elif "image_size" in known:
            small["image_size"] = length
        return cls(modality, overridden(config, small), rows, length, trust_remote_code)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """It as JSON: the numbers and words of the configuration, without names of labels."""
        config = {
            name: value
            for name, value in self.config.to_dict().items()
            if not name.startswith("_") and name not in ("transformers_version", "architectures")
            and not isinstance(value, dict | None)
        }  # fmt: skip
        facts = {"config": config, "rows": self.rows, "length": self.length}
        plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
        return plain

    @property
    def name(self) -> str:
        """Its model type and a digest of all of it, for a file's name."""
        text = json.dumps(self.facts, sort_keys=True)
        return f"{self.config.model_type}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def shape_of(opened: OpenTask, plugins: Plugins, trust_remote_code: bool = False) -> Shape:
    """The shape of a run's teacher. Raises HarnessError for a model or a setting that is none."""
    settings, modality = opened.settings, opened.task.modality
    teacher = settings.teacher
    source = locate(teacher, modality, plugins)
    if source.backbone is None:
        config = read_as(source, load_config(str(source.checkpoint), trust_remote_code))
        side = min(SIDE, getattr(config, "image_size", SIDE))
    else:
        kind = source.backbone.model_type
        with reading(source.name):
            config = AutoConfig.for_model(kind, **source.backbone.config)
        side = min(SIDE, settings.image.size)
    check_config(source.name, config, teacher)
    config = overridden(config, teacher.config)
    length = typical_tokens(opened, teacher.max_length) if modality == "text" else side
    return Shape.of(modality, config, teacher.batch_size, length, trust_remote_code)


def typical_tokens(opened: OpenTask, most: int) -> int:
    """Tokens of a row, the next power of two: more or less data of one kind have the same."""
    rows = opened.data.evaluation[0].stored(opened.task.inputs, 0, SAMPLE).to_pylist()
    words = sum(len(str(text).split()) for row in rows for text in row.values())
    tokens = TOKENS_PER_WORD * words / max(len(rows), 1) + 1 + len(opened.task.inputs)
    return min(most, 1 << math.ceil(math.log2(tokens)))


def cpu_profile(root: Path, shape: Shape, cores: int) -> tuple[dict[str, float], str]:
    """Milliseconds of a step by setting, from a file in `root` or measured; and words on that.

    What was measured beside busy neighbours is used until a start on a quiet machine, which
    measures again: settings change the last bits of a result, so they change once at most. A model
    that cannot be measured stops no run.
    """
    machine = re.sub(r"\W+", "-", f"{cpu_name()}-{cores}-torch{torch.__version__}")
    file = root / "machine" / f"{machine}-{shape.name}.json"
    try:
        profile = read_sealed(file)
    except DamagedError as error:
        print(f"{file}: {error}; measured again.", flush=True)
        profile = None
    if profile is None or (profile["busy"] and is_quiet(cores)):
        neighbours = Neighbours()
        try:
            measured = measure_cpu(shape, cores)
        except Exception as error:  # whatever the code of a checkpoint raises on random rows
            reason = " ".join(str(error).split())[:200]
            return {f"{cores} no sdpa": 0.0}, f"not measured: {type(error).__name__}: {reason}"
        busy = neighbours.left() < QUIET * cores
        if profile is None or not busy:
            profile = {**shape.facts, **measured, "busy": busy}
            with disk_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                write_sealed(file, profile)
    why = f"measured on this machine, kept in the store as machine/{file.name}"
    if profile["busy"]:
        why += "; it was busy, and is measured again by a run that finds it quiet"
    return profile["milliseconds"], why


def is_quiet(cores: int, seconds: float = 0.3) -> bool:
    """Whether others leave the cores alone. Never in a worker, whose run has chosen for it."""
    if multiprocessing.parent_process() is not None:
        return False
    neighbours = Neighbours()
    time.sleep(seconds)
    return neighbours.left() >= QUIET * cores


def quickest(milliseconds: Mapping[str, float], asked: Mapping[str, Any]) -> Setting:
    """The quickest measured setting among those with what is `asked` for.

    A value that was not measured, such as more threads than there are cores, excludes none.
    """
    left = {setting_of(words): time for words, time in milliseconds.items()}
    for place, name in enumerate(("threads", "precision", "attention")):
        agreeing = {each: t for each, t in left.items() if each[place] == asked.get(name)}
        left = agreeing or left
    return min(left, key=left.__getitem__)


def setting_of(words: str) -> Setting:
    """`2 bf16 eager` as a setting."""
    threads, precision, attention = words.split()
    return int(threads), precision, attention


def measure_cpu(shape: Shape, cores: int) -> dict[str, Any]:
    """Milliseconds of a training step with every setting, and the rows it had."""
    has_choice = supported_attention(shape.config, shape.modality, "sdpa") == "sdpa"
    attentions = ("sdpa", "eager") if has_choice else ("sdpa",)
    rows = fitting_rows(shape)
    steps = {each: step_of(shape, rows, *each) for each in product(("no", "bf16"), attentions)}
    best: dict[Setting, float] = {}
    racing = [(threads, *each) for threads in sorted({1, cores}) for each in steps]
    for number in range(1 + ROUNDS):
        for threads, *rest in racing:
            torch.set_num_threads(threads)
            seconds = fastest(steps[rest[0], rest[1]])
            if number:  # the first round warms up
                setting = (threads, rest[0], rest[1])
                best[setting] = min(seconds, best.get(setting, math.inf))
        if number:
            racing = [each for each in racing if in_the_race(each, best)]
    milliseconds = {" ".join(map(str, each)): round(1e3 * t, 3) for each, t in best.items()}
    return {"milliseconds": milliseconds, "measured_rows": rows}


def in_the_race(setting: Setting, best: Mapping[Setting, float]) -> bool:
    """Whether a candidate may still be the quickest, with whatever number of threads is asked."""
    alike = min(seconds for each, seconds in best.items() if each[0] == setting[0])
    return best[setting] <= min(SLOWER * alike, FAR * min(best.values()))


def fitting_rows(shape: Shape) -> int:
    """The rows of an update, or as many of them as a step of `STEP` seconds takes."""
    torch.set_num_threads(1)
    few = min(shape.rows, 2)  # batch normalisation learns nothing from one
    step = step_of(shape, few, "no", "sdpa")
    step()
    return max(few, min(shape.rows, int(few * STEP / fastest(step))))


def step_of(shape: Shape, rows: int, precision: str, attention: str) -> Callable[[], None]:
    """A training step of the shape with random weights, on random rows."""
    torch.manual_seed(0)
    supported = supported_attention(shape.config, shape.modality, attention)
    with reading(shape.config.model_type):
        model = AUTO[shape.modality].from_config(
            overridden(shape.config, {}),
            attn_implementation=supported,
            trust_remote_code=shape.trust_remote_code,
        )
    if shape.modality == "text":
        ids = torch.randint(FIRST_WORD, WORDS - 1, (rows, shape.length))
        if isinstance(end := getattr(shape.config, "eos_token_id", None), int):
            ids[:, -1] = end  # where T5's decoder is read
        mask = torch.ones_like(ids)
        mask[0, -1] = 0  # without any padding attention would take another way
        inputs = {"input_ids": ids, "attention_mask": mask}
    else:
        model.to(memory_format=torch.channels_last)
        pixels = torch.randn(rows, 3, shape.length, shape.length)
        inputs = {"pixel_values": pixels.to(memory_format=torch.channels_last)}
    label = torch.zeros(rows, dtype=torch.long)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-5, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(**inputs).logits
        loss: Any = cross_entropy(logits.float(), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def fastest(step: Callable[[], None]) -> float:
    """Seconds of the quickest step of one turn."""
    start = now = time.perf_counter()
    best = math.inf
    while best == math.inf or now - start < TURN:
        before = now
        step()
        now = time.perf_counter()
        best = min(best, now - before)
    return best
