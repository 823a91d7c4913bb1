"""A model's folder → a repository of the hub."""

from __future__ import annotations

from pathlib import Path

from harness_plugin.errors import HarnessError


def push_to_hub(folder: Path, repository: str, *, private: bool) -> str:
    """Create the repository where it is missing, upload the folder, give its address.

    Raises HarnessError, in one line, for whatever the hub or the way to it refuses.
    """
    from huggingface_hub import HfApi, ModelCard

    if not ModelCard.load(folder / "README.md").data.license:
        raise HarnessError(
            "--push_to_hub: the card names no licence, and nobody may use a model without one; say "
            "which with --license ID, an identifier of the hub such as apache-2.0 or cc-by-nc-4.0."
        )
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload by harness export"
        )
    except Exception as error:  # as many kinds as the client and its HTTP library have
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise HarnessError(
            f"--push_to_hub {repository}: {reason}. The model lies in {folder}; log in with `hf "
            f"auth login` (or set HF_TOKEN), then `hf upload {repository} {folder}`."
        ) from error
    return str(address)
