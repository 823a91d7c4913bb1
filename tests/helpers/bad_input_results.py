"""Bad files that a run wrote: results folders and bundles that were damaged or made up."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from pathlib import Path

from bad_input_files import results_folder
from bad_input_parts import Case, Good, base_run, mangled, quiet_main, with_change, write


def result_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A results folder that something is wrong with, before every command that reads one."""
    base = good.get("run", results_folder)
    shutil.copytree(base, place / "run")
    files = [f for f in (place / "run").rglob("*") if f.is_file() and f.suffix in (".json", ".csv")]
    file = next(f for f in files if f.name.startswith("transfer_"))
    if rng.random() < 0.2:
        file = rng.choice(files)
    if file.suffix == ".json" and rng.random() < 0.7:
        write(file, json.dumps(with_change(rng, json.loads(file.read_text()))))
    elif rng.random() < 0.3:
        write(file, rng.choice(["", "[" * 100_000, "{", "null", "[]", "3", "\x00" * 99, "NaN"]))
    else:
        write(file, mangled(rng, file.read_text(encoding="utf-8")))
    run = str(place / "run")
    command = rng.choice(["compare", "report", "submit", "analyze"])
    argv = {
        "compare": ("compare", str(base), run, "--resamples", "100"),
        "report": ("report", run, "--output_path", str(place / "page")),
        "submit": (
            "submit",
            run,
            "--output_path",
            str(place / "b.zip"),
            "--name",
            "n",
            "--allow_embedded",
        ),
        "analyze": ("analyze", run, "--cka"),
    }[command]
    return Case("results", argv)


def finished_run(place: Path) -> None:
    """A trained run of the toy task, as small as can be."""
    quiet_main([*base_run(place), "--seeds", "0", "--log_samples", "--resamples", "100",
        "--set", "teacher.epochs=0.1", "--set", "student.epochs=0.1"])  # fmt: skip


def bundle_good(place: Path, good: Good) -> None:
    """A bundle of a run on generated data, as a folder."""
    run = good.run or good.get("finished", finished_run) / "out"
    quiet_main(
        ["submit", str(run), "--output_path", str(place / "b"), "--name", "n", "--allow_embedded"]
    )


def bundle_case(rng: random.Random, place: Path, good: Good) -> Case:
    """A bundle that something is wrong with."""
    base = good.get("bundle", lambda folder: bundle_good(folder, good))
    base = base / "b"
    parts = {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*") if p.is_file()}
    key = rng.choice(sorted(parts))
    how = rng.randrange(5)
    if how == 0:
        del parts[key]
    elif how == 1:
        blob = bytearray(parts[key])
        blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
        parts[key] = bytes(blob)
    elif how == 2 and key.endswith(".json"):
        parts[key] = json.dumps(with_change(rng, json.loads(parts[key]))).encode()
    elif how == 3:
        name = rng.choice(
            ["../x", "/x", "tasks/../x.json", "a\\b", "tasks/t/results.json", "x\x00y"]
        )
        parts[name] = rng.choice([b"", b"{}", parts[key]])
    else:
        deep = rng.choice([b"[" * 200_000, b"[[]," * 100_000, b'{"a":' * 50_000, b"", b"\x00" * 64])
        parts[key] = deep
    if rng.random() < 0.5 and "manifest.json" in parts:
        parts["manifest.json"] = manifest_for(parts)
    file = place / "b.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    if rng.random() < 0.1:
        blob = bytearray(file.read_bytes())
        blob[rng.randrange(len(blob))] ^= 0xFF
        file.write_bytes(bytes(blob))
    if rng.random() < 0.2:
        where = (
            "leaderboard",
            str(place),
            "--output_path",
            str(place / "site"),
            "--allow_embedded",
        )
        return Case("bundles", (*where, "--skip_refused"))
    return Case("bundles", ("verify", str(file), "--allow_embedded"))


def manifest_for(parts: dict[str, bytes]) -> bytes:
    """The manifest of changed parts, as a stranger would write it."""
    import hashlib

    try:
        listed = json.loads(parts["manifest.json"])
        listed["parts"] = {
            key: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for key, content in parts.items()
            if key != "manifest.json"
        }
        return json.dumps(listed).encode()
    except (ValueError, TypeError, RecursionError):
        return parts["manifest.json"]
