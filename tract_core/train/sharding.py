"""The frozen weights of a model spread over ranks (`train.shard`): each keeps a part, and gathers a block to compute.

This is FSDP2 (torch.distributed.fsdp.fully_shard) on the blocks of the transformer and on the rest of the model.
LoRA's weights stay whole on each rank. They are few, so that optimizer, clipping, checkpoints and the adapter's file
are those of any training.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from tract_core.base.errors import UserError
from tract_core.model import attention, models
from tract_core.model.models import SeedModel
from tract_core.train import ranks


def load(seed: SeedModel, dtype: str) -> PreTrainedModel:
    """The seed model for `shard`: read by the first rank alone, so that one copy is in host memory, whatever the ranks.

    Args:
        seed: its folder is read by the first rank; the others read its config alone.
        dtype: `float32` or `bfloat16`.

    Raises:
        UserError: the files are broken.
    """
    read: list[PreTrainedModel] = []
    ranks.by_first(lambda: read.append(models.load_model(seed, dtype)))
    if read:
        return read[0]
    # Of the adapter that a training goes on from: its weights, too, come from the first rank.
    warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter")
    return models.load_empty(seed, dtype)


def shard(model: Any, device: torch.device) -> None:
    """Spread the weights that are not trained over all ranks; from then on all of them must call the model together.

    Args:
        model: what `load` gave, with its adapter.
        device: of this rank, where its part and all of LoRA's weights then are.

    Raises:
        UserError: the model does not say which of its modules are blocks.
    """
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    blocks = _blocks(model.get_base_model())
    inside = {module for block in blocks for module in block.modules()}
    rest = [module for module in model.modules() if module not in inside]
    for part, modules in [*((block, list(block.modules())) for block in blocks), (model, rest)]:
        _hand_out(modules, device)
        trained = {weight for weight in part.parameters() if weight.requires_grad}
        fully_shard(part, mesh=mesh, ignored_params=trained)


def _blocks(base: PreTrainedModel) -> list[nn.Module]:
    """The layers of the transformer, and what else transformers keeps on one device; inner ones first."""
    names = set(base._no_split_modules or ())
    found = [module for module in base.modules() if type(module).__name__ in names]
    if not found:
        raise UserError(
            f"{attention.name(base)} does not say which of its modules are blocks, so its weights cannot be spread "
            "over ranks; set train.shard: false, or choose another model.source"
        )
    return found[::-1]


def _hand_out(modules: Iterable[nn.Module], device: torch.device) -> None:
    """Give the ranks the first one's weights and buffers, in place of their own; tied ones stay tied."""
    owners: list[dict[str, Any]] = [own for module in modules for own in (module._parameters, module._buffers)]
    tensors = [tensor for own in owners for tensor in own.values() if not isinstance(tensor, DTensor | None)]
    held = {id(tensor): tensor for tensor in tensors}
    kinds = ranks.by_first(lambda: [(tensor.shape, tensor.dtype) for tensor in held.values()])
    given = {key: _received(held[key], *kind, device) for key, kind in zip(held, kinds, strict=True)}
    for own in owners:
        own.update({name: given[id(tensor)] for name, tensor in own.items() if id(tensor) in given})


def _received(tensor: Tensor, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    here = torch.empty(shape, dtype=dtype, device=device) if tensor.is_meta else tensor.detach().to(device).contiguous()
    distributed.broadcast(here, src=0)
    return nn.Parameter(here, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else here
