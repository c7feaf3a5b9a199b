"""Everything that the rules of `decide` look at, computed once and only when asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dsgitops.core import bodies, difference, ownership
from dsgitops.core import record as records
from dsgitops.core.budget import View
from dsgitops.core.health import Question, judge, live_revisions
from dsgitops.core.leftovers import leftovers
from dsgitops.core.model import Desired, Phase, Policy, Suspend, strategy_of
from dsgitops.core.record import LastGood, Record

if TYPE_CHECKING:
    from datetime import datetime

    from dsgitops.core.model import Judgement, Live, Observed, Rehearsal, Revision, Unreadable
    from dsgitops.core.record import Quarantined

SUSPEND = "dsgitops.io/suspend"
RETRY_AT = "dsgitops.io/retry-at"
RETRY_MAX = 200
"""Characters of a release token that count."""
IN_FLIGHT = frozenset({Phase.CANARY, Phase.ROLLING, Phase.BAKING})


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The arguments of `decide`, and what follows from them."""

    desired: Desired | Unreadable | None
    seen: Observed
    """What the cluster shows, as found; rules read `observed`."""
    given: Record | None
    """The record as found; rules read `record`."""
    now: datetime

    @cached_property
    def live(self) -> Live:
        """The live object; only asked for by rules that come after `recreate`."""
        live = self.seen.live
        assert live is not None, "no rule after `recreate` runs without a live object"
        return live

    @cached_property
    def record(self) -> Record:
        """The record, made to speak of this very object.

        One that came along in a copy (another uid) keeps its quarantine, and its last good if
        that revision is there; phase and baseline start afresh.
        """
        record = self.given
        assert record is not None, "no rule after `adopt` runs without a record"
        if record.uid == self.live.uid:
            return record
        if not record.uid:
            return replace(record, uid=self.live.uid)
        known = {revision.hash for revision in self.observed.revisions}
        good = record.last_good
        return replace(
            record,
            uid=self.live.uid,
            phase=Phase.IDLE,
            bad_before=None,
            started=None,
            progressed=None,
            last_good=good if good and good.hash in known else None,
        )

    @cached_property
    def content(self) -> Desired | None:
        """What Git has, if it has something that can be used."""
        return self.desired if isinstance(self.desired, Desired) else None

    @cached_property
    def written_content(self) -> Desired | None:
        """What Git has, if that is what was last written: else it says nothing about live."""
        content = self.content
        return content if content is not None and content.digest == self.record.digest else None

    @cached_property
    def policy(self) -> Policy:
        """How this DaemonSet is rolled out."""
        return self.desired.policy if self.desired is not None else Policy()

    @cached_property
    def target(self) -> Revision | None:
        """The revision whose template is the live one; None until the controller made it.

        Of several, the one that last good names, else the newest (`health.live_revisions`).
        """
        good = self.given.last_good.hash if self.given and self.given.last_good else ""
        return max(self._alike, key=lambda each: (each.hash == good, each.number), default=None)

    @cached_property
    def _alike(self) -> list[Revision]:
        live = self.seen.live
        return live_revisions(live, self.seen.revisions) if live is not None else []

    @cached_property
    def observed(self) -> Observed:
        """What the cluster shows: the revisions of the live template, and their pods, as one."""
        target = self.target
        others = {each.hash for each in self._alike if target and each.hash != target.hash}
        if target is None or not others:
            return self.seen
        return replace(
            self.seen,
            revisions=tuple(each for each in self.seen.revisions if each.hash not in others),
            pods=tuple(
                replace(pod, hash=target.hash) if pod.hash in others else pod
                for pod in self.seen.pods
            ),
        )

    @cached_property
    def good_revision(self) -> Revision | None:
        """The ControllerRevision of the last good content; None: there is none any more."""
        good = self.record.last_good
        if good is None:
            return None
        matching = (each for each in self.observed.revisions if each.hash == good.hash)
        return next(matching, None)

    @cached_property
    def at_last_good(self) -> bool:
        """Whether the live template is the last good one."""
        good = self.record.last_good
        return good is not None and self.target is not None and self.target.hash == good.hash

    @cached_property
    def held(self) -> Quarantined | None:
        """The quarantine entry that covers what Git has."""
        if self.content is None:
            return None
        return self.record.holds(self.content.template, self.content.digest)

    @cached_property
    def wants_last_good(self) -> bool:
        """Whether Git has the template of the last good content."""
        good = self.record.last_good
        if good is None or self.content is None:
            return False
        if good.template is not None:
            return good.template == self.content.template
        asked = self.rehearsed
        if not self.at_last_good or asked is None:
            return False
        return not (asked.template_changes or asked.spec_differs)

    @cached_property
    def rehearsed(self) -> Rehearsal | None:
        """What the API server would make of Git's content, where it was asked of this object."""
        asked = self.observed.rehearsal
        if asked is None or self.content is None or asked.digest != self.content.digest:
            return None
        return asked if asked.generation == self.live.generation else None

    @cached_property
    def leave(self) -> frozenset[ownership.Path]:
        """Field paths that `dsgitops.io/ignore-diff` leaves to their owners."""
        if self.content is None:
            return frozenset()
        return frozenset(
            ownership.from_pointer(self.content.manifest, pointer)
            for pointer in self.content.ignore_diff
        )

    @cached_property
    def foreign(self) -> tuple[tuple[str, str, ownership.Fields], ...]:
        """Who else wrote to the spec since our last forward write."""
        return ownership.foreign(self.live.managed_fields, leave=self.leave)

    @cached_property
    def template_drifted(self) -> bool:
        """Whether someone else changed the pod template since our last forward write.

        Whoever holds a field with the value that we wrote (Flux and Argo CD do) changed nothing.
        A removal leaves no owner behind: there the revision tells, which is not the one we made.
        """
        written = self.written_content
        if written is None:
            return any(
                operation != "Apply" and ownership.owns_template(share)
                for _, operation, share in self.foreign
            )
        if any("f:template" in path for path in self.changed_by_others):
            return True
        return self.lacks_template and not self.is_our_revision

    @cached_property
    def lacks_template(self) -> bool:
        """Whether the live template lacks something of the one that we wrote."""
        written = self.written_content
        if written is None or not self.lacking:
            return False
        return difference.template_missing(written, self.live.template)

    @cached_property
    def lacking(self) -> str:
        """The first path of Git's content that the live object does not show; "" if all do."""
        return difference.missing(self.content, self.live) if self.content is not None else ""

    @cached_property
    def changed_by_others(self) -> tuple[ownership.Path, ...]:
        """Fields of the spec, held by others, that are not as Git has them."""
        if self.content is None:
            return ()
        spec = self.content.manifest["spec"]
        return tuple(
            ("f:spec", *path)
            for _, operation, share in self.foreign
            for path in ownership.leaves(share)
            if self._is_changed(spec, path, applied=operation == "Apply")
        )

    def _is_changed(self, spec: Any, path: ownership.Path, *, applied: bool) -> bool:  # noqa: ANN401
        """Whether a field that someone holds differs from Git.

        A field that Git does not have, and that somebody keeps applying, is left to them.
        """
        want, have = ownership.lookup(spec, path), ownership.lookup(self.live.spec, path)
        if want is None:
            return have is not None and not applied
        return not difference.same(want, have, ownership.field_path(path).replace(".", "/"))

    @cached_property
    def is_our_revision(self) -> bool:
        """Whether the live revision is the first that was made of what we wrote."""
        target = self.target
        if target is None:
            return True
        copy = self.copy_of_record(target)
        if copy is None or copy.template != self.record.template:
            return False
        made = target.created
        return not any(
            each.created is not None and made is not None and each.created < made
            for each in self.observed.revisions
            if each is not target and self._is_of_record(each)
        )

    def _is_of_record(self, revision: Revision) -> bool:
        copy = self.copy_of_record(revision)
        return copy is not None and copy.template == self.record.template

    @cached_property
    def takeover(self) -> list[ownership.Entry] | None:
        """The managedFields in which the spec is ours; None: it is."""
        return ownership.takeover(self.live.managed_fields, leave=self.leave)

    @cached_property
    def leftovers(self) -> tuple[ownership.Path, ...]:
        """Fields that nobody owns, and that a write of Git's content would leave by mistake.

        None where `dsgitops.io/ignore-diff` leaves fields of the spec to others: a sweep would
        take them.
        """
        if self.content is None or any(path[:1] == ("f:spec",) for path in self.leave):
            return ()
        spec = self.content.manifest["spec"]
        return leftovers(spec, self.live.spec, self.live.managed_fields)

    @cached_property
    def guarded(self) -> bool:
        """Whether we delete the pods ourselves (`design.md` 7a)."""
        if self.content is None:
            return self.live.strategy.type == "OnDelete" and not self.by_people
        strategy = strategy_of(self.content.manifest["spec"])
        return (
            self.policy.mode == "guarded"
            and strategy.type == "RollingUpdate"
            and not strategy.surges
        )

    @cached_property
    def by_people(self) -> bool:
        """Whether Git says OnDelete: people delete the pods, we never do.

        Where Git cannot be read, last good's strategy tells; where there is none, we keep off.
        """
        if self.content is not None:
            return strategy_of(self.content.manifest["spec"]).type == "OnDelete"
        good = self.record.last_good
        return good is None or good.strategy.get("type") == "OnDelete"

    @cached_property
    def bad_before(self) -> frozenset[str]:
        """Nodes of the baseline."""
        bad = self.record.bad_before
        return frozenset(bad.nodes) if bad else frozenset()

    @cached_property
    def judgement(self) -> Judgement:
        """What pods and nodes say of the live revision."""
        record = self.record
        good = self.good_revision
        baking = record.phase is Phase.BAKING
        return judge(
            Question(
                live=self.live,
                target=self.target,
                pods=self.observed.pods,
                nodes=self.observed.nodes,
                events=self.observed.events,
                chronicle=self.observed.chronicle,
                live_since=self.observed.live_since,
                policy=self.policy,
                started=record.started,
                bad_before=self.bad_before,
                baking_since=record.started if baking else None,
                canary=record.phase is Phase.CANARY,
                first=record.last_good is None and len(self.observed.revisions) <= 1,
                previous_template=good.template if good else None,
                by_people=self.by_people,
                now=self.now,
            )
        )

    @cached_property
    def view(self) -> View:
        """What the budget is computed from."""
        return View(
            uid=self.live.uid,
            judgement=self.judgement,
            pods=self.observed.pods,
            nodes=self.observed.nodes,
            target=self.target.hash if self.target else "",
            max_unavailable=self._max_unavailable(),
            min_ready_seconds=self.live.min_ready_seconds,
            policy=self.policy,
            now=self.now,
        )

    def _max_unavailable(self) -> int | str:
        """As Git has it: beside OnDelete nobody validates what others write."""
        written = self.written_content
        spec = written.manifest["spec"] if written else self.live.spec
        return strategy_of(spec).max_unavailable

    @cached_property
    def has_old_pods(self) -> bool:
        """Whether the controller has something left to replace."""
        target = self.target
        return target is not None and any(
            pod.hash != target.hash and pod.deleting is None for pod in self.observed.pods
        )

    @cached_property
    def suspend(self) -> Suspend | None:
        """A person's word that nothing may be done, on the object or in Git; None: none, over."""
        live = self.observed.live
        given = live.annotations.get(SUSPEND) if live else None
        if given is None and self.content is not None:
            metadata = self.content.manifest["metadata"]
            given = (metadata.get("annotations") or {}).get(SUSPEND)
        suspend = read_suspend(given) if given is not None else None
        if suspend is None or (suspend.until is not None and suspend.until <= self.now):
            return None
        return suspend

    @cached_property
    def retry(self) -> str:
        """The token of a release that is not acted on yet; "" where there is none.

        Cut: it goes into the record, which must not lose its quarantine for it.
        """
        token = self.live.annotations.get(RETRY_AT, "")[:RETRY_MAX]
        return "" if token == self.record.retried else token

    def good_now(self) -> LastGood | None:
        """Return the live content as last good; None while its revision is not known."""
        if self.target is None:
            return None
        return LastGood(
            digest=self.record.digest or None,
            template=self.record.template or None,
            commit=self.record.commit or None,
            revision=self.target.name,
            hash=self.target.hash,
            strategy=self._strategy_now(),
            min_ready_seconds=self.live.min_ready_seconds,
            at=self.now,
        )

    def _strategy_now(self) -> dict[str, Any]:
        """Return the strategy that belongs to what was last written; never a hold of ours."""
        written, good = self.written_content, self.record.last_good
        if written is not None:
            return bodies.strategy_body(written.manifest["spec"])
        if self.live.strategy.type == "OnDelete" and good is not None and good.strategy:
            return dict(good.strategy)
        return bodies.strategy_body(self.live.spec)

    def written(self, **changes: Any) -> Record:  # noqa: ANN401 - dataclasses.replace
        """Return the record of a write of Git's content."""
        content = self.content
        assert content is not None, "a forward write needs content"
        return self.record.next(
            source=content.source,
            path=content.path,
            commit=content.commit,
            digest=content.digest,
            template=content.template,
            waiting_for=None,
            swept="",
            **changes,
        )

    def copy_of_record(self, revision: Revision) -> Record | None:
        """Return the record as it was when the controller made this revision."""
        return records.load(revision.annotations.get(records.ANNOTATION, ""))

    def was_good(self, revision: Revision) -> bool:
        """Whether a later revision's copy of the record names it as last good."""
        copies = (self.copy_of_record(each) for each in self.observed.revisions)
        return any(
            copy.last_good is not None and copy.last_good.hash == revision.hash
            for copy in copies
            if copy is not None
        )


def read_suspend(text: str) -> Suspend:
    """Read `dsgitops.io/suspend`; what cannot be read suspends all the same, without an end."""
    try:
        given = json.loads(text)
        until = given.get("until")
        return Suspend(
            reason=str(given.get("reason", "")),
            by=str(given.get("by", "")),
            until=records.instant(until) if until else None,
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Suspend(reason=text[:256])
