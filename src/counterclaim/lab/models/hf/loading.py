"""From a name to a model, its tokenizer and its chat template; whatever is wrong is one sentence."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError
from jinja2 import TemplateError, TemplateSyntaxError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from counterclaim.errors import ModelError
from counterclaim.lab.models.hf.adapters import check_adapter, with_adapter
from counterclaim.lab.models.hf.devices import device_named, dtype_named
from counterclaim.lab.models.hf.fingerprint import model_ref
from counterclaim.records import ModelRef
from counterclaim.registry import ModelSpec, Runtime

log = logging.getLogger("counterclaim.lab.models.hf")

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "spiece.model")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to generate.

    Attributes:
        network: the causal language model, or the PEFT model around it, in evaluation mode.
        tokenizer: its tokenizer, with the chat template that was asked for.
        device: where it is.
        ref: its fingerprint.
        template: text of the chat template, or None where prompts are put to it raw.
        ends: ids of tokens that end an answer.
        pad: id that fills the left of shorter prompts; it is masked and never read.
    """

    network: Any
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    ref: ModelRef
    template: str | None
    ends: frozenset[int]
    pad: int


def load(spec: ModelSpec, runtime: Runtime) -> Loaded:
    """Load a causal language model from a hub repository or a folder; the dtype ``stored`` is that of its checkpoint.

    Raises:
        ModelError: there is no such model, device or dtype, or parts of the model are missing.
    """
    device = device_named(runtime.device)
    dtype = (
        "auto" if spec.dtype == "stored" else dtype_named(spec.dtype, device)
    )  # transformers' auto, which is not ours
    if spec.quantisation is not None:
        _check_quantisation(device)
    folder = Path(spec.name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
    elif folder.is_absolute() or spec.name.startswith((".", "~")):
        raise ModelError("there is no such folder", path=spec.name, remedy="name a folder of a model, or a repository")
    if spec.adapter is not None:
        check_adapter(spec)
    _say_once_that_kernels_are_missing()

    source = str(folder) if folder.is_dir() else spec.name
    with _explained(spec, "configuration"):
        config = AutoConfig.from_pretrained(source, revision=spec.revision, trust_remote_code=False)
    tokenizer = _tokenizer(source, spec)
    template = _template(tokenizer, spec)
    network = _network(source, spec, dtype, device)
    ends = _ends(network, tokenizer)
    pad = _pad(tokenizer, ends)
    # What only the checkpoint's generation_config.json asks for must not leak into answers: all of it is dropped.
    network.generation_config = settings(ends, pad)
    ref = model_ref(spec, config, str(network.dtype).removeprefix("torch."))
    network = network.eval() if spec.adapter is None else with_adapter(network, spec)
    return Loaded(network, tokenizer, device, ref, template, ends, pad)


def settings(ends: frozenset[int], pad: int, **more: Any) -> Any:
    """Generation settings with nothing in them but how an answer ends, the padding, and ``more``."""
    return GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=pad, **more)  # type: ignore[no-untyped-call]


def _network(source: str, spec: ModelSpec, dtype: torch.dtype | str, device: torch.device) -> Any:
    load: Any = AutoModelForCausalLM.from_pretrained
    with _explained(spec, "weights"), without_progress_bar():
        network, info = load(
            source,
            revision=spec.revision,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            **_placement(spec, device),
        )
    if missing := sorted(info["missing_keys"]):
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ModelError(
            f"{spec.name} has no weights for {', '.join(missing[:_SHOWN])}{more}, which would be random",
            remedy="use a complete checkpoint",
        )
    return network


def _check_quantisation(device: torch.device) -> None:
    if device.type != "cuda":
        raise ModelError(
            f"4bit weights need a CUDA GPU, and this model would run on {device}", remedy="leave the quantisation out"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("4bit weights need bitsandbytes", remedy="pip install bitsandbytes")


def _placement(spec: ModelSpec, device: torch.device) -> dict[str, Any]:
    if spec.quantisation is None:
        return {} if device.type == "cpu" else {"device_map": {"": device}}
    four_bits = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"device_map": {"": device}, "quantization_config": four_bits}


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(
            "is no folder of a model, for it has no config.json", path=folder, remedy="name another folder"
        )
    if not list(folder.glob("*.safetensors")):
        pickled = [file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in sorted(folder.glob(pattern))]
        also = f"; {pickled[0]} is a pickle, which can run code, and is never loaded" if pickled else ""
        raise ModelError(
            f"there are no weights in safetensors files{also}",
            path=folder,
            remedy="save the model again with save_pretrained, which writes safetensors",
        )
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError("there is no tokenizer beside the model", path=folder, remedy="save the tokenizer there too")


