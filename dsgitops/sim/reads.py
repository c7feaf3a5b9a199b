"""Get and list: pages, versions, selectors and the three ways to show an object."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgitops.sim import answers, tables
from dsgitops.sim.resources import served
from dsgitops.sim.selectors import selection
from dsgitops.sim.store import Gone, View, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from dsgitops.sim.resources import Resource, Route
    from dsgitops.sim.schema import Object
    from dsgitops.sim.store import Store

INCONSISTENT = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter."
)


_PARTIAL = ("PartialObjectMetadata", "PartialObjectMetadataList")


def view_of(accept: str, *, of_list: bool, watch: bool = False) -> str:
    """Return how the client wants it: `Table`, `PartialObjectMetadata`, or "" for whole objects.

    Raises:
        Refused: 406, nothing of what it accepts can be served.
    """
    partial = "PartialObjectMetadataList" if of_list and not watch else "PartialObjectMetadata"
    for part in accept.split(","):
        media, *parameters = [each.strip() for each in part.split(";")]
        if media not in ("application/json", "application/*", "*/*", ""):
            continue
        forms = [each.removeprefix("as=") for each in parameters if each.startswith("as=")]
        wanted = forms[0] if forms else ""
        if wanted in ("", "Table"):
            return wanted
        if wanted == partial:
            return "PartialObjectMetadata"
        if wanted in _PARTIAL:
            break  # the form is right, the call is not: what stands behind it is not looked at
    raise answers.not_acceptable()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    objects: list[Object]
    version: int
    more: str = ""
    """The token for the next page."""
    remaining: int | None = None


class Reader:
    """Answers GET.

    Args:
        store: Where objects are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, route: Route, stale: int | None) -> Object:
        """Return one object.

        Args:
            route: What the path names.
            stale: Answer from this older version, as an API server whose cache lags would.

        Raises:
            Refused: 404.
        """
        resource = route.resource
        key = (route.namespace or "", route.name)
        if stale is None:
            found = self._store.get(resource.plural, *key)
        else:
            found = self._store.at(stale, resource.plural).objects.get(key)
        if found is None:
            raise answers.not_found(resource, route.name)
        return served(resource, found)

    def page(self, route: Route, query: Mapping[str, str], stale: int | None) -> Page:
        """Return what a list brings.

        Args:
            route: What the path names.
            query: `limit`, `continue`, `resourceVersion(Match)`, selectors.
            stale: Answer from this older version.

        Raises:
            Refused: 400, 410, 504 as the API server does.
        """
        wanted = selection(route.resource, route.namespace, query)
        start, version = self._from(query, stale)
        view = self._view(route.resource, version, query)
        objects = [
            shown
            for each in view.list(route.namespace)
            if key_of(each) > start and wanted.matches(shown := served(route.resource, each))
        ]
        limit = _number(query, "limit")
        cached = query.get("resourceVersion") == "0" and "continue" not in query
        if limit <= 0 or len(objects) <= limit or cached:
            return Page(objects, view.version)
        kept = objects[:limit]
        remaining = len(objects) - limit if wanted.everything else None
        return Page(kept, view.version, _token(view.version, kept[-1]), remaining)

    def _from(
        self, query: Mapping[str, str], stale: int | None
    ) -> tuple[tuple[str, str], int | None]:
        token = query.get("continue")
        if token:
            return _read_token(token)
        given = query.get("resourceVersion", "")
        if given and not given.isdigit():
            raise answers.bad_request(f'invalid resource version: "{given}"')
        version = int(given or 0)
        if version > self._store.version:
            raise answers.too_large_version(version, self._store.version)
        if query.get("resourceVersionMatch") == "Exact":
            return ("", ""), version
        return ("", ""), stale

    def _view(self, resource: Resource, version: int | None, query: Mapping[str, str]) -> View:
        try:
            current = self._store.version
            return self._store.at(current if version is None else version, resource.plural)
        except Gone as gone:
            if not query.get("continue"):
                raise answers.expired(str(gone)) from None
            refused = answers.expired(INCONSISTENT)
            rest = json.loads(_decoded(query["continue"])) | {"rv": -1}
            refused.status["metadata"] = {"continue": _encoded(rest)}
            raise refused from None


def listed(route: Route, page: Page, view: str, now: datetime) -> Object:
    """Return a page as a list, a table or a metadata list."""
    metadata: Object = {"resourceVersion": str(page.version)}
    if page.more:
        metadata["continue"] = page.more
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    resource = route.resource
    if view == "Table":
        return tables.table(resource, page.objects, now) | {"metadata": metadata}
    if view == "PartialObjectMetadata":
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": [tables.partial(each) for each in page.objects],
        }
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": metadata,
        "items": [_item(each) for each in page.objects],
    }


def shown(resource: Resource, obj: Object, view: str, now: datetime) -> Object:
    """Return one object in the view that was asked for."""
    if view == "Table":
        return tables.table(resource, [obj], now) | {
            "metadata": {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        }
    return tables.partial(obj) if view else obj


def _number(query: Mapping[str, str], name: str) -> int:
    given = query.get(name) or "0"
    if not given.isdigit():
        raise answers.bad_request(f'strconv.ParseInt: parsing "{given}": invalid syntax')
    return int(given)


def _item(obj: Object) -> Object:
    return {key: each for key, each in obj.items() if key not in ("kind", "apiVersion")}


def _token(version: int, last: Object) -> str:
    namespace, name = key_of(last)
    return _encoded({"v": "meta.k8s.io/v1", "rv": version, "start": f"{namespace}/{name}\0"})


def _encoded(token: Object) -> str:
    data = json.dumps(token, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def _read_token(token: str) -> tuple[tuple[str, str], int | None]:
    try:
        read = json.loads(_decoded(token))
        namespace, _, name = str(read["start"]).rstrip("\0").rpartition("/")
        version = int(read["rv"])
    except (ValueError, KeyError, binascii.Error):
        raise answers.bad_request("continue key is not valid") from None
    return (namespace, name), None if version < 0 else version
