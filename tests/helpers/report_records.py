"""Records of attention and circuits in the shape that analyses write them in, numbers made up."""

import numpy as np

from harness_plugin.scoring.files.transfer_record import read_record

ROLES = ("teacher", "student", "control")
LAYERS = {"teacher": 4, "student": 2, "control": 2}
HEADS = {"teacher": 4, "student": 2, "control": 2}


def transfer_of(folder):
    """The record of a run."""
    (file,) = folder.glob("transfer_*.json")
    return read_record(file)


def attention(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "models": [
            {
                "role": role,
                "group": group,
                "specials": specials,
                "layers": [f"layer {i + 1}" for i in range(LAYERS[role])],
                "entropy": rng.random((LAYERS[role], HEADS[role])).tolist(),
                "mass": {"cross": rng.random((LAYERS[role], HEADS[role])).tolist()},
            }
            for role in ROLES
            for group in ("aligned", "conflicting")
            for specials in (True, False)
        ],
        "pairs": [
            {
                "group": group,
                "first": "teacher",
                "second": second,
                "specials": specials,
                "level": "token",
                "by_layer": [
                    {
                        "second_layer": i,
                        "first_layer": 2 * i + 1,
                        "js": (
                            js := 0.1 * (i + 1) + 0.05 * specials + 0.02 * (second == "control")
                        ),
                        "low": None if i else js - 0.02,
                        "high": None if i else js + 0.02,
                    }
                    for i in range(LAYERS[second])
                ],
                "matched": [
                    {
                        "second_layer": i,
                        "second_head": j,
                        "first_layer": 2 * i + 1,
                        "first_head": j,
                        "js": None if i + j == 2 else float(rng.uniform(0, 0.5)),
                    }
                    for i in range(LAYERS[second])
                    for j in range(HEADS[second])
                ],
            }
            for group in ("aligned", "conflicting")
            for second in ("student", "control")
            for specials in (True, False)
        ],
        "notes": ["numbers made up"],
    }


