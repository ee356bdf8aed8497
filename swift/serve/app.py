"""The routes. An ASGI app over an engine; who may come in and how it is started are door.py's and server.py's business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from swift import __version__
from swift.engines.engine import Sampling, ServingEngine
from swift.serve.answers import Chat, Reply, Text
from swift.serve.asked import chat_sample, check_tokens, prompts, sampling
from swift.serve.bodies import ChatBody, CompletionBody, EmbeddingBody, ErrorBody, Generation
from swift.serve.counts import FORMAT, Counts
from swift.serve.events import DONE, ClientGone, Events, event, unless_gone
from swift.serve.names import Names
from swift.serve.records import Records
from swift.serve.refusal import Refusal, refusal
from swift.serve.running import Desks, Question, Running

if TYPE_CHECKING:
    from swift.args.base import GenerationArgs
    from swift.template.template import Template

PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/health", "/ping", "/metrics", "/docs", "/redoc", "/openapi.json",
)  # fmt: skip
GONE = 499  # nobody reads it; counted under the number that nginx made usual


@dataclass
class Serving:
    """What the routes need. `writes`: the model writes text; a classifier does not, and reads its prompts itself."""

    engine: ServingEngine
    template: Template
    names: Names
    defaults: GenerationArgs
    counts: Counts
    records: Records
    writes: bool = True
    vocabulary: int = 0  # token ids below this may be sent as a prompt
    max_length: int = 2**31 - 1  # tokens of a prompt
    max_logprobs: int = 20


def make_app(serving: Serving) -> FastAPI:
    routes = Routes(serving)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        telling = asyncio.create_task(serving.counts.tell_regularly()) if serving.counts.interval > 0 else None
        yield
        if telling is not None:
            telling.cancel()
            await telling
        serving.records.close()

    app = FastAPI(title="SWIFT", version=__version__, description="OpenAI's protocol, spoken by `swift deploy`.", lifespan=lifespan)
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": text}
        for status, text in ((400, "What was asked cannot be done."), (401, "No key, or a wrong one."), (404, "No such model."),
                             (413, "The body is too large."), (429, "Too many wait; ask again later."), (503, "The server is going down."))
    }  # fmt: skip
    streamed = {200: {"content": {"application/json": {}, "text/event-stream": {}}, "description": "An answer, or a stream of its chunks."}}
    app.add_api_route("/v1/chat/completions", routes.chat, methods=["POST"], responses={**streamed, **refused}, response_model=None)
    app.add_api_route("/v1/completions", routes.complete, methods=["POST"], responses={**streamed, **refused}, response_model=None)
    app.add_api_route("/v1/embeddings", routes.embed, methods=["POST"], responses=refused, response_model=None)
    app.add_api_route("/v1/models", routes.models, methods=["GET"], responses={401: refused[401], 503: refused[503]}, response_model=None)
    app.add_api_route("/v1/models/{name:path}", routes.model, methods=["GET"], responses=refused, response_model=None)
    app.add_api_route("/health", routes.health, methods=["GET"], response_class=Response)
    app.add_api_route("/ping", routes.health, methods=["GET"], response_class=Response)
    app.add_api_route("/ping", routes.health, methods=["POST"], response_class=Response)
    app.add_api_route("/metrics", routes.metrics, methods=["GET"], response_class=PlainTextResponse)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _failed)
    app.openapi = lambda: _openapi(app, serving.names.all())  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI, names: list[str]) -> dict[str, Any]:
    """FastAPI's page with the models' names, without the 422 that it declares for every body: a faulty one is 400, as it is at OpenAI."""
    if app.openapi_schema is None:
        page = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for methods in page["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        for body in (ChatBody, CompletionBody, EmbeddingBody):
            page["components"]["schemas"][body.__name__]["properties"]["model"]["enum"] = names
        (one,) = page["paths"]["/v1/models/{name}"]["get"]["parameters"]
        one["schema"]["enum"] = names
        app.openapi_schema = page
    return app.openapi_schema


def _refused(failure: BaseException) -> JSONResponse:
    told = refusal(failure)
    return JSONResponse(told.body(), told.status, told.headers)


async def _invalid(request: Request, failure: Exception) -> Response:
    """A body that is no JSON, or has fields of other kinds than it should: said by name, without repeating what was sent."""
    assert isinstance(failure, RequestValidationError)
    if "json" not in (kind := request.headers.get("content-type", "")):
        return _refused(Refusal(400, f"the body must be JSON, and say so: Content-Type: application/json, not {kind[:100]!r}"))
    errors = failure.errors()
    said, first = [], None
    for error in errors[:5]:
        place = [str(part) for part in error["loc"] if part != "body"]
        field = ".".join(place) if error["type"] != "json_invalid" else ""
        first = first or (place[0] if field and place else None)
        said.append(f"{field}: {error['msg']}" if field else f"the body is no JSON object: {error['msg']}")
    return _refused(Refusal(400, "; ".join(dict.fromkeys(said)), param=first))


async def _no_route(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    told = Refusal(failure.status_code, str(failure.detail))
    return JSONResponse(told.body() | {"detail": failure.detail}, told.status, dict(failure.headers or {}))


async def _failed(request: Request, failure: Exception) -> Response:
    return _refused(failure)


class Routes:
    def __init__(self, serving: Serving):
        self.serving = serving
        self.desks = Desks(serving.engine, serving.template if serving.writes else None)

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """An answer to a conversation."""

        def ask() -> list[Question]:
            body.refuse()
            top = self._top_logprobs(body.top_logprobs if body.logprobs else None)
            how = self._sampling(body, logprobs=bool(body.logprobs), top_logprobs=top)
            return [self._that_may_fit(Question(chat_sample(body), how, self.serving.names.adapter(body.model)))]

        def reply(running: Running) -> Reply:
            style = self.serving.template.tools.calls if running.questions[0].sample.tools else None
            return Chat(body, running, style)

        asked = body.model_dump(include={"messages", "tools", "images", "audios", "videos", "objects"}, exclude_none=True)
        return await self._answer(body, request, ask, reply, asked)

    async def complete(self, body: CompletionBody, request: Request) -> Response:
        """The older API: a text that goes on. It is one question to the chat format; with --use_chat_template false it is the text itself."""
        texts: list[str] = []

        def ask() -> list[Question]:
            body.refuse()
            top = self._top_logprobs(body.logprobs)
            if body.echo and body.logprobs is not None:
                raise Refusal(400, "echo and logprobs together are not supported: a prompt's tokens have no logprobs here", param="echo")
            how = self._sampling(body, logprobs=body.logprobs is not None, top_logprobs=top)
            adapter = self.serving.names.adapter(body.model)
            questions = [self._that_may_fit(Question(sample, how, adapter, self._known(ids))) for sample, ids in prompts(body)]
            decode = self.serving.template.tokenizer.decode
            texts.extend(q.sample.messages[0].content if q.prompt is None else str(decode(q.prompt)) for q in questions)
            return questions

        return await self._answer(body, request, ask, lambda running: Text(body, running, texts), {"prompt": body.prompt})

    async def embed(self, body: EmbeddingBody) -> Response:
        """Embedding models cannot be served yet."""
        try:
            self.serving.names.adapter(body.model)
        except Refusal as refused:
            return _refused(refused)
        return _refused(Refusal(400, f"{body.model} is no embedding model: those can be neither trained nor served yet", param="model"))

    async def models(self) -> Response:
        """What can be asked: the model, and its adapters by their names."""
        names = self.serving.names
        return JSONResponse({"object": "list", "data": [names.entry(name) for name in names.all()]})

    async def model(self, name: str) -> Response:
        """One of the models."""
        try:
            return JSONResponse(self.serving.names.entry(name))
        except Refusal as refused:
            return _refused(refused)

    async def health(self) -> Response:
        """Empty, where requests are answered."""
        return Response()

    async def metrics(self) -> Response:
        """Counts in Prometheus' text format."""
        return Response(self.serving.counts.page(), media_type=FORMAT)

    # below

    def _top_logprobs(self, asked: int | None) -> int | None:
        most = self.serving.max_logprobs
        if asked is not None and asked > most:
            raise Refusal(
                400, f"The value of top_logprobs({asked}) is greater than the server's max_logprobs({most}).", param="top_logprobs"
            )
        return asked

    def _that_may_fit(self, question: Question) -> Question:
        """Megabytes that cannot fit are refused before a tokenizer works on them for seconds."""
        most, template = self.serving.max_length * self._longest, self.serving.template
        if question.characters > most and template.args.truncation_strategy == "delete":
            reason = f"longer than the model's length: {question.characters} characters, and {self.serving.max_length} tokens are at most"
            raise Refusal(400, reason, param="messages", code="context_length_exceeded")
        return question

    @cached_property
    def _longest(self) -> int:
        """Characters that one token may stand for, by far: normalisation may have made them fewer."""
        return 4 * max(map(len, self.serving.template.tokenizer.get_vocab()))

    def _known(self, ids: list[int] | None) -> list[int] | None:
        if ids is None:
            return None
        if not self.serving.writes:
            raise Refusal(400, "a classifier reads texts; send the prompt as text", param="prompt")
        check_tokens(ids, self.serving.vocabulary, "prompt")
        return ids

    def _sampling(self, body: Generation, *, logprobs: bool, top_logprobs: int | None) -> Sampling:
        serving = self.serving
        tokenizer = serving.template.tokenizer
        return sampling(body, serving.defaults, tokenizer, serving.vocabulary, logprobs=logprobs, top_logprobs=top_logprobs)

    async def _answer(
        self,
        body: ChatBody | CompletionBody,
        request: Request,
        ask: Callable[[], Sequence[Question]],
        reply: Callable[[Running], Reply],
        asked: dict[str, Any],
    ) -> Response:
        try:
            self.serving.names.adapter(body.model)  # first of all: who names no model here is not told what else is wrong
            running = await self.desks.start(ask(), whole=not body.stream)
        except Exception as failure:
            return _refused(failure)
        answering = reply(running)
        if body.stream:
            events = self._events(answering, running, asked)
            return Events(events, left=self._left, done=running.let_go)
        try:
            whole = await unless_gone(request, answering.whole())
        except ClientGone:
            self._left()
            return Response(status_code=GONE)
        except Exception as failure:
            return _refused(failure)
        finally:
            running.let_go()
        self._done(answering, running, asked)
        return JSONResponse(whole)

    async def _events(self, answering: Reply, running: Running, asked: dict[str, Any]) -> AsyncIterator[bytes]:
        try:
            async for content in answering.stream():
                yield event(content)
            self._done(answering, running, asked)
        except Exception as failure:  # the status has been sent: an event says it
            yield event(refusal(failure).body())
        yield DONE

    def _done(self, answering: Reply, running: Running, asked: dict[str, Any]) -> None:
        usage, serving = answering.usage(), self.serving
        serving.counts.answered(
            answering.id, usage["prompt_tokens"], usage["completion_tokens"], running.first or running.seconds(), running.seconds()
        )
        texts = [answer.text for answer in answering.answers]
        how: Sampling = running.questions[0].sampling
        serving.records.add(texts[0] if len(texts) == 1 else texts, {"model": answering.body.model, **asked}, asdict(how))

    def _left(self) -> None:
        self.serving.counts.gone += 1
