"""Where in a decoder activations can be read and changed, the same for every architecture and under adapters of PEFT.

Four sites of a decoder layer: ``residual``, its output; ``o_proj``, the input of the attention's output projection, the heads
side by side; ``v_proj``, the output of the value projection; ``down_proj``, the output of the MLP. Under an adapter a
projection is the wrapper that PEFT puts around it, so that what is read or changed is what the adapter reads and makes, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from counterclaim.errors import ModelError

Site = Literal["residual", "o_proj", "v_proj", "down_proj"]

_PARTS = {"o_proj": ("self_attn", "o_proj"), "v_proj": ("self_attn", "v_proj"), "down_proj": ("mlp", "down_proj")}


@dataclass(frozen=True, slots=True)
class Place:
    """A site of a layer.

    Attributes:
        module: whose input or output it is.
        reads_input: whether it is the input.
        width: size of the vectors there.
    """

    module: Any
    reads_input: bool
    width: int


def core_of(network: Any) -> Any:
    """The decoder without its output head: embeddings, layers and the final norm.

    Raises:
        ModelError: the model is built in another way.
    """
    core = network.get_decoder()
    if not hasattr(core, "layers"):
        raise ModelError(
            f"the layers of a {type(core).__name__} cannot be found", remedy="use a decoder of transformers"
        )
    return core


def layers_of(network: Any) -> list[Any]:
    """The decoder layers, first to last."""
    return list(core_of(network).layers)


def layers_with(network: Any, site: Site) -> list[int]:
    """Indices of the layers that have this site: of ``o_proj``, those with softmax attention."""
    return [at for at, layer in enumerate(layers_of(network)) if _module(layer, site) is not None]


def place(network: Any, layer: int, site: Site) -> Place:
    """A site of a layer.

    Raises:
        ModelError: there is no such layer, or it has no such site; the message names those that have.
    """
    layers = layers_of(network)
    if not 0 <= layer < len(layers):
        raise ModelError(
            f"the model has no layer {layer}, for it has {len(layers)}", remedy=f"name one from 0 to {len(layers) - 1}"
        )
    module = _module(layers[layer], site)
    if module is None:
        have = layers_with(network, site)
        why = {"o_proj": ", so no heads (its attention is linear)", "v_proj": " (it shares its values, or has none)"}
        remedy = f"choose among {', '.join(map(str, have))}" if have else "choose another site"
        raise ModelError(f"layer {layer} has no {site}{why.get(site, '')}", remedy=remedy)
    if site == "residual":
        width = int(network.config.get_text_config().hidden_size)
    else:
        width = int(module.in_features if site == "o_proj" else module.out_features)
    return Place(module, site == "o_proj", width)


def heads_of(network: Any, layer: int) -> tuple[int, int]:
    """How many attention heads a layer has, and how wide each is at the input of ``o_proj``.

    Raises:
        ModelError: there is no such layer, or it has no ``o_proj``.
    """
    width = place(network, layer, "o_proj").width
    attention = layers_of(network)[layer].self_attn
    config = network.config.get_text_config()
    each = int(getattr(attention, "head_dim", None) or width // config.num_attention_heads)
    return width // each, each


def _module(layer: Any, site: Site) -> Any | None:
    module = layer
    for name in _PARTS.get(site, ()):
        module = getattr(module, name, None)
    return module
