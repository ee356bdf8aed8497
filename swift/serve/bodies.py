"""What clients send, as OpenAI's API names it, and with the sampling parameters of our own beside. None is the same as absent.

Keys that are not here change nothing about an answer and are ignored; those that would, and cannot be obeyed, are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from swift.serve.refusal import Refusal

MOST_CHOICES = 128
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Token = Annotated[int, Field(ge=0, le=2**31 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class StreamOptions(BaseModel):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = Field(None, description="Usage so far in every chunk.")


class Generation(BaseModel):
    """What every kind of request may say about how it is answered."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    model: str = Field(description="An id of /v1/models.")
    max_tokens: Count | None = Field(
        None, description="Most tokens of an answer; as many as the model's length leaves where nothing says it."
    )
    temperature: Annotated[float, Field(ge=0, le=100)] | None = Field(None, description="0 takes the likeliest token.")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = Field(None, description="-1 and 0 are all tokens.")
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    num_beams: Annotated[int, Field(ge=1, le=32)] | None = None
    length_penalty: Annotated[float, Field(ge=-100, le=100)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**64 - 1)] | None = None
    stop: str | Annotated[list[str | list[Token]], Field(max_length=64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(None, description="Token id to what its logit gains.")
    return_token_ids: bool | None = Field(None, description="Also give the token ids of the prompt and of each answer.")

    def refuse(self) -> None:
        """Raises Refusal for what would change the answer and cannot be obeyed."""
        if (self.best_of or 1) > (self.n or 1):
            raise Refusal(400, "best_of above n is not supported: every answer that is made is returned; leave it out", param="best_of")


class ChatBody(Generation):
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_completion_tokens: Count | None = Field(None, description="The same as max_tokens.")
    tools: list[dict[str, Any]] | str | None = None
    tool_choice: str | dict[str, Any] | None = Field(None, description="none, auto, required (as auto), or one of the tools.")
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    response_format: dict[str, Any] | None = None
    images: list[Any] | str | None = None
    audios: list[Any] | str | None = None
    videos: list[Any] | str | None = None
    objects: dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = None
    modalities: list[str] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def refuse(self) -> None:
        super().refuse()
        if self.functions:
            raise Refusal(400, "functions is the older name of tools; send tools and tool_choice", param="functions")
        if set(self.modalities or ["text"]) != {"text"}:
            raise Refusal(400, "answers are text; modalities may name nothing else", param="modalities")
        if self.chat_template_kwargs:
            raise Refusal(400, "chat_template_kwargs is not supported: rows are written as they were trained", param="chat_template_kwargs")
        form = (self.response_format or {}).get("type", "text")
        if form != "text":
            raise Refusal(
                400,
                f"response_format {form!r} is not supported: this engine cannot hold an answer to a grammar yet",
                param="response_format",
            )


class CompletionBody(Generation):
    prompt: str | list[str] | list[Token] | list[list[Token]]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0)] | None = Field(None, description="How many likeliest tokens are listed beside each.")
    suffix: str | None = Field(None, description="Has no effect.")


class EmbeddingBody(BaseModel):
    model: str
    input: str | list[Any]


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """OpenAI's form, with two keys beside it that older clients read."""

    error: ErrorDetail
    message: str
    object: Literal["error"]
