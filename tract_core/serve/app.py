"""The HTTP interface: `/v1/tract/score`, and as much of OpenAI's as a harness needs to talk to a judge.

Errors are `{"error": {"message", "type", "row"}}` with a status that says whose they are: 400 a row, 401 the key, 408
time, 413 size, 422 the shape of the request, 429 more waiting than allowed, 503 the engine.
"""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tract_core.judge.folder import VERSION
from tract_core.judge.verdicts import verdict
from tract_core.serve import shapes
from tract_core.serve.answers import Answers, BadRowError
from tract_core.serve.backends import UnavailableError

NDJSON = "application/x-ndjson"
PROMETHEUS = ":prometheus"
"""Behind a model's name: replies end with `[RESULT] N`, as tools made for Prometheus read them."""
_AGAIN_SOON, _AGAIN_LATER = "1", "5"
_WATCH = 0.25
"""Seconds between two looks whether the client is still there."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all together, may ask for."""

    rows: int = 1000
    samples: int = 64
    bytes: int = 16 * 2**20
    waiting: int = 4000
    """CoTs of all requests that are not answered yet."""
    seconds: float = 3600.0


class RefusedError(Exception):
    """What a client gets instead of an answer."""

    def __init__(
        self, status: int, kind: str, message: str, *, row: int | None = None, again: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.row, self.again = status, kind, row, again

    def response(self) -> JSONResponse:
        headers = {"Retry-After": self.again} if self.again else {}
        error = {"message": str(self), "type": self.kind, "row": self.row}
        return JSONResponse({"error": error}, status_code=self.status, headers=headers)


class Server:
    """What the routes share: answers, limits, counts."""

    def __init__(self, answers: Answers, limits: Limits) -> None:
        self.answers, self.limits, self.waiting = answers, limits, 0
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("tract_requests", "Requests", ["path", "status"], registry=registry)
        self.seconds = Histogram("tract_request_seconds", "Seconds of a request", ["path"], registry=registry)
        self.verdicts = Counter("tract_verdicts", "Verdicts", ["status"], registry=registry)
        backend = answers.backend
        Gauge("tract_waiting", "CoTs that wait", registry=registry).set_function(lambda: self.waiting)
        Gauge("tract_engine_ready", "1: the engine is up", registry=registry).set_function(lambda: backend.ready)
        restarts = Gauge("tract_engine_restarts", "Starts of the engine after the first", registry=registry)
        restarts.set_function(lambda: backend.restarts)

    @asynccontextmanager
    async def room(self, number: int) -> AsyncIterator[None]:
        """For so many CoTs; or 413 where they never have room, 429 where not now, 503 where the engine is not up."""
        if not self.answers.backend.ready:
            raise RefusedError(503, "unavailable", "the engine is starting; ask again", again=_AGAIN_LATER)
        if number > self.limits.waiting:
            raise RefusedError(413, "size", f"{number} CoTs (rows x samples) a request; at most {self.limits.waiting}")
        if self.waiting + number > self.limits.waiting:
            raise RefusedError(
                429, "overloaded", f"{self.waiting} CoTs wait already; at most {self.limits.waiting}", again=_AGAIN_SOON
            )
        self.waiting += number
        try:
            yield
        finally:
            self.waiting -= number


def create(answers: Answers, *, limits: Limits | None = None, key: str | None = None) -> FastAPI:
    """The application of one judge; `key`: what clients must send as `Authorization: Bearer KEY`."""
    server = Server(answers, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine = asyncio.create_task(answers.backend.run())
        yield
        engine.cancel()
        with suppress(asyncio.CancelledError):
            await engine

    app = FastAPI(title=f"The judge {answers.judge.opened.name}", version=str(VERSION), lifespan=lifespan)
    app.state.server = server
    _errors(app)
    app.add_middleware(_Sized, most=server.limits.bytes)
    app.add_middleware(_Counted, server=server)

    def allowed(authorization: Annotated[str | None, Header()] = None) -> None:
        if key is not None and not hmac.compare_digest((authorization or "").encode(), f"Bearer {key}".encode()):
            raise RefusedError(401, "key", "send the API key as `Authorization: Bearer KEY`")

    _routes(app, server, [Depends(allowed)])
    return app


def _routes(app: FastAPI, server: Server, guards: list[Any]) -> None:
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": shapes.Failure} for status in (400, 401, 408, 413, 422, 429, 503)
    }

    @app.post("/v1/tract/score", response_model=shapes.Scores, responses=errors, dependencies=guards)
    async def score(
        request: Request, body: shapes.ScoreRequest, accept: Annotated[str | None, Header()] = None
    ) -> Response:
        """Judge rows; with `Accept: application/x-ndjson` one verdict a line, each as soon as it is there."""
        return await _score(server, request, body, streamed=NDJSON in (accept or ""))

    @app.post(
        "/v1/chat/completions", response_model=shapes.Chat, responses={**errors, 404: errors[400]}, dependencies=guards
    )
    async def chat(request: Request, body: shapes.ChatRequest) -> Response:
        """The last user message is the judge's whole prompt; the reply is its CoT and score."""
        return JSONResponse(await _while_wanted(request, server, _chat(server, body)))

    @app.get("/v1/models", response_model=shapes.Models, responses={401: errors[401]}, dependencies=guards)
    async def models() -> dict[str, Any]:
        """This judge, under its name."""
        opened = server.answers.judge.opened
        length = opened.model.max_length
        return {"object": "list", "data": [{"id": opened.name, "object": "model", "max_model_len": length}]}

    @app.get("/health", response_model=shapes.Health, responses={503: {"model": shapes.Failure}})
    async def health() -> dict[str, Any]:
        """Whether the engine is up."""
        if not server.answers.backend.ready:
            raise RefusedError(503, "unavailable", "the engine is starting", again=_AGAIN_LATER)
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, responses={401: errors[401]}, dependencies=guards)
    async def metrics() -> PlainTextResponse:
        """Counts for Prometheus."""
        return PlainTextResponse(generate_latest(server.registry).decode())


