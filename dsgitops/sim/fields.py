"""Who owns which field: `metadata.managedFields`, and server-side apply on top of it.

The rules are those of Kubernetes's structured merge: an *Apply* entry owns what its last body
named, an *Update* entry what its writes changed; apply removes what its manager named before and
names no more, unless somebody else owns it.  Fields that nobody owns stay.

A set of fields is a frozenset of paths (`schema.Path`), a member being the path itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dsgitops.sim.schema import List as ListType
from dsgitops.sim.schema import Object, Path, Scalar, Struct, Type, child, key_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Fields = frozenset[Path]
Tree = dict[str, Any]

NOTHING: Fields = frozenset()

BEFORE_FIRST_APPLY = "before-first-apply"
ANCIENT = "ancient-changes"
MAX_UPDATERS = 10
"""More Update entries than this are united, the oldest first."""

_UNTRACKED: Fields = frozenset(
    [
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        ),
    ]
)


class Owner(NamedTuple):
    """What makes one entry of managedFields."""

    manager: str
    operation: str
    """Apply or Update."""
    api_version: str
    subresource: str = ""

    def shown(self) -> str:
        """Return the owner as conflicts name it: `"kubectl-set" using apps/v1`."""
        name = f'"{self.manager}"'
        if self.subresource:
            name += f' with subresource "{self.subresource}"'
        return f"{name} using {self.api_version}" if self.operation == "Update" else name


@dataclass(slots=True)
class Managed:
    """The entries of one object."""

    sets: dict[Owner, Fields] = field(default_factory=dict)
    times: dict[Owner, str] = field(default_factory=dict)


class Conflicts(Exception):
    """Fields that others own with other values, by owner."""

    def __init__(self, by_owner: Mapping[Owner, Fields]) -> None:
        super().__init__("conflicts")
        self.by_owner = by_owner


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paths at which two objects differ."""

    added: Fields
    modified: Fields
    removed: Fields

    @property
    def written(self) -> Fields:
        """Return what the new object has and the old one has not, or otherwise."""
        return self.added | self.modified

    @property
    def differs(self) -> bool:
        """Whether the objects are not the same."""
        return bool(self.added or self.modified or self.removed)


# ---------------------------------------------------------------------------- the two operations


def applied(
    of: Type, live: Object, config: Object, managed: Managed, write: Write
) -> tuple[Object, Managed]:
    """Return the object and the entries after a server-side apply; nothing is defaulted yet.

    Args:
        of: The type of the kind.
        live: The object without managedFields; what an empty one looks like to create.
        config: The body, checked against the schema.
        managed: The entries before.
        write: Who applies, when and how.

    Raises:
        Conflicts: Others own fields that would get another value, and `force` is off.
    """
    owner = write.owner
    sets = dict(managed.sets)
    last = sets.get(owner, NOTHING)
    merged = _merged(of, live, config)
    sets[owner] = without(field_set(of, config), write.reset)
    pruned = _pruned(of, merged, sets, last)
    comparison = compare(of, live, pruned)
    sets = _resolved(sets, owner, comparison, write)
    if owner in sets:
        sets[owner] = sets[owner] - _UNTRACKED
        if not sets[owner]:
            del sets[owner]
    if not comparison.differs:  # then a new entry has no time, and an old one keeps its own
        return pruned, Managed(sets, {each: managed.times.get(each, "") for each in sets})
    return pruned, _stamped(sets, managed.times, write)


def updated(of: Type, live: Object, new: Object, managed: Managed, write: Write) -> Managed:
    """Return the entries after any other write: the writer owns what it changed.

    Args:
        of: The type of the kind.
        live: The object before, without managedFields.
        new: The object after, without managedFields.
        managed: The entries before, or those that the request brought.
        write: Who writes, when, through which subresource.
    """
    comparison = compare(of, live, new)
    changed = without(comparison.written, write.reset) - _UNTRACKED
    relevant = Comparison(
        without(comparison.added, write.reset),
        without(comparison.modified, write.reset),
        without(comparison.removed, write.reset),
    )
    forced = Write(write.owner, write.time, force=True, reset=write.reset)
    others = _resolved(dict(managed.sets), None, relevant, forced)
    if not changed:
        return Managed(others, {owner: managed.times.get(owner, "") for owner in others})
    others[write.owner] = others.get(write.owner, NOTHING) | changed
    return _capped(_stamped(others, managed.times, write))


@dataclass(frozen=True, slots=True)
class Write:
    """Who writes."""

    owner: Owner
    time: str
    """Whole seconds: `2026-01-02T03:04:05Z`."""
    force: bool = False
    reset: tuple[Path, ...] = ()
    """Subtrees that this endpoint ignores: `status` on the main resource."""


