"""Read whole lists from the API server: every page, or nothing."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from dsgitops.adapters.kubernetes.answers import fault
from dsgitops.errors import ClusterUnreachable
from dsgitops.ports import NONE, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from dsgitops.adapters.kubernetes.shelf import Decode, Item
    from dsgitops.ports import Transport

PAGE_LIMIT = 500
"""Objects a page: some 3 MiB of pods."""
PAGES_MAX = 400
"""A list that is longer is not one of ours."""

P = ParamSpec("P")
R = TypeVar("R")


class Inline(Executor):
    """Runs what it is given at once, in the calling thread: for the simulation and commands."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Return the finished future of a call."""
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is the future's to tell
            future.set_exception(error)
        return future


@dataclass(frozen=True, slots=True)
class Collection:
    """Which objects: a list's path and selectors."""

    path: str
    """`/apis/apps/v1/daemonsets`, or of one namespace."""
    query: Mapping[str, str] = NONE
    """`labelSelector`, `fieldSelector`."""
    namespace: str = ""
    """The one that `path` is of; empty: all."""


class _Meta(msgspec.Struct, rename={"version": "resourceVersion", "more": "continue"}):
    version: str = ""
    more: str = ""


class _Page(msgspec.Struct):
    metadata: _Meta
    items: list[msgspec.Raw] | None = None


_PAGE = msgspec.json.Decoder(_Page)


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole list, projected."""

    items: tuple[Item, ...]
    version: str


def read_list(
    transport: Transport, path: str, query: Mapping[str, str], decode: Decode, now: datetime
) -> Listing:
    """Read a list page by page: all of it or nothing.

    Args:
        transport: Where to.
        path: Of the list.
        query: Selectors.
        decode: What is kept of each object; those it makes None of are left out.
        now: For a `Retry-After` that is a date.

    Raises:
        Stale: The continuation expired (410): read the list anew.
        ActionRefused: Not allowed, or the server does not know the resource.
        ClusterUnreachable: No answer, or no list.
    """
    doing = f"list {path.rpartition('/')[2]}"
    items: list[Item] = []
    more, version = "", ""
    for _ in range(PAGES_MAX):
        asked = {**query, "limit": str(PAGE_LIMIT)} | ({"continue": more} if more else {})
        response = transport.send(Request(method="GET", path=path, query=asked))
        error = fault(response, doing=doing, now=now)
        if error is not None:
            raise error
        page = _page(response, doing)
        items.extend(item for raw in page.items or () if (item := decode(raw)) is not None)
        version = version or page.metadata.version
        more = page.metadata.more
        if not more:
            return Listing(tuple(items), version)
    raise ClusterUnreachable(f"cannot {doing}: the list does not end")


def _page(response: Response, doing: str) -> _Page:
    try:
        page = _PAGE.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ClusterUnreachable(f"cannot {doing}: the answer is not a list") from None
    if not page.metadata.version:
        raise ClusterUnreachable(f"cannot {doing}: the answer is a list without a version")
    return page