@contextmanager
def _explained(spec: ModelSpec, part: str) -> Iterator[None]:
    """Turn what transformers raises while it loads a part into one sentence."""
    named = spec.name if spec.revision is None else f"{spec.name} at revision {spec.revision}"
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        causes = list(_causes(error))
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            problem, remedy = (
                f"{named} is only given to those who accepted its licence",
                "accept it and log in to the hub",
            )
        elif any(isinstance(cause, RevisionNotFoundError) for cause in causes):
            problem, remedy = (
                f"{spec.name} has no revision {spec.revision!r}",
                "name a commit, branch or tag that it has",
            )
        elif isinstance(error, OSError) and part == "configuration":
            problem = (
                f"there is no model {named}: it is no folder here, and neither the hub nor its local cache gives it"
            )
            remedy = "check the name and the connection, or log in where it is private"
        else:
            problem = f"the {part} of {named} cannot be loaded ({_first_sentence(error)})"
            remedy = "use a causal language model with safetensors weights that needs no code of its own"
        raise ModelError(problem, remedy=remedy) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text.split(". ")[0][:300] or type(error).__name__).rstrip(" .")


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """No bar for reading weights from disk or writing them; those of downloads are the hub's own and stay."""
    chatter: Any = transformers_logging
    shown = chatter.is_progress_bar_enabled()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            chatter.enable_progress_bar()


class _OneLineOnKernels(logging.Filter):
    """Lets one sentence stand for the several with which transformers reports missing kernels of hybrid models."""

    def __init__(self) -> None:
        super().__init__()
        self._said = False

    def filter(self, record: logging.LogRecord) -> bool:
        if "is falling back to its reference PyTorch implementation" not in str(record.msg):
            return True
        if not self._said:
            self._said = True
            log.warning(
                "The linear-attention layers run without their GPU kernels: correct, but slower. "
                "On a GPU, pip install flash-linear-attention causal-conv1d."
            )
        return False


_ONE_LINE_ON_KERNELS = _OneLineOnKernels()


def _say_once_that_kernels_are_missing() -> None:
    logging.getLogger("transformers.integrations.hub_kernels").addFilter(_ONE_LINE_ON_KERNELS)  # twice is once


def _tokenizer(source: str, spec: ModelSpec) -> PreTrainedTokenizerBase:
    with _explained(spec, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, revision=spec.revision, trust_remote_code=False
        )
    if len(tokenizer) == 0:
        raise ModelError(f"the tokenizer of {spec.name} is empty", remedy="save the tokenizer beside the model")
    return tokenizer


def _template(tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> str | None:
    """The chat template in use, put into the tokenizer; None where there is to be none."""
    if spec.raw:
        return None
    if spec.chat_template is None:
        if not tokenizer.chat_template:
            raise ModelError(
                f"{spec.name} has no chat template, so how it expects to be prompted is unknown",
                remedy="name a file with its template (chat_template), or put prompts to it as they are (raw)",
            )
        return str(tokenizer.get_chat_template())
    try:
        template = spec.chat_template.read_text(encoding="utf-8")
        tokenizer.chat_template = template
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"the chat template cannot be read ({error})", path=spec.chat_template, remedy="name another file"
        ) from error
    except TemplateSyntaxError as error:
        raise ModelError(
            f"is no Jinja template ({error.message})", path=spec.chat_template, line=error.lineno, remedy="correct it"
        ) from error
    except TemplateError:
        pass  # it may not take this conversation and yet take those that are to come
    return template


def _ends(network: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer: those of the model's generation settings and of its tokenizer."""
    ends: set[int] = set()
    for ids in (network.generation_config.eos_token_id, tokenizer.eos_token_id):
        ends.update([] if ids is None else [ids] if isinstance(ids, int) else ids)
    return frozenset(ends)


def _pad(tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> int:
    """The padding token; where the tokenizer has none, a special token that does not end an answer, if there is one."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    spare = [i for i in (tokenizer.unk_token_id, tokenizer.bos_token_id) if i is not None and i not in ends]
    spare += [i for i in tokenizer.all_special_ids if i not in ends]
    return int(spare[0]) if spare else min(ends, default=0)
