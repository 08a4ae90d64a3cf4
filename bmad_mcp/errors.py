"""The errors that an operation may raise, each with a stable code and an HTTP status.

BmadError
├─ NotFound         404  nothing by that key in this project
├─ Conflict         409  the state does not allow it now
│  ├─ InvalidMove        the status table has no such move
│  ├─ LeaseLost          the lease number is not the current one
│  └─ VersionConflict    somebody changed it since it was read
├─ Invalid          422  the input is wrong or contradicts itself
├─ Forbidden        403  this caller may not
├─ RateLimited      429  this caller, or its project, called too often
└─ Unavailable      503  a part this needs does not answer
   ├─ Overloaded         this server has as much to do as it can
   ├─ NoRoom             the database's disk is full
   └─ KeyMissing         the project is encrypted with a key that this server has not
"""


class BmadError(Exception):
    """A failure the caller can understand: the text says what, why and what to do next."""

    code = "error"
    http_status = 500
    # Seconds after which the same call may go well; None where waiting alone does not help.
    retry_after: int | None = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotFound(BmadError):
    """Nothing by that key exists in this project."""

    code = "not_found"
    http_status = 404


class Conflict(BmadError):
    """The state does not allow the operation now."""

    code = "conflict"
    http_status = 409


class InvalidMove(Conflict):
    """The status table has no such move."""

    code = "invalid_move"


class LeaseLost(Conflict):
    """The caller does not hold the task any more."""

    code = "lease_lost"


class VersionConflict(Conflict):
    """The row changed since the caller read it."""

    code = "version_conflict"


class Invalid(BmadError):
    """The input is wrong or contradicts itself."""

    code = "invalid"
    http_status = 422


class Forbidden(BmadError):
    """The caller may not do this."""

    code = "forbidden"
    http_status = 403


class RateLimited(BmadError):
    """Too many calls in too short a time."""

    code = "rate_limited"
    http_status = 429

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(BmadError):
    """A part that the operation needs does not answer."""

    code = "unavailable"
    http_status = 503
    retry_after: int | None = 2


class Overloaded(Unavailable):
    """This process has as many calls as it takes on; nothing was begun."""

    code = "overloaded"


class NoRoom(Unavailable):
    """The database's disk is full; people have to free some of it, and until then the same call goes no better."""

    code = "disk_full"
    retry_after = 60


class KeyMissing(Unavailable):
    """The project is encrypted with a key that this server has not; only who runs it can help, and no waiting."""

    code = "key_missing"
    retry_after = None

    def __init__(self, what: str, mend: str) -> None:
        """`mend` goes on after "whoever runs this server has to"."""
        super().__init__(
            f"{what} Calling again does not help: whoever runs this server has to {mend}, and start it again. Nothing was"
            " changed."
        )
