"""The copy of what a cluster has: objects by name, never replaced by older ones of the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    import msgspec


@dataclass(frozen=True, slots=True)
class Item:
    """One object: what identifies it, and what we keep of it."""

    namespace: str
    name: str
    uid: str
    version: str
    """`resourceVersion`."""
    value: object
    """What the decoder made of it."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


class Decode(Protocol):
    """Projects an object's JSON; None: it is none of ours, or cannot be understood."""

    def __call__(self, raw: bytes | msgspec.Raw, /) -> Item | None:
        """Decode one object."""
        ...


class Heard(Protocol):
    """Told of each change, in the order in which it arrived."""

    def __call__(self, before: Item | None, after: Item | None, last: Item | None, /) -> None:
        """Take a change in.

        Args:
            before: As it was in the copy.
            after: As it is now; None: it is gone.
            last: Of one that is gone, its last state, as far as it is known.
        """
        ...


def newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is later than another; True where they cannot be compared."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than


class Shelf:
    """The copy: objects by namespace and name, never replaced by older ones of the same.

    Args:
        heard: Told of each change.
    """

    def __init__(self, heard: Heard) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self._heard = heard

    def put(self, item: Item) -> bool:
        """Take an object's state in; False where it is no news (a duplicate, or an old one)."""
        before = self.items.get(item.key)
        if before is not None and not newer(item.version, before.version):
            return False
        self.items[item.key] = item
        self._heard(before, item, None)
        return True

    def drop(self, last: Item) -> bool:
        """Take in that an object is gone; False where that is about an earlier one of its name."""
        before = self.items.get(last.key)
        if before is None:
            return False
        if before.uid != last.uid and newer(before.version, last.version):
            return False
        del self.items[last.key]
        self._heard(before, None, last)
        return True

    def replace(self, items: Iterable[Item], version: str, scope: str) -> bool:
        """Make the copy what a list says.

        Args:
            items: The whole list.
            version: What is newer stays: written (by us) after all that was listed or watched.
            scope: Namespace that the list is of; empty: all.

        Returns:
            Whether that changed anything.
        """
        changed = False
        listed = {item.key: item for item in items}
        for key, before in list(self.items.items()):
            if scope and key[0] != scope:
                continue
            if key not in listed and not self._is_later(before, version):
                del self.items[key]
                changed = True
                self._heard(before, None, before)
        for item in listed.values():
            was = self.items.get(item.key)
            if was is not None and (was.version == item.version or self._is_later(was, version)):
                continue
            self.items[item.key] = item
            changed = True
            self._heard(was, item, None)
        return changed

    @staticmethod
    def _is_later(item: Item, version: str) -> bool:
        both = item.version.isdecimal() and version.isdecimal()
        return both and int(item.version) > int(version)
