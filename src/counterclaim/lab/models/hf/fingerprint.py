"""Which weights answered: what a ModelRef says of a model that transformers has loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from counterclaim.records import ModelRef
from counterclaim.registry import ModelSpec

HEX_DIGITS = 16
EDIT_FILES = ("edit.json", "edit.safetensors")
"""What an edit of a forward pass is made of: what is done where, and its vectors."""


def hash_of_files(files: Iterable[Path]) -> str:
    """16 hex digits of SHA-256 over names and contents of files, in the order of their names."""
    hashed = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        hashed.update(f"{file.name}\0{content}\n".encode())
    return hashed.hexdigest()[:HEX_DIGITS]


def hash_of_text(text: str) -> str:
    """16 hex digits of SHA-256 over a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:HEX_DIGITS]


def weights_hash(folder: Path) -> str:
    """What stands for the revision of a model in a folder: ``sha256:`` and a hash of its safetensors files."""
    return f"sha256:{hash_of_files(folder.glob('*.safetensors'))}"


def adapter_hash(folder: Path) -> str:
    """Hash of an adapter's weights and settings."""
    return hash_of_files([*folder.glob("*.safetensors"), folder / "adapter_config.json"])


def edit_hash(folder: Path) -> str:
    """Hash of an edit: of what it does where, and of its vectors."""
    return hash_of_files(folder / name for name in EDIT_FILES)


def model_ref(spec: ModelSpec, config: Any, dtype: str) -> ModelRef:
    """The fingerprint of a loaded model.

    Args:
        spec: what was asked for.
        config: its configuration, which knows the commit where it came from a hub.
        dtype: of the weights as loaded, such as ``bfloat16``.
    """
    folder = Path(spec.name).expanduser()
    libraries = ["torch", "transformers", "tokenizers"]
    libraries += ["peft"] if spec.adapter else []
    libraries += ["bitsandbytes"] if spec.quantisation else []
    return ModelRef(
        repo=spec.name,
        revision=weights_hash(folder) if folder.is_dir() else getattr(config, "_commit_hash", None) or spec.revision,
        dtype=dtype,
        quantisation=spec.quantisation,
        adapter_hash=adapter_hash(spec.adapter) if spec.adapter else None,
        adapter_dose=spec.dose if spec.adapter else None,
        libraries=", ".join(f"{name} {version(name)}" for name in libraries),
    )
