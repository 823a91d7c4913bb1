"""Every single change of a bundle is refused, or stands in HARMLESS with the reason.

The changes are made from the bundle itself: every column of its tables and every field of its JSON
parts, changed and left out, so that a new field is asked about by itself. Each is tried as an
accident, and as a forgery: with a manifest that fits, and for what is said in two parts in both.
"""

import contextlib
import fnmatch
import json

import bad_input_results
import pytest

from harness_plugin.cli.main import main
from harness_plugin.scoring.files.transfer_record import TransferRecord
from harness_plugin_hooks.leaderboard.bundle import Refused, read_bundle
from harness_plugin_hooks.leaderboard.model_files import ModelHashes
from harness_plugin_hooks.leaderboard.verify import verify

pytestmark = pytest.mark.usefixtures("scored_once")

RESULTS = "tasks/toy/results.json"
TWICE = ("config.json", "environment.json")
"""Parts that the results repeat: a forger changes both."""
COMPUTED = ("scores", "transfer", "flips", "verdicts")
"""Lists of the results that follow from the predictions."""
SPEED, PLACE, FILES = "how fast, not what", "where it lay, not what", "which other files there are"
UNCHECKED = "said by its author, in both parts; no number shows it"
MACHINE = "of the author's machine; no board shows it"
LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "numpy")
OPEN = {"settings", "metrics", "groups", "breakdowns", "primary", "files"}
"""Mappings of the results whose keys no schema demands."""
HARMLESS = {
    "manifest.json name": "what its author calls it",
    "manifest.json harness_plugin_version": "which version packed it; the results say which ran",
    "manifest.json without format*": "there is one",
    "results.json without schema_version": "there is one",
    "models.json [0-9]* files *": "no check can show that these files gave the answers",
    "models.json without * files tokenizer*": "weights and configuration must be there",
    "config.json tasks*": "how the task was called; the results name it",
    **dict.fromkeys(
        (f"config.json {name}" for name in ("eval_batch_size", "threads", "workers", "compile")),
        SPEED,
    ),
    "config.json checkpoint_steps": SPEED,
    **dict.fromkeys(
        (f"config.json {name}" for name in ("output_path", "use_cache", "include_path")), PLACE
    ),
    **dict.fromkeys(
        (f"config.json {name}" for name in ("outputs*", "log_samples", "log_with", "analyze")),
        FILES,
    ),
    "config.json without outputs 0": FILES,
    "config.json trust_remote_code": MACHINE,
    "config.json settings": "of a task that the bundle is not about",
    "config.json settings toy bias_model": "no model of this run leans on one",
    "config.json settings toy image size": "this task has no images",
    "config.json settings toy image mean 0": "this task has no images",
    "config.json settings toy image std 0": "this task has no images",
    "config.json settings toy vocab_size": UNCHECKED,
    "config.json settings toy validation_fraction": UNCHECKED,
    "config.json settings toy options": UNCHECKED,
    "environment.json versions": MACHINE,
    **{
        f"environment.json {how}versions {n}": MACHINE
        for how in ("", "without ")
        for n in LIBRARIES
    },
    **{f"environment.json {n}": MACHINE for n in ("python", "platform", "cpu", "gpu")},
    "environment.json choices text": MACHINE,
    **{
        f"environment.json {how}choices text {n}": SPEED
        for how in ("", "without ")
        for n in ("processes", "threads", "why")
    },
}
"""Part, "without" where it is left out, path -> why it may change; *: anything."""


def named(part, path, how):
    """How HARMLESS calls a change."""
    return " ".join(
        [part.rpartition("/")[2], *(["without"] if how == "drop" else []), *map(str, path)]
    )


def reasons(name):
    """The lines of HARMLESS that are about a change."""
    return [pattern for pattern in HARMLESS if fnmatch.fnmatchcase(name, pattern)]


def fields(value, path=()):
    """Every place in a JSON value, with what is there."""
    if path:
        yield path, value
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            yield from fields(item, (*path, key))