def before_first_apply(of: Type, live: Object, empty: Object, write: Write) -> Managed:
    """Return the entry that owns everything of an object without any entries."""
    owner = Owner(BEFORE_FIRST_APPLY, "Update", write.owner.api_version)
    first = Write(owner, write.time, reset=write.reset)
    return updated(of, empty, live, Managed(), first)


def _resolved(
    sets: dict[Owner, Fields], writer: Owner | None, comparison: Comparison, write: Write
) -> dict[Owner, Fields]:
    """Take from everyone else what was written otherwise, and from all what is gone."""
    conflicts = {
        owner: each & comparison.written
        for owner, each in sets.items()
        if owner != writer and each & comparison.written
    }
    if conflicts and not write.force:
        raise Conflicts(conflicts)
    kept: dict[Owner, Fields] = {}
    for owner, each in sets.items():
        rest = each
        if owner != writer:
            rest = each - conflicts.get(owner, NOTHING) - comparison.removed
        if rest:
            kept[owner] = rest
    return kept


def _stamped(sets: dict[Owner, Fields], times: Mapping[Owner, str], write: Write) -> Managed:
    stamps = {owner: times.get(owner, "") for owner in sets}
    if write.owner in sets:
        stamps[write.owner] = write.time
    return Managed(sets, stamps)


def _capped(managed: Managed) -> Managed:
    """Unite the oldest Update entries when there are too many."""
    updaters = [owner for owner in managed.sets if owner.operation == "Update"]
    if len(updaters) <= MAX_UPDATERS:
        return managed
    updaters.sort(key=lambda owner: (managed.times[owner], owner))
    for owner in updaters[: len(updaters) - MAX_UPDATERS + 1]:
        ancient = Owner(ANCIENT, "Update", owner.api_version)
        fields, time = managed.sets.pop(owner), managed.times.pop(owner)
        managed.sets[ancient] = managed.sets.get(ancient, NOTHING) | fields
        managed.times[ancient] = max(time, managed.times.get(ancient, ""))
    return managed


# ---------------------------------------------------------------------------- pruning


def _pruned(of: Type, merged: Object, sets: Mapping[Owner, Fields], last: Fields) -> Object:
    """Take away what the last body named, unless this one or anybody else has it."""
    if not last:
        return merged
    everything = named(of, field_set(of, merged))
    before = named(of, last)
    owned = named(of, frozenset[Path]().union(*sets.values()))
    bare = removed(of, merged, before)
    stays = named(of, field_set(of, bare)) | owned
    kept = removed(of, merged, everything - stays)
    gone = (everything - named(of, field_set(of, kept))) & before
    left: Object = removed(of, merged, gone)
    return left


def named(of: Type, paths: Fields) -> Fields:
    """Return the set with every declared field on the way to a member as a member too."""
    out = set(paths)
    seen: dict[Path, Type] = {(): of}
    for path in paths:
        for end in range(1, len(path)):
            prefix = path[:end]
            if prefix in seen:
                continue
            parent = seen[prefix[:-1]]
            seen[prefix] = child(parent, prefix[-1])
            if isinstance(parent, Struct) and prefix[-1][2:] in parent.fields:
                out.add(prefix)
    return frozenset(out)


def removed(of: Type, value: Any, paths: Iterable[Path]) -> Any:  # noqa: ANN401 - any JSON
    """Return the value without the items at these paths; what becomes empty stays, empty."""
    tree: Tree = {}
    for path in paths:
        node = tree
        for segment in path:
            node = node.setdefault(segment, {})
        node["."] = {}
    return _removed(of, value, tree)


def _removed(of: Type, value: Any, tree: Tree) -> Any:  # noqa: ANN401 - any JSON
    if not tree or isinstance(of, Scalar) or of.atomic or not isinstance(value, dict | list):
        return value
    if isinstance(value, dict):
        kept_map: Object = {}
        for name, each in value.items():
            below = tree.get(f"f:{name}")
            if below is None:
                kept_map[name] = each
            elif "." not in below:
                kept_map[name] = _removed(child(of, f"f:{name}"), each, below)
        return kept_map
    kept_list: list[Any] = []
    for each in value:
        below = tree.get(_segment(of, each))
        if below is None:
            kept_list.append(each)
        elif "." not in below:
            kept_list.append(_removed(child(of, ""), each, below))
    return kept_list


# ---------------------------------------------------------------------------- walking


