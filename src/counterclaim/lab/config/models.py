"""A model as files say it, and by what it is made of."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from counterclaim.errors import InputError
from counterclaim.records import Json, content_hash
from counterclaim.registry import ModelSpec

if TYPE_CHECKING:
    from pydantic import BaseModel


def model_json(spec: ModelSpec) -> dict[str, Json]:
    """A model as study.json spells it: what is not said is left out."""
    said = {item.name: getattr(spec, item.name) for item in fields(spec) if getattr(spec, item.name) != item.default}
    return {key: str(value) if isinstance(value, Path) else value for key, value in said.items()}


def model_identity(spec: ModelSpec) -> dict[str, Json]:
    """A model by what it is made of: an adapter trained again in its old place is another one."""
    said = model_json(spec)
    if spec.adapter is not None:
        said["adapter"] = _hash_of(spec.adapter)
    if spec.chat_template is not None:
        said["chat_template"] = _hash_of(spec.chat_template)
    folder = Path(spec.name).expanduser()
    if ":" not in spec.name and folder.is_dir():
        said["files"] = _hash_of(folder)
    return said


def _hash_of(path: Path) -> str:
    """SHA-256 over a file, or over names and contents of a folder's weights and settings."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".json", ".jinja"))
    try:
        hashes: list[Json] = []
        for file in files:
            with file.open("rb") as opened:
                hashes.append([file.name, hashlib.file_digest(opened, "sha256").hexdigest()])
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path=path, remedy="check the path") from error
    return content_hash(hashes)


def runtime_schema() -> type[BaseModel]:
    """The schema of ``[runtime]``: how models are run, in every file that runs some."""
    from pydantic import BaseModel, ConfigDict, Field

    class RuntimeTable(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

        device: str = "auto"
        batch_size: int | None = Field(default=None, ge=1)
        concurrency: int = Field(default=8, ge=1)
        timeout_s: float = Field(default=120.0, gt=0)
        most_tokens: int | None = Field(default=None, ge=1)
        most_cost: float | None = Field(default=None, gt=0)
        price_in: float = Field(default=0.0, ge=0)
        price_out: float = Field(default=0.0, ge=0)

    return RuntimeTable
