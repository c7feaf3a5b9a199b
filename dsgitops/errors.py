"""Every error that a person can meet, each with a way out.

Two axes (as in h11): whose fault, and what to do.  What a *person* did wrong in a file is not an
exception but a `Problem` value (`core/model.py`), all of them at once.  What the *world* did wrong
is an exception below; its type says whether trying again can help.

Messages never hold values from manifests, API bodies or URLs with credentials: they reach logs.
"""

from __future__ import annotations


class DsgitopsError(Exception):
    """Base of all errors that are told to a person: what happened, and a remedy.

    Args:
        what: One sentence without a full stop, lower case.
        remedy: What the reader can do; empty where there is nothing to do but wait.
    """

    exit_code = 1
    """The process's exit code when this ends it (`interfaces.md`, exit codes)."""
    retry = False
    """Whether the same attempt can succeed later without a person."""

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class UsageError(DsgitopsError):
    """The command line or the configuration cannot be used as it is."""

    exit_code = 2


class SourceUnreachable(DsgitopsError):
    """The Git remote did not answer.  Retried at the next poll; the cluster is left alone."""

    exit_code = 7
    retry = True


class SourceRefused(DsgitopsError):
    """Git answered, and what it answered cannot be used: no such branch, path, signature.

    The last good commit stays in force.
    """

    exit_code = 7


class ClusterUnreachable(DsgitopsError):
    """The API server did not answer, or answered that it cannot now (5xx, 429, timeout).

    Args:
        what: As in `DsgitopsError`.
        remedy: As in `DsgitopsError`.
        retry_after: Seconds that the server asked for, 0 where it did not.
        landed: False when the request certainly had no effect; None when nobody knows.
    """

    exit_code = 7
    retry = True

    def __init__(
        self, what: str, *, remedy: str = "", retry_after: float = 0, landed: bool | None = None
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.retry_after = retry_after
        self.landed = landed


class Stale(DsgitopsError):
    """A precondition failed (409, or 422 on `metadata.uid`, or 404): look again, decide anew."""

    exit_code = 7
    retry = True


class ActionRefused(DsgitopsError):
    """The API server will never accept this request as it stands (403, 422, typed-patch 500).

    Args:
        what: As in `DsgitopsError`.
        remedy: As in `DsgitopsError`.
        code: The HTTP status code.
        fields: The fields that were named, without values: `spec.selector`.
    """

    exit_code = 7

    def __init__(
        self, what: str, *, remedy: str = "", code: int, fields: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.code = code
        self.fields = fields


class Undelivered(DsgitopsError):
    """A channel did not confirm an alert.  Sent again, later and later, until it does.

    Args:
        what: As in `DsgitopsError`; never an address or a key of the channel.
        remedy: As in `DsgitopsError`.
        retry_after: Seconds that the channel asked for, 0 where it did not.
        refused: Whether it will never take this alert as it is: it is given up.
    """

    exit_code = 7
    retry = True

    def __init__(
        self, what: str, *, remedy: str = "", retry_after: float = 0, refused: bool = False
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.retry_after = retry_after
        self.refused = refused
