"""Tables that several kinds of files share: models, sampling, prompts, how models are run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen

from counterclaim.config import After, Beside, TableError, table
from counterclaim.errors import InputError
from counterclaim.records import Decode, Json, content_hash
from counterclaim.registry import ModelSpec, Runtime

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Count = Annotated[int, Ge(1)]
Price = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]


def _distinct(seeds: Sequence[int]) -> Sequence[int]:
    if repeated := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise TableError(
            f"{repeated[0]} is listed twice, and each seed is one replicate", remedy="name different seeds"
        )
    return seeds


Seeds = Annotated[tuple[int, ...], MinLen(1), After(_distinct)]
Ascending = Annotated[tuple[float, ...], After(lambda values: tuple(sorted(set(values))))]
"""Numbers in ascending order, each once."""


@table
class SamplingTable:
    """How answers are sampled.

    Attributes:
        max_new_tokens: token budget
        temperature: 0 is greedy
        top_p: nucleus sampling
        top_k: sample among the k likeliest tokens
        repetition_penalty: as transformers spells it; 1 is none
        presence_penalty: from −2 to 2, as OpenAI spells it
        stop: strings that end an answer
        thinking: the chat template's thinking switch
    """

    max_new_tokens: Count | None = None
    temperature: Annotated[float, Ge(0)] | None = None
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    top_k: Count | None = None
    repetition_penalty: Annotated[float, Gt(0)] | None = None
    presence_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    stop: tuple[str, ...] | None = None
    thinking: bool | None = None


def decode_of(*tables: SamplingTable, **more: Any) -> Decode:
    """The settings that tables state, each over those before it; greedy where none states a temperature."""
    stated = {
        item.name: value
        for each in tables
        for item in fields(SamplingTable)
        if (value := getattr(each, item.name)) is not None
    }
    return Decode(**{"max_new_tokens": None, "temperature": 0.0, **stated, **more})


@table
class ModelTable(SamplingTable):
    """A model, and how it is sampled.

    Attributes:
        model: a hub repository, a folder, `tiny:NAME`, `world:NAME/ARM`, or `URL#model` of an endpoint
        revision: commit, branch or tag of the repository
        dtype: `auto`, `float32`, `bfloat16` or `float16`
        quantisation: `4bit`, on a GPU
        adapter: folder of a PEFT adapter
        chat_template: file with a chat template instead of the model's own
    """

    model: Annotated[str, MinLen(1)] | None = None
    revision: str | None = None
    dtype: Dtype | None = None
    quantisation: Literal["4bit"] | None = None
    adapter: Annotated[Path, Beside()] | None = None
    chat_template: Annotated[Path, Beside()] | None = None


@table
class RuntimeTable:
    """``[runtime]``: how models are run. Nothing here changes an answer.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`
        batch_size: rows per batch; chosen by the available memory when not set
        concurrency: requests to an endpoint at once
        timeout_s: seconds before a request counts as failed
        most_tokens: stop cleanly when endpoints have billed this many tokens
        most_cost: stop cleanly at this cost; needs the prices
        price_in: price of a million prompt tokens
        price_out: price of a million answered tokens
    """

    device: str = "auto"
    batch_size: Count | None = None
    concurrency: Count = 8
    timeout_s: Annotated[float, Gt(0)] = 120.0
    most_tokens: Count | None = None
    most_cost: Annotated[float, Gt(0)] | None = None
    price_in: Price = 0.0
    price_out: Price = 0.0

    def runtime(self) -> Runtime:
        """The same as backends take it."""
        return Runtime(**asdict(self))


@table(kw_only=False)
class PromptChoice:
    """Which prompts are put to the models.

    Attributes:
        set: `tiny`, `mcas`, `cooking`, `recovery`, `python` or `world:NAME`; from Python also a file
        split: `train`, `dev`, `test`, `fresh` or `all`
        tags: only prompts that carry all of these
        limit: at most this many, spread evenly over the source
        without: no prompts that carry any of these
        file: a file of prompts, instead of a set
    """

    set: str | None = None
    split: Literal["train", "dev", "test", "fresh", "all"] = "test"
    tags: tuple[str, ...] = ()
    limit: Count | None = None
    without: tuple[str, ...] = ()
    file: Annotated[Path, Beside()] | None = None

    def __post_init__(self) -> None:
        if (self.set is None) == (self.file is None):
            raise TableError("name either a set or a file", remedy='write set = "tiny" or file = "prompts.jsonl"')

    @property
    def source(self) -> str:
        """The set's name, or the file's path."""
        return str(self.set if self.file is None else self.file)

    @property
    def name(self) -> str:
        """The source without its folders: they differ between machines."""
        return re.split(r"[/\\]", self.source)[-1]

    def to_json(self) -> dict[str, Json]:
        """What cards say of it: the source's name and not its folders."""
        stated = {"split": self.split, "tags": list(self.tags), "limit": self.limit, "without": list(self.without)}
        return {"source": self.name, **stated}


@table(kw_only=False)
class TrainingPrompts(PromptChoice):
    """Prompts that something is fitted on.

    Attributes:
        split: `train` or `dev`; `test` and `fresh` are for testing
    """

    split: Literal["train", "dev"] = "train"


def model_json(spec: ModelSpec) -> dict[str, Json]:
    """A model as study.json spells it: defaults are left out."""
    stated = {item.name: getattr(spec, item.name) for item in fields(spec) if getattr(spec, item.name) != item.default}
    return {key: str(value) if isinstance(value, Path) else value for key, value in stated.items()}


def model_identity(spec: ModelSpec) -> dict[str, Json]:
    """A model by what it is made of: an adapter trained again in its old place is another one."""
    stated = model_json(spec)
    if spec.adapter is not None:
        stated["adapter"] = _hash_of(spec.adapter)
    if spec.chat_template is not None:
        stated["chat_template"] = _hash_of(spec.chat_template)
    folder = Path(spec.name).expanduser()
    if ":" not in spec.name and folder.is_dir():
        stated["files"] = _hash_of(folder)
    return stated


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
