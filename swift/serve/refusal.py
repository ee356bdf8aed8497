"""What a client is told when it gets no answer: OpenAI's error body, with the two keys beside it that older clients of ours read."""

from __future__ import annotations

import logging
from typing import Any

from swift import logs
from swift.engines.engine import QueueFull
from swift.errors import DataError, UsageError
from swift.template.encoded import RowSkipped

RETRY_SECONDS = 1  # what a client is asked to wait where there is no room


class Refusal(Exception):
    """A request that is not answered. `status` is HTTP's."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
    ):
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code

    @property
    def headers(self) -> dict[str, str]:
        if self.status in (429, 503):
            return {"Retry-After": str(RETRY_SECONDS)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error, "message": self.message, "object": "error"}


def refusal(failure: BaseException) -> Refusal:
    """Any failure as what a client is told. What only the server can mend is logged with its traceback, and told without it."""
    if isinstance(failure, Refusal):
        return failure
    if isinstance(failure, QueueFull):
        return Refusal(429, str(failure), kind="rate_limit_error", code="queue_full")
    if isinstance(failure, RowSkipped):
        return Refusal(400, str(failure), param="messages", code="context_length_exceeded" if "longer than" in failure.reason else None)
    if isinstance(failure, UsageError | DataError):
        return Refusal(400, str(failure))
    if isinstance(failure, RecursionError):
        return Refusal(400, "the request is nested too deeply")
    logs.get_logger().log(logging.ERROR, f"a request failed: {type(failure).__name__}: {failure}", exc_info=failure)
    return Refusal(500, "the server failed to answer; its log says why", kind="server_error", code="internal_error")
