"""Several voices as one: each decision is told everywhere, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.model import Decision, Ref
    from dsgitops.ports import Voice


class Voices:
    """`ports.Voice` to all of its members, in order."""

    def __init__(self, *members: Voice) -> None:
        self._members = members

    def tell(self, ref: Ref, decision: Decision, now: datetime, *, news: bool) -> None:
        """See `ports.Voice`."""
        for member in self._members:
            member.tell(ref, decision, now, news=news)

    def problem(self, source: str, what: str, *, remedy: str = "") -> None:
        """See `ports.Voice`."""
        for member in self._members:
            member.problem(source, what, remedy=remedy)

    def fault(self, ref: Ref, error: Exception) -> None:
        """See `ports.Voice`."""
        for member in self._members:
            member.fault(ref, error)

    def read(self, source: str, commit: str, now: datetime, *, partial: bool) -> None:
        """See `ports.Voice`."""
        for member in self._members:
            member.read(source, commit, now, partial=partial)
