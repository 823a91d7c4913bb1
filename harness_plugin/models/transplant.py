"""A student that starts from its teacher's weights: which layers, and how they are made narrower.

Layers are chosen by a map, widths are cut to the first units, attention to the first whole heads.
Weights without a counterpart in the teacher stay as the student was initialised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness_plugin.errors import HarnessError
from harness_plugin.models.network import last_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = re.compile(r"^(.*?\b(?:layer|layers|block)\.)(\d+)(\..+)$")
"""A parameter of a repeated block: what stands before its number, the number, what follows."""
INTO_HEADS = re.compile(r"\b(query|key|value|q|k|v)(_lin|_proj)?\.(weight|bias)$")
OUT_OF_HEADS = re.compile(
    r"(attention\.output\.dense|\bout_lin|\bo(ut)?_proj|Attention\.o)\.weight$"
)
RELATIVE_BIAS = "relative_attention_bias"

MAPS: Mapping[str, Callable[[int, int, int], int]] = {
    "even": lambda layer, mine, theirs: layer * theirs // mine,
    "first": lambda layer, mine, theirs: layer,
    "last": lambda layer, mine, theirs: theirs - mine + layer,
    "tinybert": lambda layer, mine, theirs: (layer + 1) * theirs // mine - 1,
}
"""Student layer -> teacher layer, of `mine` and `theirs` layers, counted from 0.

`even` is DistilBERT's every second layer (Sanh et al. 2019), `tinybert` the layer at the end of
each of the teacher's pieces (Jiao et al. 2020, section 3.1).
"""


@dataclass(frozen=True)
class Start:
    """How much of a student came from its teacher."""

    layers: str
    fraction: float
    left: tuple[str, ...]
    """Parameters that have no counterpart of a fitting shape."""

    def record(self) -> dict[str, Any]:
        """For the stage's record."""
        return {"layers": self.layers, "fraction": self.fraction, "left": list(self.left)}


def check_families(student: str, teacher: str, layers: str) -> None:
    """Refuse architectures whose layers do not correspond, and a map that fits none of them."""
    if student != teacher:
        raise HarnessError(
            f"from_teacher={layers}: the student is a {student}, its teacher a {teacher}; weights "
            "are handed on within one architecture. Leave it at none, or choose another model."
        )
    if student == "resnet" and layers not in ("first", "even"):
        raise HarnessError(
            f"from_teacher={layers}: the first block of a ResNet's stage changes the size and must "
            "stay the first; use first or even."
        )


@torch.no_grad()
def from_teacher(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layers: str,
    *,
    same_vocabulary: bool,
    label_order: Sequence[int],
) -> Start:
    """Copy into `student` what fits of `teacher`; `label_order` are its labels' rows by ours.

    With the same architecture all parameters are copied and the two answer alike. Raises
    HarnessError for a student with more layers than its teacher.
    """
    mine, theirs = student.state_dict(), teacher.state_dict()
    depth, their_depth = blocks(mine), blocks(theirs)
    heads = head_sizes(student), head_sizes(teacher)
    head = {id(p) for p in last_layer(student).parameters()}
    words = {id(p) for p in parameters_of(student.get_input_embeddings)}
    named = dict(student.named_parameters(remove_duplicate=False))
    stem_only = layer_type(student) != layer_type(teacher)
    copied: set[int] = set()
    left = []
    for name, value in mine.items():
        source = theirs.get(counterpart(name, depth, their_depth, layers))
        parameter = named.get(name)
        usable = source is not None and not (stem_only and "embedder" not in name)
        if id(parameter) in words and not same_vocabulary:
            usable = False
        if usable and source is not None and id(parameter) in head:
            source = source[list(label_order)]
        cut = narrowed(name, source, value, *heads) if usable and source is not None else None
        if cut is None:
            left += [name] if parameter is not None else []
            continue
        value.copy_(cut)
        if parameter is not None:
            copied.add(id(parameter))
    sizes = {id(p): p.numel() for p in named.values()}
    fraction = sum(size for key, size in sizes.items() if key in copied) / sum(sizes.values())
    return Start(layers, fraction, tuple(left))


def blocks(names: Mapping[str, Any]) -> dict[str, int]:
    """Prefix of a block's number -> number of blocks."""
    depths: dict[str, int] = {}
    for name in names:
        if match := BLOCK.match(name):
            before, number, _ = match.groups()
            depths[before] = max(depths.get(before, 0), int(number) + 1)
    return depths


def counterpart(
    name: str, depth: Mapping[str, int], their_depth: Mapping[str, int], layers: str
) -> str:
    """The teacher's name of a student's parameter."""
    match = BLOCK.match(name)
    if match is None:
        return name
    before, number, after = match.groups()
    n_mine, n_theirs = depth[before], their_depth.get(before, 0)
    if n_mine > n_theirs:
        raise HarnessError(
            f"from_teacher={layers}: the student has {n_mine} layers of {before.rstrip('.')}, its "
            f"teacher {n_theirs}; a student starts from a teacher that is at least as deep."
        )
    chosen = MAPS[layers](int(number), n_mine, n_theirs)
    if RELATIVE_BIAS in name:  # T5 keeps it in the first block, for all of them
        chosen = 0
    return f"{before}{chosen}{after}"


def narrowed(
    name: str, source: Tensor, value: Tensor, mine: tuple[int, int], theirs: tuple[int, int]
) -> Tensor | None:
    """`source` cut to the shape of `value`; None where it is smaller or of another kind.

    `mine` and `theirs` are heads and units a head: where these differ, the first units of the
    first heads are kept, never a piece that runs over from one head into the next.
    """
    if source.dim() != value.dim():
        return None
    if value.dim() > 2 and source.shape[2:] != value.shape[2:]:
        return None  # kernels and patches of another size
    if "position_embeddings" in name and value.dim() == 3 and source.shape[1] != value.shape[1]:
        return None  # an image of another size: positions stand elsewhere
    into, out = bool(INTO_HEADS.search(name)), bool(OUT_OF_HEADS.search(name))
    for axis, size in enumerate(value.shape):
        have = source.shape[axis]
        if have < size:
            return None
        of_heads = (into and axis == 0) or (out and axis == 1)
        if of_heads and have != size and not (mine[0] and theirs[0]):
            return None  # as many heads as the layer says: where one ends is not known
        by_head = of_heads and mine[1] != theirs[1]
        if by_head and have == theirs[0] * theirs[1] and size == mine[0] * mine[1]:
            if theirs[0] < mine[0] or theirs[1] < mine[1]:
                return None
            units = torch.arange(mine[1])
            chosen = (torch.arange(mine[0])[:, None] * theirs[1] + units).reshape(-1)
            source = source.index_select(axis, chosen)
        elif have > size:
            source = source.narrow(axis, 0, size)
    return source


def head_sizes(model: PreTrainedModel) -> tuple[int, int]:
    """(heads, units a head) of a transformer; (0, 0) without attention, or where layers differ."""
    config = getattr(model.config, "vision_config", None) or model.config
    heads = getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int) or not heads:
        return 0, 0
    width = getattr(config, "d_kv", None) or int(config.hidden_size) // heads
    return heads, int(width)


def layer_type(model: PreTrainedModel) -> str:
    """A ResNet's kind of block; "" for other architectures."""
    return str(getattr(model.config, "layer_type", ""))


def parameters_of(getter: Callable[[], Any]) -> list[Tensor]:
    """The parameters of what `getter` gives; none where a model has no such module."""
    try:
        module = getter()
    except (NotImplementedError, AttributeError):
        return []
    return [p for p in module.parameters() if p.dim() == 2] if module is not None else []