async def _score(server: Server, request: Request, body: shapes.ScoreRequest, *, streamed: bool) -> Response:
    limits, answers = server.limits, server.answers
    if len(body.rows) > limits.rows or body.num_samples > limits.samples:
        message = f"at most {limits.rows} rows and {limits.samples} samples a request"
        raise RefusedError(413, "size", message)
    if body.num_samples > 1 and not answers.encoder.style.cot:
        raise RefusedError(400, "row", "this judge writes no CoT, so one sample is all there is")
    try:
        found, bad = await asyncio.to_thread(answers.examples, body.plain_rows(), skip_bad=body.skip_bad)
    except BadRowError as error:
        raise RefusedError(400, "row", str(error), row=error.row) from None
    skipped = [{"index": index, **one} for index, one in bad.items()]
    settings: dict[str, Any] = {"num_samples": body.num_samples, "seed": body.seed, "temperature": body.temperature}
    if streamed:
        lines = _lines(server, skipped, found, settings)
        first = await anext(lines, b"")  # so that what is refused has its status
        return StreamingResponse(_chained(first, lines), media_type=NDJSON)

    async def all_of_them() -> dict[str, Any]:
        verdicts, prompt, completion = list(skipped), 0, 0
        async with server.room(len(found) * body.num_samples):
            async for one, in_prompt, in_cots in answers.verdicts(found, **settings):
                server.verdicts.labels(one["status"]).inc()
                verdicts.append(one)
                prompt, completion = prompt + in_prompt, completion + in_cots
        return {
            "object": "list",
            "model": answers.judge.opened.name,
            "scale": _scale(answers),
            "data": sorted(verdicts, key=lambda one: one["index"]),
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
        }

    return JSONResponse(await _while_wanted(request, server, all_of_them()))


async def _lines(
    server: Server, skipped: list[dict[str, Any]], found: dict[int, Any], settings: dict[str, Any]
) -> AsyncIterator[bytes]:
    """Verdicts as lines; a failure after the first is a line, too, since the status has been sent."""
    end = time.monotonic() + server.limits.seconds
    try:
        async with server.room(len(found) * settings["num_samples"]):
            for one in skipped:
                yield _line(one)
            verdicts = server.answers.verdicts(found, **settings)
            # No asyncio.timeout around them: the first line is taken by another task than the rest.
            while (judged := await asyncio.wait_for(anext(verdicts, None), end - time.monotonic())) is not None:
                server.verdicts.labels(judged[0]["status"]).inc()
                yield _line(judged[0])
    except (UnavailableError, TimeoutError) as error:
        yield _line({"error": {"message": str(error) or "out of time", "type": "unavailable", "row": None}})


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in rest:
        yield line


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode(errors="replace") + b"\n"


