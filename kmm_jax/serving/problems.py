"""What callers are told when a request is not answered."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any


class ProblemError(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        code: for programs, such as ``too_large``; does not change.
        message: for people.
        retry_after: seconds until it is worth another try; None where it never is.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after = retry_after

    def body(self) -> bytes:
        """As JSON; in ASCII, so that half a surrogate pair in a message does no harm."""
        return json.dumps({"error": {"code": self.code, "message": self.message}}).encode("ascii")

    def headers(self) -> dict[str, str]:
        """Of the response."""
        found = {"content-type": "application/json"}
        if self.retry_after is not None:
            found["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        return found


def busy(seconds: float) -> ProblemError:
    """Too much is under way."""
    return ProblemError(429, "busy", "too many requests are under way", retry_after=seconds)


def failed(id: str) -> ProblemError:
    """It is the service's own fault; the log says more under this id."""
    return ProblemError(500, "failed", f"the service failed; its log has it under {id}")


def invalid(errors: Sequence[Any]) -> ProblemError:
    """What is wrong where; what was sent is not repeated."""
    first = [
        f"{'.'.join(str(each) for each in error['loc'])}: {error['msg']}" for error in errors[:3]
    ]
    return ProblemError(422, "invalid", "; ".join(first))
