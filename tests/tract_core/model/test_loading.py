"""A machine whose GPU would stand idle."""

import pytest
import torch

from tract_core.base.errors import UserError
from tract_core.model import loading


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """The GPU's driver, as far as its program says what there is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def made(code: int) -> None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)

    return made


def test_a_gpu_beside_an_environment_for_cpus_is_refused_with_the_remedy(driver):
    driver(0)
    with pytest.raises(UserError, match=r"NVIDIA GPU.*remove \.venv and call `make env` on this machine"):
        loading.seed_model_and_encoder(None)


@pytest.mark.parametrize("code", [None, 9])
def test_no_driver_or_no_gpu_is_no_reason(driver, code):
    if code:
        driver(code)
    loading._require_build_for_gpu()


def test_a_user_may_want_the_cpu_and_an_environment_for_gpus_is_right(driver, monkeypatch):
    driver(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    loading._require_build_for_gpu()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    loading._require_build_for_gpu()
