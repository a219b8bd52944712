"""Open a judge and serve it until a signal comes."""

import contextlib
import logging
from pathlib import Path
from typing import Any

from tract_core.base.errors import SignalError, UserError
from tract_core.generate.engine.base import Decoding, Engine
from tract_core.judge.judging import Judge
from tract_core.model import models
from tract_core.serve.answers import Answers
from tract_core.serve.backends import Backend, Local, VllmProcess

logger = logging.getLogger(__name__)


def serve(
    judge: Judge,
    *,
    engine: str,
    batch_size: int,
    host: str,
    port: int,
    key: str | None,
    limits: dict[str, Any],
    work: Path,
) -> None:
    """Serve one judge by `vllm` or `transformers`; returns after SIGINT or SIGTERM, when the engine has ended, too.

    Raises:
        UserError: FastAPI or uvicorn is not installed, or the port is taken.
    """
    try:
        import uvicorn

        from tract_core.serve import app
    except ImportError as error:
        raise UserError(f"the server needs more ({error}): pip install 'tract[serve]'") from None
    with contextlib.ExitStack() as kept:
        backend = _backend(judge, engine, batch_size, work, kept)
        made = app.create(Answers(judge, backend), limits=app.Limits(**limits), key=key)
        config = uvicorn.Config(made, host=host, port=port, log_config=None, access_log=False)
        try:
            uvicorn.Server(config).run()
        except SignalError:
            logger.info("stopped")
        except SystemExit:
            raise UserError(f"{host}:{port} cannot be listened on; is the port taken? Name one with --port") from None


def _backend(judge: Judge, engine: str, batch_size: int, work: Path, kept: contextlib.ExitStack) -> Backend:
    opened = judge.opened
    adapter = None if opened.adapter is None else models.check_adapter(opened.adapter, opened.seed_model)
    if engine == "transformers":
        return Local(_opening(judge), batch_size)
    folder = kept.enter_context(models.merged_folder(opened.seed_model, adapter, opened.model.dtype, work))
    return VllmProcess(
        folder,
        name=opened.name,
        dtype=opened.model.dtype,
        max_length=opened.model.max_length,
        batch_size=batch_size,
    )


def _opening(judge: Judge) -> Any:
    """Engines that share one model, loaded now."""
    from tract_core.generate.engine.hf import TransformersEngine

    opened = judge.opened
    adapter = None if opened.adapter is None else models.check_adapter(opened.adapter, opened.seed_model)
    model = models.load_merged(opened.seed_model, adapter, opened.model.dtype)
    engines = dict[Decoding, Engine]()

    def opening(decoding: Decoding) -> Engine:
        if decoding not in engines:
            engines.clear()
            engines[decoding] = TransformersEngine(model, decoding)
        return engines[decoding]

    return opening
