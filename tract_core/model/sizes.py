"""What a transformers config says of its text model's size, under whichever names its family has for it."""

from dataclasses import dataclass
from typing import Any

from tract_core.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Widths:
    """In numbers for each token; of the widest layer where layers differ."""

    num_layers: int
    width: int
    query: int
    keys: int
    """Of the keys alone; the values have as many."""
    mlp: int | None
    """None where the config has another name for it."""


def widths(config: Any) -> Widths:
    """The sizes of the text model.

    Raises:
        UserError: the config does not name them; the message says which.
    """
    text = config.get_text_config()
    layers = text.per_layer_config if text.is_heterogeneous else [text]
    each = [_of_layer(layer) for layer in layers]
    return Widths(
        num_layers=_first(text, "num_hidden_layers"),
        width=_first(text, "hidden_size"),
        query=max(query for query, _, _ in each),
        keys=max(keys for _, keys, _ in each),
        mlp=max(mlp for _, _, mlp in each) or None,
    )


def _of_layer(text: Any) -> tuple[int, int, int]:
    """Of queries, keys and the MLP; 0 for the last where it has another name."""
    heads = _first(text, "num_attention_heads")
    head = _first(text, "head_dim", default=_first(text, "hidden_size") // heads)
    head = max(head, _first(text, "global_head_dim", default=0))
    keys = _first(text, "num_key_value_heads", "num_kv_heads", default=heads)
    return heads * head, keys * head, _first(text, "intermediate_size", default=0)


def longest(config: Any) -> int | None:
    """Tokens that the model can read, where its config says so."""
    text = config.get_text_config()
    limit = _first(text, "max_position_embeddings", default=0)
    stretched = [
        (rope.get("original_max_position_embeddings") or limit) * (rope.get("factor") or 1) for rope in ropes(text)
    ]
    return int(max([limit, *stretched])) or None


def ropes(config: Any) -> list[dict[str, Any]]:
    """The settings of rotary positions of the text model, one for each kind of layer."""
    found = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return [one for one in (found, *found.values()) if isinstance(one, dict) and "rope_type" in one]


def vocabulary(config: Any) -> int:
    """Rows of the text model's embedding."""
    return _first(config.get_text_config(), "vocab_size")


def _first(config: Any, *names: str, default: int | None = None) -> int:
    """The largest number under the first name that has any; some families give one for each layer."""
    for name in names:
        value = getattr(config, name, None)
        numbers = [one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, int)]
        if numbers:
            return max(numbers)
    if default is None:
        raise UserError(f"the config of {config.model_type} has no {' or '.join(names)}")
    return default
