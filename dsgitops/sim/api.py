"""The simulated API server: HTTP requests in, answers and watches out, in virtual time.

One instance is one cluster's API server.  It keeps to what was observed of a real 1.36 API server
(`cluster.md`); whatever is not served answers 404.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from dsgitops.sim import answers, bodies, causes, checks, discovery, reads
from dsgitops.sim.access import Account
from dsgitops.sim.checks import APPLY, Options
from dsgitops.sim.deletion import Deleter
from dsgitops.sim.resources import RESOURCES, Route, route, served
from dsgitops.sim.selectors import selection
from dsgitops.sim.store import Gone
from dsgitops.sim.watches import BOOKMARK_EVERY, LONGEST, Hub, Refusal, Terms, Watch
from dsgitops.sim.writes import Hook, Writer, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from dsgitops.ports import Clock, Request, Response, Stream, Wake
    from dsgitops.sim.schema import Object
    from dsgitops.sim.store import Store

INITIAL_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")

_HEALTH = ("/readyz", "/livez", "/healthz")
_REVIEWS = "/apis/authorization.k8s.io/v1/"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiServer:
    """Serves a store.

    Args:
        store: The objects; controllers write to it directly.
        clock: The virtual clock.
        account: Whose requests come in; the default may do everything.
    """

    def __init__(self, store: Store, clock: Clock, account: Account | None = None) -> None:
        self.store = store
        self.account = account or Account()
        self.admission: list[Hook] = []
        """Hooks in order; each may change an object or raise `AdmissionRefused`."""
        self.clock = clock
        self.is_up = True
        """Whether it takes connections."""
        self._now = clock.now
        self._hub = Hub()
        self._ticking: list[Callable[[], None]] = []
        self._reader = reads.Reader(store)
        self._writer = Writer(store, clock.now, self.admission)
        self._deleter = Deleter(store, clock.now)
        store.listen(self._hub.take)
        for name in INITIAL_NAMESPACES:
            if store.get("namespaces", "", name) is None:
                self.make_namespace(name)

    # ------------------------------------------------------------------ for the world

    def make_namespace(self, name: str) -> Object:
        """Create a namespace, active at once."""
        return self.store.create(
            "namespaces",
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            },
        )

    def admit(self, verb: str, resource: str, obj: Object, old: Object | None = None) -> Object:
        """Run an object of a controller through admission, as its request would be.

        Raises:
            AdmissionRefused: A hook says no.
        """
        for hook in self.admission:
            obj = hook(verb, resource, obj, old)
        return obj

    def tick(self, now: datetime) -> None:
        """Send bookmarks, end watches and finish namespaces as virtual time goes by."""
        self._hub.tick(now)
        for call in self._ticking:
            call()
        for namespace in self.store.list("namespaces"):
            if namespace["metadata"].get("deletionTimestamp"):
                self._empty(namespace["metadata"]["name"])

    def on_tick(self, call: Callable[[], None]) -> None:
        """Have `call` run at every tick: what disturbs open watches does so in time."""
        self._ticking.append(call)

    @property
    def due(self) -> datetime | None:
        """Return when `tick` next has something to do."""
        return self._hub.due

    def stop(self) -> None:
        """Refuse connections until `start`; open watches end."""
        self.is_up = False
        for watch in self.watches():
            watch.end()

    def start(self) -> None:
        """Serve again."""
        self.is_up = True

    def watches(self) -> list[Watch]:
        """Return the open watches, for faults."""
        return self._hub.watches()

    def _empty(self, namespace: str) -> None:
        """Delete what a terminating namespace holds; the namespace goes when it is empty."""
        held = [
            (resource, obj)
            for resource in RESOURCES
            if resource.namespaced and resource.group != "events.k8s.io"
            for obj in self.store.list(resource.plural, namespace)
        ]
        for resource, obj in held:
            if obj["metadata"].get("deletionTimestamp"):
                continue
            where = Route(resource, namespace, obj["metadata"]["name"])
            self._deleter.delete(where, {}, dry_run=False)
        if not held:
            self.store.remove("namespaces", "", namespace)

    # ------------------------------------------------------------------ requests

    def handle(self, request: Request, *, stale: int | None = None) -> Response:
        """Answer one request; watches go to `watch`.

        Args:
            request: As sent.
            stale: Answer reads from this older version, as a lagging cache would.
        """
        try:
            return self._answer(request, _lower(request.headers), stale)
        except answers.Refused as refused:
            return refused.response()

    def _answer(self, request: Request, headers: Mapping[str, str], stale: int | None) -> Response:
        self.account.authenticate(headers)
        if request.path in _HEALTH:
            return answers.text(200, "ok")
        found = route(request.path)
        if found is None:
            return self._unrouted(request)
        if request.method == "GET":
            return self._read(request, headers, found, stale)
        return self._write(request, headers, found)

    def _unrouted(self, request: Request) -> Response:
        """Answer paths that name no stored resource: reviews and discovery."""
        media = _lower(request.headers).get("content-type", "application/json")
        if request.method == "POST" and not media.startswith("application/json"):
            raise answers.unsupported_media(("application/json",))
        if request.method == "POST" and request.path == _WHO:
            return answers.answer(201, self.account.self_review())
        if request.method == "POST" and request.path.startswith(_REVIEWS):
            given = bodies.mapping(request.body)
            kind = request.path.removeprefix(_REVIEWS)
            if kind == "selfsubjectaccessreviews":
                return answers.answer(201, self.account.access_review(given))
            if kind == "selfsubjectrulesreviews":
                return answers.answer(201, self.account.rules_review(given))
        document = discovery.document(request.path) if request.method == "GET" else None
        if document is None:
            raise answers.no_such_path()
        return answers.answer(200, document)

    def _read(
        self, request: Request, headers: Mapping[str, str], where: Route, stale: int | None
    ) -> Response:
        accept = headers.get("accept", "")
        self.account.check("get" if where.name else "list", where)
        view = reads.view_of(accept, of_list=not where.name)
        if where.name:
            obj = self._reader.get(where, stale)
            return answers.answer(200, reads.shown(where.resource, obj, view, self._now()))
        page = self._reader.page(where, request.query, stale)
        return answers.answer(200, reads.listed(where, page, view, self._now()))

    def _write(self, request: Request, headers: Mapping[str, str], where: Route) -> Response:
        _check_method(request.method, where)
        options = _options(request, headers)
        if request.method == "DELETE":
            return self._delete(request, where, dry_run=options.dry_run)
        self.account.check(_VERBS[request.method], where)
        media = headers.get("content-type", "application/json").partition(";")[0].strip()
        written = self._written(request, media, where, options)
        warnings = "".join(f"299 - {answers.quoted(each)}" for each in written.warnings[:1])
        obj = written.object
        if obj.get("kind") != "Status":
            view = reads.view_of(headers.get("accept", ""), of_list=False)
            obj = reads.shown(where.resource, obj, view, self._now())
        return answers.answer(written.code, obj, {"warning": warnings} if warnings else None)

    def _written(self, request: Request, media: str, where: Route, options: Options) -> Written:
        if request.method == "PATCH":
            if self.store.get(where.resource.plural, where.namespace or "", where.name) is None:
                self._check_apply_create(media, where)
            return self._writer.patch(where, media, request.body, options)
        if media not in ("application/json", "application/yaml", ""):
            raise answers.unsupported_media(("application/json", "application/yaml"))
        if request.method == "PUT":
            return self._writer.replace(where, request.body, options)
        if where.subresource == "eviction":
            return self._deleter.evict(where, request.body, dry_run=options.dry_run)
        return self._writer.create(where, request.body, options)

    def _check_apply_create(self, media: str, where: Route) -> None:
        """Check the right to create, which an apply of an absent object needs as well."""
        if media == APPLY:
            self.account.check("create", where)

    def _delete(self, request: Request, where: Route, *, dry_run: bool) -> Response:
        options = _delete_options(request.query)
        if request.body.strip():  # then the query does not count
            options = bodies.mapping(request.body)
            dry_run = "All" in (options.get("dryRun") or ())
        checks.propagation(options)
        if where.name:
            self.account.check("delete", where)
            written = self._deleter.delete(where, options, dry_run=dry_run)
            return answers.answer(written.code, written.object)
        self.account.check("deletecollection", where)
        page = self._reader.page(where, request.query, None)
        for obj in page.objects:
            metadata = obj["metadata"]
            each = Route(where.resource, metadata.get("namespace"), metadata["name"])
            self._deleter.delete(each, options, dry_run=dry_run)
        return answers.answer(200, reads.listed(where, page, "", self._now()))

    # ------------------------------------------------------------------ watches

    def watch(self, request: Request, wake: Wake) -> Stream:
        """Open a watch; what cannot be opened is an ended stream with its status and body."""
        try:
            return self._opened(request, _lower(request.headers), wake)
        except answers.Refused as refused:
            wake()
            return Refusal(refused.response())

    def _opened(self, request: Request, headers: Mapping[str, str], wake: Wake) -> Watch:
        self.account.authenticate(headers)
        where = route(request.path)
        if where is None:
            raise answers.no_such_path()
        if where.name:
            where, request = _by_name(where, request)
        self.account.check("watch", where)
        terms = self._terms(request, headers, where)
        now = self._now()
        watch = Watch(terms, wake, self._now, lambda: self.store.version, now + BOOKMARK_EVERY)
        version = _start(request.query)
        if version > self.store.version:
            terms.mute = True
        elif _initial(request.query):
            self._send_initial(watch, where, request.query)
        elif version == 0:
            self._send_present(watch, where)
        else:
            self._send_since(watch, version)
        self._hub.add(watch)
        return watch

    def _terms(self, request: Request, headers: Mapping[str, str], where: Route) -> Terms:
        query = request.query
        seconds = query.get("timeoutSeconds", "")
        lasts = timedelta(seconds=int(seconds)) if seconds.isdigit() else LONGEST
        return Terms(
            resource=where.resource,
            selection=selection(where.resource, where.namespace, query),
            view=reads.view_of(headers.get("accept", ""), of_list=True, watch=True),
            bookmarks=query.get("allowWatchBookmarks") in ("true", "1"),
            ends=self._now() + lasts,
        )

    def _send_present(self, watch: Watch, where: Route) -> None:
        for obj in self.store.list(where.resource.plural, where.namespace):
            shown = served(where.resource, obj)
            if watch.terms.selection.matches(shown):
                watch.send("ADDED", shown)

    def _send_initial(self, watch: Watch, where: Route, query: Mapping[str, str]) -> None:
        if query.get("resourceVersionMatch") != "NotOlderThan":
            message = (
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
            cause = causes.Cause(causes.FORBIDDEN, "resourceVersionMatch", message)
            raise answers.invalid_options("ListOptions", cause)
        self._send_present(watch, where)
        if watch.terms.bookmarks:
            watch.bookmark(initial=True)

    def _send_since(self, watch: Watch, version: int) -> None:
        try:
            for change in self.store.since(version):
                watch.take(change)
        except Gone as gone:
            watch.fail(answers.expired(str(gone)).status)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _check_method(method: str, where: Route) -> None:
    """Check that a method makes sense where it is used."""
    named = bool(where.name)
    if where.subresource == "eviction":
        allowed = method == "POST"
    elif method == "POST":
        allowed = not named
    else:
        allowed = named or method == "DELETE"
    if not allowed:
        raise answers.method_not_allowed()


def _options(request: Request, headers: Mapping[str, str]) -> Options:
    query = request.query
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        cause = causes.Cause(
            causes.NOT_SUPPORTED,
            "dryRun",
            f'Unsupported value: {json.dumps([dry_run])}: supported values: "All"',
        )
        kinds = {"PATCH": "PatchOptions", "POST": "CreateOptions", "PUT": "UpdateOptions"}
        raise answers.invalid_options(kinds.get(request.method, "DeleteOptions"), cause)
    agent = headers.get("user-agent", "").partition("/")[0] or "unknown"
    force = query.get("force")
    return Options(
        manager=query.get("fieldManager") or agent,
        named_manager=bool(query.get("fieldManager")),
        force=None if force is None else force in ("true", "1"),
        dry_run=dry_run == "All",
        validation=query.get("fieldValidation") or "Warn",
    )


def _delete_options(query: Mapping[str, str]) -> Object:
    options: Object = {}
    if query.get("propagationPolicy"):
        options["propagationPolicy"] = query["propagationPolicy"]
    if query.get("gracePeriodSeconds", "").isdigit():
        options["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
    return options


def _by_name(where: Route, request: Request) -> tuple[Route, Request]:
    """Return a watch of one object as a watch of its collection by name."""
    query = {**request.query, "fieldSelector": f"metadata.name={where.name}"}
    return Route(where.resource, where.namespace), replace(request, query=query)


def _initial(query: Mapping[str, str]) -> bool:
    return query.get("sendInitialEvents") in ("true", "1")


def _start(query: Mapping[str, str]) -> int:
    given = query.get("resourceVersion") or "0"
    if not given.isdigit():
        raise answers.internal(f'strconv.ParseUint: parsing "{given}": invalid syntax')
    return int(given)
