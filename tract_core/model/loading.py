"""p_0 and its renderer from params.yaml, for every stage that encodes."""

import os
import subprocess
from importlib.util import find_spec

import torch

from tract_core.base import places, tables
from tract_core.base.config import Params
from tract_core.base.errors import UserError
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.text.encoding import Encoder


def seed_model_and_encoder(params: Params, *, cot: bool = True) -> tuple[SeedModel, Encoder]:
    """p_0 as a folder, and the renderer for its tokenizer; `cot`: whether a CoT stands before the score.

    Raises:
        UserError: the model is not to be had or not to be read, or the environment leaves the machine's GPU idle.
    """
    _require_build_for_gpu()
    seed_model = models.resolve(params.model)
    return seed_model, Encoder.create(models.load_tokenizer(seed_model), params.prompt, params.scale, cot=cot)


def _require_build_for_gpu() -> None:
    """`make env` chooses by what it finds, and a login node has no GPU: a stage would compute on the CPU for days."""
    if torch.version.cuda or torch.version.hip or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    except OSError:  # no driver
        return
    if found:
        raise UserError(
            "this machine has an NVIDIA GPU, but the environment has the builds for CPUs, as `make env` installs them "
            "where it finds none; remove .venv and call `make env` on this machine, or export CUDA_VISIBLE_DEVICES= "
            "(empty) to compute on the CPU"
        )


def require_engines(replicas: int, tensor_parallel: int) -> None:
    """What `engine` asks of this machine; before a training, since hours of it would end at the first CoT.

    Args:
        replicas: `engine.replicas`; those on a cluster that RAY_ADDRESS names are counted when they start.
        tensor_parallel: `engine.tensor_parallel`, GPUs for each of them.

    Raises:
        UserError: several engines need Ray, which is not installed; or the GPUs do not suffice.
    """
    if replicas > 1 and find_spec("ray") is None:
        raise UserError(
            f"engine.replicas is {replicas}, but Ray, which starts several engines, is not installed; run `pip install "
            "-r requirements-ray.txt`, or set engine.replicas: 1"
        )
    gpus, needed = torch.cuda.device_count(), replicas * tensor_parallel
    elsewhere = replicas > 1 and "RAY_ADDRESS" in os.environ
    if (gpus or tensor_parallel > 1) and needed > gpus and not elsewhere:
        raise UserError(
            f"engine.replicas ({replicas}) x engine.tensor_parallel ({tensor_parallel}) are {needed} GPUs, but this "
            f"machine shows {gpus} (CUDA_VISIBLE_DEVICES counts); lower them, or start several replicas on the Ray "
            "cluster that RAY_ADDRESS names"
        )


def leaves_out_unannotated() -> bool:
    """Whether a training that needs feedback leaves out the examples without it (`data.on_bad_row: drop`)."""
    return tables.read_json(places.PROOF).get("without_feedback") == "left out"


def require_proof(seed_model: SeedModel) -> frozenset[str]:
    """What `check` proved must hold for the model at hand: DVC does not look at the model's files.

    Returns:
        Ids of the training examples that are too long and left out.

    Raises:
        UserError: the proof is missing, altered, or of another model.
    """
    proof = tables.read_json(places.PROOF)
    proved = proof["base"]
    if proved != seed_model.identity:
        raise UserError(
            f"{places.PROOF}: proves the model {proved}, but `model` now resolves to {seed_model.identity} (weights, "
            "tokenizer and chat template count); restore its files, or run `dvc repro --force check` to take them"
        )
    return frozenset(proof.get("left_out", ()))