def field_set(of: Type, value: Any) -> Fields:  # noqa: ANN401 - any JSON
    """Return the paths that an applied body names."""
    found: set[Path] = set()
    _collect(of, value, (), found)
    return frozenset(found)


def _collect(of: Type, value: Any, path: Path, found: set[Path]) -> None:  # noqa: ANN401
    if isinstance(of, Scalar) or of.atomic:
        found.add(path)
    elif isinstance(value, dict) and not isinstance(of, ListType):
        for name, each in value.items():
            below = (*path, f"f:{name}")
            _collect(child(of, f"f:{name}"), each, below, found)
            if each is None or each == {} or not isinstance(of, Struct):
                found.add(below)
    elif isinstance(value, list) and isinstance(of, ListType):
        for each in value:
            below = (*path, _segment(of, each))
            _collect(of.element, each, below, found)
            found.add(below)


_ABSENT: Any = object()


def compare(of: Type, old: Object, new: Object) -> Comparison:
    """Return where two objects of a type differ, down to what is owned as a whole."""
    added: set[Path] = set()
    modified: set[Path] = set()
    gone: set[Path] = set()
    _compare(of, old, new, (), (added, modified, gone))
    return Comparison(frozenset(added), frozenset(modified), frozenset(gone))


_Sinks = tuple[set[Path], set[Path], set[Path]]


def _compare(of: Type, old: Any, new: Any, path: Path, into: _Sinks) -> None:  # noqa: ANN401
    if old is new:
        return
    added, modified, gone = into
    if old is _ABSENT:
        added.add(path)
    elif new is _ABSENT:
        gone.add(path)
    if _is_leaf(of, old, new):
        if old is not _ABSENT and new is not _ABSENT and not _same(old, new):
            modified.add(path)
        return
    before, after = _children(of, old), _children(of, new)
    for segment in before | after:
        _compare(
            child(of, segment),
            before.get(segment, _ABSENT),
            after.get(segment, _ABSENT),
            (*path, segment),
            into,
        )


def _is_leaf(of: Type, old: Any, new: Any) -> bool:  # noqa: ANN401 - any JSON
    if isinstance(of, Scalar) or of.atomic or isinstance(old, tuple) or isinstance(new, tuple):
        return True
    return not _filled(old) and not _filled(new)