def _scale(answers: Answers) -> dict[str, Any]:
    scale = answers.encoder.scale
    return {"values": list(scale.values), "labels": list(scale.labels)}


async def _while_wanted(request: Request, server: Server, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The work's result; it ends when the client goes, or its time is over."""
    task, end = asyncio.ensure_future(work), time.monotonic() + server.limits.seconds
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_WATCH)
            if not task.done() and await request.is_disconnected():
                raise RefusedError(408, "gone", "the client has gone")
            if not task.done() and time.monotonic() > end:
                raise RefusedError(408, "time", f"not done after {server.limits.seconds:g} seconds; send fewer rows")
        return task.result()
    except UnavailableError as error:
        raise RefusedError(503, "unavailable", f"{error}; ask again", again=_AGAIN_LATER) from None
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _chat(server: Server, body: shapes.ChatRequest) -> dict[str, Any]:
    answers = server.answers
    opened, encoder = answers.judge.opened, answers.encoder
    if body.model.removesuffix(PROMETHEUS) != opened.name:
        raise RefusedError(404, "model", f"no model {body.model!r}; this is {opened.name}")
    if body.stream or body.n not in (None, 1):
        raise RefusedError(
            400, "unsupported", "neither streams nor several choices are given; ask several times, each with a `seed`"
        )
    prompt = body.prompt()
    if prompt is None:
        raise RefusedError(400, "row", "the last message must be a user's text")
    prompt_ids = await asyncio.to_thread(encoder.turn_ids, prompt)
    async with server.room(1):
        record = await answers.record(answers.decoding(body.temperature or None), prompt_ids, body.seed or 0)
    if record["status"] == "error":
        raise RefusedError(400, "row", record["finish_reason"])
    plain = verdict([{**record, "id": None}], encoder.scale.values, answers.judge.scoring)
    found = answers.judge.calibrated(plain)
    server.verdicts.labels(found["status"]).inc()
    nearest = _nearest(answers, found)
    tail = f" [RESULT] {nearest}" if body.model.endswith(PROMETHEUS) else f"{encoder.style.delimiter}{nearest}"
    usage = {"prompt_tokens": len(prompt_ids), "completion_tokens": record["num_tokens"]}
    return shapes.chat(body.model, f"{record['cot']}{tail}", found, encoder.scale.labels, usage)


def _nearest(answers: Answers, found: dict[str, Any]) -> str:
    """The label nearest to the expected score."""
    score, scale = found["expected_score_renormalized"], answers.encoder.scale
    if score is None:
        return "none"
    return scale.labels[min(range(len(scale.values)), key=lambda place: abs(scale.values[place] - score))]


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def misshapen(_: Request, error: RequestValidationError) -> JSONResponse:
        places = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
        return RefusedError(422, "shape", "; ".join(places)).response()

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        response = RefusedError(error.status_code, "http", str(error.detail)).response()
        response.headers.update(error.headers or {})
        return response


class _Counted:
    """Counts requests by route and status; no more than a look at what is sent, so that a client's leaving is seen."""

    def __init__(self, app: Any, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, statuses = time.monotonic(), list[int]()

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.server.requests.labels(path, (statuses or [500])[0]).inc()
            self.server.seconds.labels(path).observe(time.monotonic() - began)


class _Sized:
    """Refuses bodies over a size before they are read whole."""

    def __init__(self, app: Any, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = RefusedError(413, "size", f"the body has over {self.most} bytes; send fewer rows").response()
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most:
            await refusal(scope, receive, send)
            return
        size = 0

        async def counted() -> Any:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message if size <= self.most else {"type": "http.disconnect"}

        async def sent(message: Any) -> None:
            if size <= self.most:
                await send(message)

        with suppress(ClientDisconnect):
            await self.app(scope, counted, sent)
        if size > self.most:
            await refusal(scope, receive, send)
