"""From a request's body to what the engine is asked: samples, and how their answers are drawn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from swift.data.sample import Sample
from swift.engines.engine import Sampling
from swift.engines.protocol import InferRequest, RequestConfig, to_sample
from swift.serve.bodies import ChatBody, CompletionBody, Generation
from swift.serve.refusal import Refusal

if TYPE_CHECKING:
    from swift.args.base import GenerationArgs

COLDEST = 1e-3  # dividing by less gives infinite scores; there the likeliest token is all that can come anyway
DEEPEST = 100  # levels of JSON


def check_text(value: Any, depth: int = 0) -> None:
    """Raises Refusal for text that no tokenizer takes (half a surrogate pair) and for nesting that no recursion survives."""
    if depth > DEEPEST:
        raise Refusal(400, "the request is nested too deeply")
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as wrong:
                raise Refusal(400, f"a text holds half a character (the surrogate U+{ord(value[wrong.start]):04X})") from None
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_text(key, depth + 1)
            check_text(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check_text(inner, depth + 1)


def sampling(
    body: Generation, defaults: GenerationArgs, tokenizer: Any, vocabulary: int, *, logprobs: bool, top_logprobs: int | None
) -> Sampling:
    """What the client says, else what the server's command line says, else what the model's generation_config.json says.

    `vocabulary`: token ids lie below it.
    """
    check_tokens(body.logit_bias or {}, vocabulary, "logit_bias")
    for stop in body.stop if isinstance(body.stop, list) else []:
        check_tokens(stop if isinstance(stop, list) else [], vocabulary, "stop")
    limit = getattr(body, "max_completion_tokens", None) or body.max_tokens

    def either(said: Any, default: Any) -> Any:
        return default if said is None or said == [] else said

    temperature = either(body.temperature, defaults.temperature)
    config = RequestConfig(
        max_tokens=either(limit, defaults.max_new_tokens),
        temperature=0.0 if temperature is not None and temperature < COLDEST else temperature,
        top_k=either(body.top_k, defaults.top_k),
        top_p=either(body.top_p, defaults.top_p),
        repetition_penalty=either(body.repetition_penalty, defaults.repetition_penalty),
        num_beams=body.num_beams or 1,
        stop=either([body.stop] if isinstance(body.stop, str) else body.stop, defaults.stop_words),
        seed=body.seed,
        logprobs=logprobs,
        top_logprobs=either(top_logprobs, defaults.top_logprobs) if logprobs else None,
        n=body.n or 1,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        min_p=body.min_p,
        logit_bias=body.logit_bias,
        length_penalty=1.0 if body.length_penalty is None or (body.num_beams or 1) == 1 else body.length_penalty,
    )
    return config.sampling(tokenizer)


def check_tokens(tokens: Iterable[int | str], vocabulary: int, param: str) -> None:
    for token in tokens:
        if not (isinstance(token, int) or (token.isascii() and token.isdigit())) or int(token) >= vocabulary:
            raise Refusal(400, f"{param}: {token!r} is no token id; there are {vocabulary}", param=param)


def chat_sample(body: ChatBody) -> Sample:
    """The conversation. Raises Refusal, UsageError or DataError for what it cannot hold."""
    check_text([body.messages, body.tools, body.stop])
    messages = [_message(number, message) for number, message in enumerate(body.messages, 1)]
    media = {name: getattr(body, name) or [] for name in ("images", "audios", "videos")}
    return to_sample(InferRequest(messages, **media, tools=chosen_tools(body), objects=body.objects or {}))


def _message(number: int, message: dict[str, Any]) -> dict[str, Any]:
    """As InferRequest has it: developer is the newer name of system, no content is an empty one, a refusal is something said."""
    content = message.get("content")
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise Refusal(400, f"message {number}: tool_calls must be a list of calls", param="messages")
    if isinstance(content, list):
        refused = [part for part in content if isinstance(part, dict) and part.get("type") == "refusal"]
        content = [{"type": "text", "text": part.get("refusal")} if part in refused else part for part in content]
        for part in content:
            if isinstance(part, dict) and part.get("type") == "text" and not isinstance(part.get("text"), str | None):
                raise Refusal(400, f"message {number}: a part of type text must hold a text", param="messages")
    role = message.get("role")
    return {**message, "role": "system" if role == "developer" else role, "content": "" if content is None else content}


def chosen_tools(body: ChatBody) -> list[dict[str, Any]] | None:
    """The tools that `tool_choice` leaves. `required` cannot be enforced and is as `auto`."""
    tools, choice = _tools(body.tools), body.tool_choice
    if choice is None or choice in ("auto", "required"):
        if choice == "required" and not tools:
            raise Refusal(400, "tool_choice is 'required' and there are no tools", param="tool_choice")
        return tools
    if choice == "none":
        return None
    if isinstance(choice, str):
        raise Refusal(400, f"tool_choice: {choice!r} is none of none, auto, required", param="tool_choice")
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        wanted = [_name(tool) for tool in (allowed.get("tools") if isinstance(allowed, dict) else None) or []]
    else:
        wanted = [_name(choice)]
    known = {_name(tool): tool for tool in tools or []}
    if not wanted or any(name not in known for name in wanted):
        raise Refusal(
            400, f"tool_choice names {', '.join(map(repr, wanted)) or 'nothing'}, which is none of the tools", param="tool_choice"
        )
    return [known[name] for name in dict.fromkeys(wanted)]


def _tools(tools: list[dict[str, Any]] | str | None) -> list[dict[str, Any]] | None:
    if isinstance(tools, str):
        try:
            read = json.loads(tools)
        except ValueError as wrong:
            raise Refusal(400, f"tools is no JSON: {wrong}", param="tools") from None
        if not (isinstance(read, list) and all(isinstance(tool, dict) for tool in read)):
            raise Refusal(400, "tools must be a list of tool descriptions", param="tools")
        tools = read
    for tool in tools or []:
        if tool.get("type", "function") != "function":
            raise Refusal(400, f"tools: only tools of type function can be called, not {tool['type']!r}", param="tools")
        if _name(tool) is None:
            raise Refusal(400, "tools: a tool has no name", param="tools")
    return tools or None


def _name(tool: Any) -> str | None:
    inner = tool.get("function", tool) if isinstance(tool, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) and name else None


def prompts(body: CompletionBody) -> list[tuple[Sample, list[int] | None]]:
    """Each prompt as a conversation of one question, or as the token ids that it is."""
    check_text([body.prompt, body.stop])
    given: Any = body.prompt
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]
    if not given:
        raise Refusal(400, "prompt holds nothing", param="prompt")
    return [(Sample.of(("user", prompt)), None) if isinstance(prompt, str) else (Sample.of(("user", "")), list(prompt)) for prompt in given]