def _filled(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(value, dict | list) and bool(value)


def _same(old: Any, new: Any) -> bool:  # noqa: ANN401 - any JSON
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _children(of: Type, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {f"f:{name}": each for name, each in value.items()}
    if isinstance(value, list) and isinstance(of, ListType):
        found: dict[str, Any] = {}
        for each in value:
            segment = _segment(of, each)
            if segment not in found:
                found[segment] = each
            elif isinstance(found[segment], tuple):
                found[segment] = (*found[segment], each)
            else:  # elements of one key are compared and owned together
                found[segment] = (found[segment], each)
        return found
    return {}


def _segment(of: Type, element: Any) -> str:  # noqa: ANN401 - any JSON
    if not isinstance(of, ListType):
        return ""
    return key_of(of, element) or ""


def _merged(of: Type, live: Any, config: Any) -> Any:  # noqa: ANN401 - any JSON
    """Lay the body over the live value: its values win, nothing goes away."""
    if config is _ABSENT:
        return live
    if live is _ABSENT or live is None or isinstance(of, Scalar) or of.atomic:
        return config
    if config is None and _filled(live):
        return live  # null names nothing in it, so nothing of it changes
    if isinstance(live, dict) and isinstance(config, dict):
        return {
            name: _merged(
                child(of, f"f:{name}"), live.get(name, _ABSENT), config.get(name, _ABSENT)
            )
            for name in live | config
        }
    if isinstance(live, list) and isinstance(config, list) and isinstance(of, ListType):
        return _merged_list(of, live, config)
    return config


def _merged_list(of: ListType, live: list[Any], config: list[Any]) -> list[Any]:
    """Merge keyed lists: the body's order, the others' elements where they stood."""
    ours = {_segment(of, each): each for each in config}
    theirs = {_segment(of, each): each for each in live}
    out: list[Any] = []
    waiting = list(ours)
    for segment, each in theirs.items():
        if segment not in ours:
            out.append(each)
            continue
        while segment in waiting:
            head = waiting.pop(0)
            out.append(_merged(of.element, theirs.get(head, _ABSENT), ours[head]))
    out.extend(_merged(of.element, theirs.get(head, _ABSENT), ours[head]) for head in waiting)
    return out


def without(paths: Fields, subtrees: Sequence[Path]) -> Fields:
    """Return the set without everything at or below some paths."""
    if not subtrees:
        return paths
    return frozenset(
        path for path in paths if not any(path[: len(root)] == root for root in subtrees)
    )


# ---------------------------------------------------------------------------- as written


def read(entries: Sequence[Mapping[str, Any]] | None) -> Managed:
    """Return the entries of `metadata.managedFields`; nonsense in them is kept as it is."""
    managed = Managed()
    for entry in entries or ():
        if not entry:
            continue
        owner = Owner(
            entry.get("manager", ""),
            entry.get("operation", ""),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
        )
        managed.sets[owner] = frozenset(_members(entry.get("fieldsV1") or {}, ()))
        managed.times[owner] = entry.get("time") or ""
    return managed


def written(managed: Managed) -> list[Object]:
    """Return `metadata.managedFields`: Apply before Update, then by time and name."""
    owners = sorted(
        managed.sets,
        key=lambda owner: (
            owner.operation,
            managed.times.get(owner, ""),
            owner.manager,
            owner.api_version,
            owner.subresource,
        ),
    )
    return [_entry(owner, managed) for owner in owners]


def _entry(owner: Owner, managed: Managed) -> Object:
    entry: Object = {
        "manager": owner.manager,
        "operation": owner.operation,
        "apiVersion": owner.api_version,
    }
    if managed.times.get(owner):
        entry["time"] = managed.times[owner]
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": tree_of(managed.sets[owner])}
    if owner.subresource:
        entry["subresource"] = owner.subresource
    return entry


def status_stamped(obj: Object, status: Object, manager: str, time: str) -> Object:
    """Return an object with a controller's status, owned as its write through /status would be.

    For controllers that write to the store directly; an equal status changes nothing.

    Args:
        obj: The object as stored.
        status: The whole new status.
        manager: `kube-controller-manager`, `kubelet`.
        time: Whole seconds: `2026-01-02T03:04:05Z`.
    """
    before: Object = obj.get("status") or {}
    if before == status:
        return obj
    own: Object = {}
    others: list[Object] = []
    for each in obj["metadata"].get("managedFields") or []:
        if (each.get("manager"), each.get("subresource")) == (manager, "status"):
            own = each["fieldsV1"]["f:status"]
        else:
            others.append(each)
    changed = {f"f:{name}" for name in status if status[name] != before.get(name)}
    kept = {name for name in own if name[2:] in status}
    entry: Object = {
        "manager": manager,
        "operation": "Update",
        "apiVersion": obj["apiVersion"],
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:status": {name: {} for name in sorted(changed | kept)}},
        "subresource": "status",
    }
    metadata = {**obj["metadata"], "managedFields": [*others, entry]}
    return {**obj, "metadata": metadata, "status": status}


def tree_of(paths: Iterable[Path]) -> Tree:
    """Return a set as fieldsV1: a leaf is `{}`, a member with children has `.` beside them."""
    tree: Tree = {}
    for path in sorted(paths):
        node = tree
        for segment in path:
            node = node.setdefault(segment, {})
    for path in paths:
        node = tree
        for segment in path:
            node = node[segment]
        if node:
            node["."] = {}
    return _sorted_tree(tree)


def _sorted_tree(tree: Tree) -> Tree:
    return {key: _sorted_tree(tree[key]) for key in sorted(tree)}


def _members(tree: Tree, path: Path) -> Iterator[Path]:
    for key, below in tree.items():
        if key == ".":
            yield path
            continue
        if not below:
            yield (*path, key)
        else:
            yield from _members(below, (*path, key))


def _members_first(path: Path) -> list[tuple[bool, str]]:
    """Return where a path stands in a set: what has nothing below it comes before what has."""
    return [(at < len(path) - 1, segment) for at, segment in enumerate(path)]


def conflict_texts(conflicts: Conflicts) -> tuple[str, list[Object]]:
    """Return the message and the causes of a 409, as the API server words them."""
    by_owner = sorted(conflicts.by_owner.items(), key=lambda each: each[0].shown())
    count = sum(len(paths) for _, paths in by_owner)
    parts: list[str] = []
    causes: list[Object] = []
    for owner, paths in by_owner:
        names = [shown(path) for path in sorted(paths, key=_members_first)]
        if len(names) == 1:
            parts.append(f"conflict with {owner.shown()}: {names[0]}")
        else:
            listed = "".join(f"\n- {name}" for name in names)
            parts.append(f"conflicts with {owner.shown()}:{listed}")
        causes += [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {owner.shown()}",
                "field": name,
            }
            for name in names
        ]
    word = "conflict" if count == 1 else "conflicts"
    return f"Apply failed with {count} {word}: " + "\n".join(parts), causes