def other(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 0.25 if value < 0.5 else value - 0.25
    if isinstance(value, str):
        is_digest = len(value) in (20, 64) and set(value) <= set("0123456789abcdef")
        return ("1" if value[:1] == "0" else "0") + value[1:] if is_digest else f"{value}x"
    if isinstance(value, list):
        return [*value, *(value[:1] or ["x"])]
    return {**value, "x": 1} if isinstance(value, dict) else "x"


def change(whole, path, how):
    """Change a JSON value, or leave something out, where it stands."""
    for key in path[:-1]:
        whole = whole[key]
    if how == "drop":
        del whole[path[-1]]
    else:
        whole[path[-1]] = other(whole[path[-1]])


@pytest.fixture(scope="module")
def bundle(toy_run, tmp_path_factory):
    """A bundle of a trained run, as a folder."""
    folder = tmp_path_factory.mktemp("bundle") / "b"
    words = ["submit", str(toy_run.output), "--output_path", str(folder), "--allow_embedded"]
    assert main(words) == 0
    return folder


@pytest.fixture(scope="module")
def parts(bundle):
    """The bytes of its parts, the manifest too."""
    _, parts = read_bundle(bundle)
    return {**parts, "manifest.json": (bundle / "manifest.json").read_bytes()}


@pytest.fixture(scope="module")
def problems(bundle, parts, plugins):
    """What verify says of the bundle with some parts replaced."""

    def verified(own):
        try:
            for part, content in own.items():
                (bundle / part).write_bytes(content)
            verify(bundle, plugins, allow_embedded=True)
        except Refused as refused:
            return [str(problem) for problem in refused.problems]
        finally:
            for part in own:
                (bundle / part).write_bytes(parts[part])
        return []

    return verified


def forged(parts, documents):
    """What a forger writes who has changed JSON `documents`, by part: all that must follow."""
    own = {part: json.dumps(document).encode() for part, document in documents.items()}
    if twice := documents.keys() & set(TWICE):
        results = json.loads(own.get(RESULTS, parts[RESULTS]))
        results |= {part.removesuffix(".json"): documents[part] for part in twice}
        own[RESULTS] = json.dumps(results).encode()
    return with_manifest(parts, own)


def with_manifest(parts, own):
    """The parts, and unless it is one of them a manifest that lists them."""
    return {"manifest.json": bad_input_results.manifest_for({**parts, **own}), **own}


def changes(parts):
    """(part, path, how) of one field of every kind: entries of a list are alike.

    What a schema demands is left out by no test: `test_a_schema_demands_every_field`.
    """
    seen = set()
    for part in sorted(parts):
        for path, value in fields(json.loads(parts[part])) if part.endswith(".json") else ():
            kind = tuple("*" if isinstance(key, int) else key for key in path)
            if part == RESULTS and path[0] in COMPUTED:
                name = "*" if kind[-2:-1] and kind[-2] in OPEN else kind[-1]
                kind = (path[0], name, type(value).__name__)
            elif part == "manifest.json" and path[0] == "parts":
                kind = ("parts", len(path), kind[-1] if len(path) > 2 else "")
            repeated = part == RESULTS and f"{path[0]}.json" in TWICE and len(path) > 1
            if (part, kind) not in seen and not repeated:
                seen.add((part, kind))
                yield part, path, "change"
                demanded = part in (RESULTS, "models.json") and not OPEN & {*path[:-1]}
                if not demanded or isinstance(path[-1], int) or path == ("schema_version",):
                    yield part, path, "drop"


def test_an_accident_is_seen_in_every_part(parts, problems):
    for part in parts.keys() - {"manifest.json"}:  # which is about the others
        content = parts[part]
        for place in range(0, len(content), len(content) // 5):
            flipped = bytes([*content[:place], content[place] ^ 1, *content[place + 1 :]])
            (problem,) = problems({part: flipped})
            assert problem.startswith(f"{part}: expected SHA-256 "), place


def test_every_number_that_follows_is_compared(parts, problems):
    """All are changed at once, and every one of them is named."""
    results, numbers = json.loads(parts[RESULTS]), 0
    for path, value in [*fields({name: results[name] for name in COMPUTED})]:
        if isinstance(value, int | float):
            change(results, path, "change")
            numbers += 1
    said = problems(forged(parts, {RESULTS: results}))
    assert numbers > 1500
    assert len(said) == numbers


def test_every_column_of_the_answers_is_compared(parts, problems):
    for part in parts:
        if part.endswith(".csv"):
            head, first, *rest = parts[part].decode().splitlines()
            kinds = {name.partition(":")[0]: name for name in head.split(",")}  # a logit of many
            for name in kinds.values():
                cells, column = first.split(","), head.split(",").index(name)
                logit = name.startswith("logit:")
                cells[column] = str(float(cells[column]) + 1) if logit else cells[column] + "x"
                own = {part: "\n".join([head, ",".join(cells), *rest]).encode()}
                assert problems(with_manifest(parts, own)), (part, name)


def test_a_schema_demands_every_field():
    schemas = [TransferRecord.model_json_schema(), ModelHashes.model_json_schema()]
    for schema in schemas:
        for each in [schema, *schema["$defs"].values()]:
            optional = each.get("properties", {}).keys() - set(each.get("required", ()))
            assert optional <= {"schema_version"}, each["title"]
            assert "properties" not in each or each["additionalProperties"] is False


def test_every_field_is_compared(parts, problems):
    """A forger changes one field, or leaves it out."""
    accepted = []
    for part, path, how in changes(parts):
        if not reasons(named(part, path, how)):
            document = json.loads(parts[part])
            change(document, path, how)
            if not problems(forged(parts, {part: document})):
                accepted.append(named(part, path, how))
    assert accepted == []


def test_what_is_harmless_is_accepted(parts, problems):
    """All of it at once; what stands in the table and nowhere in a bundle has to go."""
    documents = {part: json.loads(parts[part]) for part in parts if part.endswith(".json")}
    used = set()
    for part, path, how in sorted(changes(parts), key=lambda c: (c[2], -len(c[1]))):
        if lines := reasons(named(part, path, how)):
            used.update(lines)
            with contextlib.suppress(LookupError):  # its place went before
                change(documents[part], path, how)
    assert used == HARMLESS.keys()
    manifest = documents.pop("manifest.json")
    own = forged({**parts, "manifest.json": json.dumps(manifest).encode()}, documents)
    assert problems(own) == []