def circuit(role, seed):
    rng = np.random.default_rng([seed, len(role)])
    layers, heads = LAYERS[role], HEADS[role]
    nodes = [{"id": "input", "kind": "input", "layer": 0, "head": None, "depth": 0.0}]
    for i in range(layers):
        at = i + 0.5
        for j in range(heads):
            head = {"id": f"attn{i + 1}.h{j}", "kind": "head", "layer": i + 1, "head": j}
            nodes.append(head | {"depth": at})
        for kind, further in (("norm", 0.17), ("mlp", 0.33)):
            node = {"id": f"{kind}{i + 1}", "kind": kind, "layer": i + 1, "head": None}
            nodes.append(node | {"depth": at + further})
    nodes.append({"id": "output", "kind": "output", "layer": layers, "head": None})
    nodes[-1]["depth"] = layers + 0.5
    for node in nodes:
        node["depth"] /= layers + 0.5
    pairs = [(a, b) for a in nodes for b in nodes if a["depth"] < b["depth"]]
    scores = rng.standard_t(2, len(pairs))
    edges = [
        {"from": a["id"], "to": b["id"] + ".q" * (b["kind"] == "head"), "score": float(score)}
        for (a, b), score in zip(pairs, scores, strict=True)
    ]
    sizes = [0, len(edges) // 8, len(edges) // 4, len(edges) // 2, len(edges)]
    return {
        "role": role,
        "seed": seed,
        "metric_full": 3.2,
        "metric_empty": -0.4,
        "n_edges": len(edges),
        "nodes": nodes,
        "edges": sorted(edges, key=lambda edge: -abs(edge["score"]))[:200],
        "faithfulness": {
            "sizes": sizes,
            "values": [0, 0.62, 0.84, None, 1],
            "random": [0, 0.05, 0.2, 0.4, 1],
        },
        "area": 0.8,
        "size_90": sizes[3],
        "profile": [{"depth": i / layers, "mass": 1 / (layers + 1)} for i in range(layers + 1)],
    }


def circuits(seeds=(0, 1)):
    return {
        "models": [circuit(role, seed) for role in ROLES for seed in seeds],
        "comparisons": [
            {
                "first": "teacher",
                "second": "student",
                "seed": seed,
                "jaccard": None,
                "reason": "the graphs differ",
                "profile_distance": 0.12,
                "head_spearman": 0.4,
            }
            for seed in seeds
        ],
        "convention": "Corrupted minus clean: below 0, corrupting the edge hurts.",
        "notes": [],
    }


def convolutional():
    """Two seeds of a ResNet of two blocks: 8 groups of channels in the stem and in each block."""
    names = {0: "stem", 1: "stage1.block1", 2: "stage2.block1"}
    nodes, edges = [], []
    for layer, name in names.items():
        if layer:
            nodes.append({"id": name, "kind": "block", "layer": layer, "head": None, "depth": 1})
        reader = names.get(layer + 1, "output")
        for group in range(8):
            channels = {"id": f"{name}.c{4 * group}-{4 * group + 3}", "kind": "block"}
            nodes.append(channels | {"layer": layer, "head": None, "depth": layer / 2})
            score = -1.0 / (1 + len(edges))
            edges.append({"from": channels["id"], "to": reader, "score": score})
    nodes.append({"id": "output", "kind": "output", "layer": 2, "head": None, "depth": 1.0})
    shared = {"role": "teacher", "family": "convolutional", "nodes": nodes, "edges": edges}
    shared |= {"n_edges": 24}
    curves = {0: ([0, 0.4, 1], 24), 1: ([0, 0.6, 1], 12)}
    return {
        "models": [
            shared
            | {"seed": seed, "size_90": size}
            | {"faithfulness": {"sizes": [0, 12, 24], "values": values, "random": [0, 0.1, 1]}}
            for seed, (values, size) in curves.items()
        ],
        "convention": "corrupted - clean",
    }


def remedies(record, gained):
    """What `harness remedy` writes of one remedy tried for the student of a run."""

    def estimate(value, half=None):
        low, high = (None, None) if half is None else (value - half, value + half)
        return {"value": value, "low": low, "high": high, "n": 100}

    plain = {
        "remedy": "none",
        "words": "the student as it is",
        "score": estimate(0.78),
        "gained": estimate(0.0),
        "brought_back": 0.0,
        "gap": estimate(0.2),
        "accuracy": estimate(0.9),
        "training_seconds": 2.0,
        "training_operations": 4e12,
        "updates": 10,
    }
    measured = {
        "remedy": "pure_kd",
        "words": "from the teacher alone",
        "score": {"value": 0.9, "low": 0.79, "high": 0.99, "n": 100},
        "gained": estimate(gained, 0.1),
        "brought_back": 0.8,
        "gap": estimate(0.1),
        "accuracy": estimate(0.91),
        "training_seconds": 3.0,
        "training_operations": 5e12,
    }
    return {
        "task": record.task,
        "source": record.source,
        "fingerprint": record.fingerprint,
        "seeds": [0, 1, 2],
        "ranked_by": "worst_group_acc",
        "rows": "half of the validation split",
        "baseline": "student",
        "answer": f"BEST: pure_kd changes worst_group_acc by {100 * gained:+.1f} points.",
        "gap": "gap_avg_worst",
        "shown_to_help": ["pure_kd"],
        "remedies": [plain | measured, plain],
        "skipped": [{"remedy": "dfr", "reason": "no validation rows"}],
    }


def certificate(record, kept_low):
    """What `harness remedy --certify` writes where the second remedy of three is certified."""

    def order(remedy, cost):
        return {
            "remedy": remedy,
            "value": 1.0,
            "cost": cost,
            "reference": "erm_student",
            "reason": "",
        }

    def step(remedy, share, bounds, certified, reason):
        kept, gain, fall = bounds
        return {
            "remedy": remedy,
            "share": share,
            "kept_low": kept,
            "gain_low": gain,
            "fall_high": fall,
            "certified": certified,
            "reason": reason,
        }

    fall = "its worst group may be 3.0 points below the teacher's, 2 are allowed"
    return {
        "format": "debias-certificate/1",
        "task": record.task,
        "source": record.source,
        "fingerprint": record.fingerprint,
        "baseline": "student",
        "certified": "pure_kd",
        "settings": {},
        "level": 0.95,
        "delta": 0.05,
        "margin": 0.02,
        "seeds": [0, 1, 2],
        "rows": 240,
        "groups": {"a": 160, "<b>b</b>": 80},
        "min_group": 30,
        "resamples": 100,
        "data_seed": 0,
        "order": [order("int8", 0.0), order("pure_kd", 1.1), order("none", 1.0)],
        "steps": [
            step(
                "int8", 0.025, (0.01, 0.2, 0.03), False, f"{fall}; about 9 seeds would certify it"
            ),
            step("pure_kd", 0.0125, (kept_low, 0.19, 0.01), True, ""),
        ],
        "answers": "of no file",
    }
