"""The seed model's weights in 4 bits (`model.load_in_4bit`; QLoRA, arXiv:2305.14314), by bitsandbytes.

nf4 writes a block of 64 weights as the largest of their absolute values and, for each, one of 16 numbers between -1 and
1. Those numbers times that value, once rounded, are written as the same ones when they are rounded again. This does not
hold with double quantisation, which rounds the largest values as well, so it is off.
"""

import logging
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers.pytorch_utils import Conv1D

from tract_core.base.config import TrainedModel
from tract_core.base.errors import UserError

logger = logging.getLogger(__name__)


def require(model: TrainedModel) -> None:
    """What a training with these weights needs, asked before any time is spent; nothing without `load_in_4bit`.

    Raises:
        UserError: there is no GPU, or bitsandbytes is not installed.
    """
    if not model.load_in_4bit:
        return
    if not torch.cuda.is_available():
        raise UserError(
            "model.load_in_4bit: true trains on a GPU only, and torch sees none; set it to false, or run where one is"
        )
    _require_library()


def settings(dtype: torch.dtype) -> Any:
    """What transformers loads such a model by: the linear layers in nf4, all but the output head, which compute in
    `dtype`; embeddings, head and norms stay in it.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    _require_library()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=False,
        bnb_4bit_compute_dtype=dtype,
    )


def require_plain_weights(config: Any) -> None:
    """Before a model is rounded to 4 bits.

    Args:
        config: of the model.

    Raises:
        UserError: it was quantised already, so that rounding it again would give other weights.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(
            "model.load_in_4bit: true rounds the weights of a model itself, but those of model.source are quantised "
            "already; name the model that they were made from"
        )


def require_linear_layers(model: Any) -> None:
    """After a model was loaded in 4 bits.

    Raises:
        UserError: none of its layers is in 4 bits, or they are GPT-2's, whose weights are transposed and do not come
            back as they were.
    """
    rounded_from = {module.source_cls for module in model.modules() if _is_rounded(module)}
    if not rounded_from or Conv1D in rounded_from:
        raise UserError(
            "model.load_in_4bit: true is for models of torch's linear layers, and this one has others; set it to "
            "false, or choose another model.source"
        )


def prove(model: Any, folder: Path) -> None:
    """The layers in 4 bits must be, on the device that they are on, what the folder holds as ordinary numbers.

    Layers that have another name in the folder are not compared, which is logged.

    Args:
        model: loaded from the folder in 4 bits.
        folder: what judges read.

    Raises:
        UserError: a layer is another one, so that what is trained would not be what judges.
    """
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    layers = {f"{name}.weight": module.weight for name, module in model.named_modules() if _is_rounded(module)}
    for name, stored in _stored(folder, layers.keys(), model.device):
        if not torch.equal(stored, dequantize_bnb_weight(layers.pop(name))):
            raise UserError(
                f"{folder}: {name} in 4 bits on {model.device} is not what the folder holds, so that judges would read "
                "other weights than those that are trained; set model.load_in_4bit: false"
            )
    if layers:
        logger.warning("warning: %d layers in 4 bits have other names in %s and were not compared", len(layers), folder)


def _stored(folder: Path, names: Collection[str], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Those of the tensors that the folder has, one at a time."""
    wanted = set(names)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt", device=str(device)) as read:
            yield from ((name, read.get_tensor(name)) for name in sorted(wanted & set(read.keys())))


def _is_rounded(module: Any) -> bool:
    return hasattr(module, "source_cls")  # which transformers notes where it puts a layer in 4 bits


def _require_library() -> None:
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "model.load_in_4bit: true needs bitsandbytes, which the environment lacks: "
            "`pip install -r requirements-4bit.txt`, or set it to false"
        )
