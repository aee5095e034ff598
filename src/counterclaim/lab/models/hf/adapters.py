"""PEFT adapters: laid over a model only where they were made for it and all of them takes effect."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from counterclaim.errors import ModelError
from counterclaim.lab.models.hf.fingerprint import weights_hash
from counterclaim.registry import ModelSpec

CARD = "card.json"
"""What training writes beside an adapter: recipe, data, seed, and the weights that it was trained on."""

_SETTINGS = "adapter_config.json"
_SHOWN = 3  # keys that a message names


def check_adapter(spec: ModelSpec) -> None:
    """See, before anything is loaded, that the adapter is one and that it is not for another model.

    Two folders are compared by their weights and two repositories by their names, whoever keeps the copy. A folder
    against a repository proves nothing; then only names and shapes of the weights decide (``with_adapter``).

    Raises:
        ModelError: peft is missing, the folder holds no adapter, or it says that it was made for another model.
    """
    if importlib.util.find_spec("peft") is None:
        raise ModelError("an adapter needs peft", remedy="pip install 'counterclaim[models]'")
    assert spec.adapter is not None
    base = _settings(spec.adapter).get("base_model_name_or_path")
    there, here = Path(str(base)).expanduser(), Path(spec.name).expanduser()
    if here.is_dir() and (trained_on := _trained_on(spec.adapter)) is not None and trained_on != weights_hash(here):
        raise ModelError(
            f"the adapter was trained on other weights of {base} than these",
            path=spec.adapter,
            remedy="lay it over the model that it was trained on, or train it again",
        )
    if not base or str(base) == spec.name:
        return
    if there.is_dir() and here.is_dir():
        differ = there.resolve() != here.resolve() and weights_hash(there) != weights_hash(here)
    elif here.is_dir() or there.is_absolute():
        differ = False
    else:
        differ = there.name.lower() != here.name.lower()
    if differ:
        raise ModelError(
            f"the adapter was made for {base}, not for {spec.name}",
            path=spec.adapter,
            remedy=f"use it with {base}; where both are the same weights, correct base_model_name_or_path in {_SETTINGS}",
        )


def with_adapter(network: Any, spec: ModelSpec) -> Any:
    """The model with the adapter of ``spec`` laid over it and scaled by its dose, its weights unmerged.

    At dose 0 what the adapter adds is exactly zero, so the model answers as it does without.

    Raises:
        ModelError: names or shapes of the adapter's weights do not fit, wholly or in part; or it is to be scaled, and holds
            more than low-rank updates, which alone can be.
    """
    from peft import PeftModel

    folder = spec.adapter
    device = str(next(network.parameters()).device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft only warns of missing keys; the second load below returns them
            adapted = PeftModel.from_pretrained(network, str(folder), torch_device=device)
            loaded = adapted.load_adapter(str(folder), "default", torch_device=device)
    except (RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"the adapter does not fit {spec.name}: {_first_line(error)}",
            path=folder,
            remedy="lay it over the model that it was trained on",
        ) from error
    if loaded.missing_keys or loaded.unexpected_keys:
        raise ModelError(
            f"the adapter does not fit {spec.name}: {_shown('it lacks', loaded.missing_keys)}"
            f"{_shown('the model has no place for', loaded.unexpected_keys)}so parts of it would change nothing",
            path=folder,
            remedy="lay it over the model that it was trained on",
        )
    if spec.dose != 1 and (why := _unscalable(adapted.peft_config["default"])) is not None:
        raise ModelError(
            f"the adapter cannot be scaled to dose {spec.dose:g}: {why}, of which dose 0 would leave something",
            path=folder,
            remedy="leave the dose out, or train a LoRA without these",
        )
    for module in adapted.modules():
        layer: Any = module
        if spec.dose != 1 and isinstance(getattr(layer, "scaling", None), dict):
            layer.scaling = {name: scale * spec.dose for name, scale in layer.scaling.items()}
    return adapted.eval()


def _unscalable(config: Any) -> str | None:
    """What an adapter holds beside low-rank updates, as a clause; None where these are all."""
    if config.peft_type != "LORA":
        return f"it is no LoRA but {config.peft_type.value}"
    held = {
        "use_dora": "it holds magnitudes (DoRA)", "modules_to_save": "it holds whole modules (modules_to_save)",
        "trainable_token_indices": "it holds embeddings of its own (trainable_token_indices)",
    }  # fmt: skip
    if (found := next((text for name, text in held.items() if getattr(config, name, None)), None)) is not None:
        return found
    return None if config.bias == "none" else "it holds biases"


def _trained_on(folder: Path) -> str | None:
    """The hash of the weights under an adapter, as the card says that training leaves beside it."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    base = card.get("base") if isinstance(card, dict) else None
    return base if isinstance(base, str) and base.startswith("sha256:") else None


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / _SETTINGS
    if not file.is_file():
        raise ModelError(
            f"is no folder of a PEFT adapter, for it has no {_SETTINGS}",
            path=folder,
            remedy="name the adapter's folder",
        )
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            "the adapter has no safetensors weights, and pickled ones are never loaded",
            path=folder,
            remedy="save it again with safe_serialization=True",
        )
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"is not JSON ({error})", path=file, remedy="save the adapter again") from error
    if not isinstance(settings, dict):
        raise ModelError("is not the settings of an adapter", path=file, remedy="save the adapter again")
    return settings


def _shown(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{what} {', '.join(keys[:_SHOWN])}{more}, "


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300].rstrip(" .;:,") if lines else type(error).__name__
