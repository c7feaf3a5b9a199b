"""A repository on disk, followed: what comes, what is refused, what survives."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from git_repositories import DAEMONSET, Repository, source_of

from dsgitops.adapters.git import mirror as mirror_module
from dsgitops.adapters.git.source import forget_others
from dsgitops.errors import SourceRefused, SourceUnreachable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path):
    return Repository.create(tmp_path / "agents.git")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def paths(tree):
    return [file.path for file in tree.files]


def problems(tree):
    return dict(tree.problems)


# ---------------------------------------------------------------------------- following


def test_a_commit_is_listed_and_its_blobs_are_read(repository, cache):
    commit = repository.commit(
        {"prod/a.yaml": "a: 1\n", "prod/deep/b.json": "{}", "prod/README.md": "x", "c.yml": "c"}
    )
    source = source_of(repository, cache, path="prod")

    tree = source.fetch()

    assert paths(tree) == ["prod/a.yaml", "prod/deep/b.json"]
    assert tree.commit == commit
    assert tree.display == f"main@sha1:{commit}"
    assert source.read(file.blob for file in tree.files) == {
        tree.files[0].blob: b"a: 1\n",
        tree.files[1].blob: b"{}",
    }


def test_an_unchanged_tip_is_the_same_tree_and_costs_one_fetch(repository, cache, monkeypatch):
    repository.commit({"a.yaml": DAEMONSET})
    source = source_of(repository, cache)
    first = source.fetch()
    ran = []
    run = mirror_module.Mirror._run
    local = mirror_module.Mirror._local
    monkeypatch.setattr(
        mirror_module.Mirror, "_run", lambda *a, **k: ran.append("remote") or run(*a, **k)
    )
    monkeypatch.setattr(
        mirror_module.Mirror,
        "_local",
        lambda self, *a, **k: ran.append(a[0]) or local(self, *a, **k),
    )

    second = source.fetch()

    assert second is first
    assert ran.count("remote") == 1
    assert "ls-tree" not in ran


def test_a_commit_waits_for_no_packing_and_the_next_calm_poll_does_it(repository, cache):
    repository.commit({"a.yaml": "a: 0"})
    source = source_of(repository, cache)
    source.fetch()
    config = source.folder / "mirror.git" / "config"
    config.write_text(f"{config.read_text()}[fetch]\nunpackLimit = 1\n[gc]\nautoPackLimit = 1\n")

    def packs():
        return len(list(source.folder.glob("mirror.git/objects/pack/*.pack")))

    for number in range(1, 4):
        repository.commit({"a.yaml": f"a: {number}"})
        source.fetch()
    assert packs() > 1

    source.fetch()

    assert packs() == 1


def test_a_push_shows_at_the_next_fetch_and_unchanged_files_keep_their_blob(repository, cache):
    repository.commit({"a.yaml": "a: 1", "b.yaml": "b: 1"})
    source = source_of(repository, cache)
    before = source.fetch()
    repository.commit({"a.yaml": "a: 1", "b.yaml": "b: 2"})

    after = source.fetch()

    assert after.files[0] == before.files[0]
    assert after.files[1].blob != before.files[1].blob
    assert source.contains(before.commit, after.commit) is True
    assert source.contains(after.commit, before.commit) is False
    assert source.history() == (after.commit, before.commit)


def test_a_restarted_agent_knows_the_last_tree_without_the_network(repository, cache):
    repository.commit({"a.yaml": DAEMONSET})
    before = source_of(repository, cache).fetch()
    shutil.rmtree(repository.path)

    source = source_of(repository, cache)

    assert source.last() == before
    assert source.read([before.files[0].blob]) == {before.files[0].blob: DAEMONSET.encode()}
    with pytest.raises(SourceUnreachable):
        source.fetch()
    assert source.last() == before


def test_another_url_or_ref_is_another_mirror(repository, cache):
    repository.commit({"a.yaml": DAEMONSET})
    repository.commit({"b.yaml": DAEMONSET}, branch="next", parent=None)
    source_of(repository, cache).fetch()

    assert source_of(repository, cache, ref=("branch", "next")).last() is None


def test_a_path_may_name_one_file(repository, cache):
    repository.commit({"prod/a.yaml": "a", "prod/b.yaml": "b"})

    assert paths(source_of(repository, cache, path="prod/a.yaml").fetch()) == ["prod/a.yaml"]


def test_a_tag_is_followed_to_its_commit_also_when_moved(repository, cache):
    first = repository.commit({"a.yaml": "1"})
    repository.git("tag", "-a", "-m", "x", "v1", first)
    source = source_of(repository, cache, ref=("tag", "v1"))
    assert source.fetch().display == f"v1@sha1:{first}"
    second = repository.commit({"a.yaml": "2"})
    repository.git("tag", "-f", "v1", second)

    assert source.fetch().commit == second


def test_a_semver_range_moves_to_a_higher_tag(repository, cache):
    first = repository.commit({"a.yaml": "1"})
    repository.git("tag", "v1.0.0", first)
    source = source_of(repository, cache, ref=("semver", "1.x"))
    assert source.fetch().commit == first
    second = repository.commit({"a.yaml": "2"})
    repository.git("tag", "v1.9.0", first)
    repository.git("tag", "v1.10.0", second)
    repository.git("tag", "v2.0.0", second)

    assert source.fetch().commit == second


def test_a_range_without_a_tag_is_refused(repository, cache):
    repository.commit({"a.yaml": "1"})

    with pytest.raises(SourceRefused, match="no tag"):
        source_of(repository, cache, ref=("semver", "1.x")).fetch()


def test_a_pinned_commit_is_fetched_once_and_needs_no_network_afterwards(repository, cache):
    pinned = repository.commit({"a.yaml": "1"})
    repository.commit({"a.yaml": "2"})
    source = source_of(repository, cache, ref=("commit", pinned))
    assert source.fetch().display == f"sha1:{pinned}"
    shutil.rmtree(repository.path)

    assert source.fetch().commit == pinned


def test_a_repository_of_sha256_objects_is_read(tmp_path, cache):
    repository = Repository.create(tmp_path / "new.git", object_format="sha256")
    commit = repository.commit({"a.yaml": "1"})

    tree = source_of(repository, cache).fetch()

    assert tree.display == f"main@sha256:{commit}"
    assert len(commit) == 64


# ---------------------------------------------------------------------------- what is refused


def test_a_branch_that_does_not_exist_is_not_a_server_that_is_down(repository, cache):
    repository.commit({"a.yaml": "1"}, branch="main")

    with pytest.raises(SourceRefused, match="has no branch mian") as refused:
        source_of(repository, cache, ref=("branch", "mian")).fetch()
    with pytest.raises(SourceUnreachable):
        source_of("/nonexistent/agents.git", cache).fetch()

    assert refused.value.remedy == "did you mean main?"


def test_a_branch_that_is_deleted_later_leaves_the_last_tree_in_force(repository, cache):
    repository.commit({"a.yaml": "1"})
    repository.commit({"a.yaml": "1"}, branch="other", parent=None)
    source = source_of(repository, cache)
    before = source.fetch()
    repository.git("update-ref", "-d", "refs/heads/main")

    with pytest.raises(SourceRefused, match="has no branch main"):
        source.fetch()

    assert source.last() == before


def test_an_empty_repository_is_not_zero_manifests(repository, cache):
    with pytest.raises(SourceRefused, match="is empty"):
        source_of(repository, cache).fetch()


def test_a_missing_path_is_not_zero_manifests(repository, cache):
    repository.commit({"prod/a.yaml": "1"})

    with pytest.raises(SourceRefused, match="no folder stage"):
        source_of(repository, cache, path="stage").fetch()


def test_a_path_that_disappears_leaves_the_last_tree_in_force(repository, cache):
    repository.commit({"prod/a.yaml": "1"})
    source = source_of(repository, cache, path="prod")
    before = source.fetch()
    repository.commit({"moved/a.yaml": "1"})

    with pytest.raises(SourceRefused):
        source.fetch()

    assert source.last() == before
    assert source_of(repository, cache, path="prod").last() == before


def test_a_path_without_manifests_is_used_only_when_allowed(repository, cache):
    repository.commit({"prod/README.md": "1"})

    with pytest.raises(SourceRefused, match="no manifest"):
        source_of(repository, cache, path="prod").fetch()
    assert source_of(repository, cache, path="prod", allow_empty=True).fetch().files == ()


def test_rewritten_history_is_followed_unless_fast_forward_is_required(repository, cache, tmp_path):
    old = repository.commit({"a.yaml": "1"})
    free = source_of(repository, cache)
    strict = source_of(repository, tmp_path / "strict", require_fast_forward=True)
    assert free.fetch().commit == strict.fetch().commit == old
    new = repository.commit({"a.yaml": "2"}, parent=None)

    assert free.fetch().commit == new
    assert free.contains(old, new) is False
    for _ in range(2):  # it stays refused
        with pytest.raises(SourceRefused, match="was rewritten"):
            strict.fetch()
    assert strict.last().commit == old
    follow = repository.commit({"a.yaml": "3"}, parent=old)
    assert strict.fetch().commit == follow


def test_what_a_force_push_left_behind_can_still_be_read(repository, cache):
    repository.commit({"a.yaml": "good"})
    source = source_of(repository, cache)
    good = source.fetch()
    repository.commit({"a.yaml": "new"}, parent=None)
    source.fetch()

    assert source.read([good.files[0].blob]) == {good.files[0].blob: b"good"}
    assert source.at(good.commit) == good


def test_the_tree_of_an_earlier_commit_is_listed_from_the_mirror(repository, cache):
    repository.commit({"prod/a.yaml": "1"})
    source = source_of(repository, cache, path="prod")
    assert source.at("0" * 40) is None
    before = source.fetch()
    repository.commit({"prod/b.yaml": "2"})
    elsewhere = repository.commit({"other/b.yaml": "2"}, branch="side", parent=None)
    source.fetch()

    assert source.at(before.commit) == before
    for stranger in ("0" * 40, elsewhere, "HEAD", "main", "--all", "", before.commit[:12]):
        assert source.at(stranger) is None


# ---------------------------------------------------------------------------- odd trees


def test_links_and_submodules_and_lfs_pointers_are_named_and_the_rest_is_read(repository, cache):
    good = repository.blob(DAEMONSET)
    commit = repository.commit({"x": "x"})
    pointer = repository.blob(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    )
    link = repository.blob("/etc/passwd")
    repository.commit_tree(
        repository.tree(
            f"100644 blob {good}\tgood.yaml",
            f"100755 blob {good}\texecutable.yaml",
            f"120000 blob {link}\tlink.yaml",
            f"120000 blob {link}\tfolder",
            f"120000 blob {link}\tNOTICE.txt",
            f"160000 commit {commit}\tvendor",
            f"100644 blob {pointer}\tlarge.yaml",
        )
    )

    tree = source_of(repository, cache).fetch()

    assert paths(tree) == ["executable.yaml", "good.yaml"]
    assert {path: what.split(":")[0] for path, what in tree.problems} == {
        "link.yaml": "is a symbolic link",
        "folder": "is a symbolic link",
        "vendor": "is a submodule",
        "large.yaml": "is a Git LFS pointer",
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\\b.yaml", "a\\b.yaml"),
        ("x\x1b[31m\ny.yaml", "x\\x1b[31m\\x0ay.yaml"),
        ("\udcff.yaml", "\\xff.yaml"),
        ("\u202egnp.yaml", "\\x202egnp.yaml"),
        ("n" * 300 + ".yaml", "n" * 300 + ".yaml"),
    ],
)
def test_a_bad_name_is_a_problem_of_its_entry_alone(repository, cache, name, shown):
    good = repository.blob(DAEMONSET)
    repository.commit_tree(
        repository.tree(f"100644 blob {good}\tgood.yaml", f"100644 blob {good}\t{name}")
    )

    tree = source_of(repository, cache).fetch()

    assert paths(tree) == ["good.yaml"]
    assert list(problems(tree)) == [shown]


@pytest.mark.parametrize("folder", ["..", ".", ".git", ".GIT"])
def test_a_folder_named_like_a_way_out_is_a_problem_of_its_files_alone(repository, cache, folder):
    good = repository.blob(DAEMONSET)
    inner = repository.tree(f"100644 blob {good}\ta.yaml")
    repository.commit_tree(
        repository.tree(f"100644 blob {good}\tgood.yaml", f"040000 tree {inner}\t{folder}")
    )

    tree = source_of(repository, cache).fetch()

    assert paths(tree) == ["good.yaml"]
    assert list(problems(tree)) == [f"{folder}/a.yaml"]


def test_names_that_differ_in_case_are_two_files(repository, cache):
    repository.commit({"A.yaml": "1", "a.yaml": "2"})

    assert paths(source_of(repository, cache).fetch()) == ["A.yaml", "a.yaml"]


def test_a_huge_file_is_a_problem_of_its_own(repository, cache):
    repository.commit({"huge.yaml": "x" * (5 * 1024 * 1024), "good.yaml": DAEMONSET})

    tree = source_of(repository, cache).fetch()

    assert paths(tree) == ["good.yaml"]
    assert "bytes" in problems(tree)["huge.yaml"]


def test_a_transfer_that_would_fill_the_disk_is_stopped(repository, cache, monkeypatch):
    monkeypatch.setattr(mirror_module, "FETCH_BYTES_MAX", 100_000)
    repository.commit({"a.yaml": "1"})
    source = source_of(repository, cache)
    before = source.fetch()
    repository.commit({"a.yaml": "1", "film.bin": os.urandom(3_000_000).hex()})

    with pytest.raises(SourceRefused, match="more than is taken"):
        source.fetch()

    assert source.last() == before
    assert not list(cache.rglob("tmp_*"))


def test_attributes_and_filters_have_no_effect(repository, cache):
    repository.commit({".gitattributes": "* filter=evil text eol=crlf\n", "a.yaml": "a: 1\n"})
    source = source_of(repository, cache)

    tree = source.fetch()

    assert source.read([tree.files[0].blob])[tree.files[0].blob] == b"a: 1\n"


def test_folders_nested_without_end_are_refused(repository, cache):
    inner = repository.tree(f"100644 blob {repository.blob('x')}\ta.yaml")
    for _ in range(70):
        inner = repository.tree(f"040000 tree {inner}\td")
    repository.commit_tree(inner)

    with pytest.raises(SourceRefused, match="more than is taken"):
        source_of(repository, cache).fetch()


def test_a_tree_that_unfolds_into_millions_of_files_is_refused_in_time(repository, cache):
    blob = repository.blob("x")
    inner = repository.tree(*(f"100644 blob {blob}\tf{n}.yaml" for n in range(10)))
    for _ in range(7):
        inner = repository.tree(*(f"040000 tree {inner}\td{n}" for n in range(10)))
    repository.commit_tree(inner)

    with pytest.raises(SourceRefused, match="more than is taken"):
        source_of(repository, cache).fetch()


def test_a_thousand_files_are_listed_and_read_at_once(repository, cache):
    repository.commit({f"prod/f{n}.yaml": f"n: {n}\n" for n in range(1000)} | {})
    source = source_of(repository, cache, path="prod")

    tree = source.fetch()
    blobs = source.read(file.blob for file in tree.files)

    assert len(tree.files) == len(blobs) == 1000
    assert blobs[tree.files[7].blob] == f"n: {tree.files[7].path[6:-5]}\n".encode()


# ---------------------------------------------------------------------------- the cache


def damage_objects(mirror: Path) -> None:
    for path in (mirror / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"\0" * 10)


@pytest.mark.parametrize(
    "damage",
    [
        damage_objects,
        shutil.rmtree,
        lambda mirror: (mirror / "HEAD").write_text("garbage"),
        lambda mirror: shutil.rmtree(mirror / "objects"),
        lambda mirror: (mirror / "config").write_text("[core\n"),
        lambda mirror: (mirror / "refs/dsgitops/incoming").write_text("f" * 40),
        lambda mirror: (mirror / "refs/dsgitops/incoming.lock").touch(),
        lambda mirror: (mirror / "shallow.lock").touch(),
    ],
    ids=["objects", "gone", "HEAD", "no objects", "config", "ref", "ref lock", "shallow lock"],
)
def test_a_damaged_cache_is_fetched_anew(repository, cache, damage):
    repository.commit({"a.yaml": "1"})
    source_of(repository, cache).fetch()
    (mirror,) = cache.glob("*/mirror.git")
    damage(mirror)
    commit = repository.commit({"a.yaml": "2"})
    source = source_of(repository, cache)

    tree = source.fetch()

    assert tree.commit == commit
    assert source.read([tree.files[0].blob]) == {tree.files[0].blob: b"2"}


def test_a_blob_that_is_gone_makes_the_next_fetch_a_fresh_one(repository, cache):
    repository.commit({"a.yaml": "1"})
    source = source_of(repository, cache)
    tree = source.fetch()
    (mirror,) = cache.glob("*/mirror.git")
    damage_objects(mirror)

    with pytest.raises(SourceUnreachable, match="fetched anew"):
        source.read([tree.files[0].blob])
    source.fetch()

    assert source.read([tree.files[0].blob]) == {tree.files[0].blob: b"1"}


def test_a_blob_that_no_tree_named_is_not_read(repository, cache):
    repository.commit({"a.yaml": "1"})
    source = source_of(repository, cache)
    source.fetch()

    for stranger in ("f" * 40, "HEAD:a.yaml", "--batch", "x\ny"):
        with pytest.raises(SourceUnreachable):
            source.read([stranger])


def test_a_cache_that_cannot_be_written_is_said(repository, tmp_path):
    repository.commit({"a.yaml": "1"})
    (tmp_path / "file").touch()

    with pytest.raises(SourceUnreachable, match="cache folder"):
        source_of(repository, tmp_path / "file").fetch()


def test_objects_that_fsck_refuses_are_refused_once_and_not_downloaded_every_poll(
    repository, cache
):
    repository.commit({"a.yaml": "1"})
    source = source_of(repository, cache)
    before = source.fetch()
    tree = repository.git("rev-parse", "main^{tree}")
    broken = f"tree {tree}\nauthor Ann <ann@example.com> 1 +0000\ncommitter broken\n\nm\n"
    commit = repository.git(
        "hash-object", "-t", "commit", "-w", "--stdin", "--literally", given=broken.encode()
    )
    repository.git("update-ref", "refs/heads/main", commit)

    for _ in range(2):
        with pytest.raises(SourceRefused, match="cannot be taken"):
            source.fetch()

    assert source.last() == before


def test_the_environment_of_the_agent_does_not_reach_git(repository, cache, monkeypatch):
    repository.commit({"a.yaml": DAEMONSET})
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_EXEC_PATH"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare'='false'")
    monkeypatch.setenv("GIT_SSH_COMMAND", "touch /tmp/owned")

    assert paths(source_of(repository, cache).fetch()) == ["a.yaml"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a repository to another user")
@pytest.mark.parametrize("bare", [True, False])
def test_a_mounted_repository_of_another_user_is_read(tmp_path, cache, bare):
    folder = tmp_path / "agents"
    folder.mkdir()
    repository = Repository.create(folder if bare else folder / ".git")
    repository.commit({"a.yaml": DAEMONSET})
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)

    assert paths(source_of(str(folder), cache).fetch()) == ["a.yaml"]


def test_hooks_and_configuration_left_in_the_cache_do_not_run(repository, cache, tmp_path):
    repository.commit({"a.yaml": "1"})
    source_of(repository, cache).fetch()
    (mirror,) = cache.glob("*/mirror.git")
    hook = mirror / "hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
    hook.chmod(0o755)
    repository.commit({"a.yaml": "2"})

    source_of(repository, cache).fetch()

    assert not (tmp_path / "owned").exists()


def test_mirrors_of_sources_that_are_followed_no_more_are_removed(repository, cache):
    repository.commit({"a.yaml": "1"})
    repository.commit({"a.yaml": "1"}, branch="next", parent=None)
    old, kept = source_of(repository, cache), source_of(repository, cache, ref=("branch", "next"))
    old.fetch(), kept.fetch()
    (cache / "somebody-elses").mkdir()

    removed = forget_others(cache, [kept])

    assert removed == (old.folder.name,)
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [kept.folder.name, "somebody-elses"]
    )
    assert kept.fetch()


# ---------------------------------------------------------------------------- signatures


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_only_commits_signed_by_an_allowed_key_are_used(repository, cache, tmp_path):
    for name in ("ann", "eve"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", tmp_path / name],
            check=True,
        )
    signers = tmp_path / "signers"
    signers.write_text(f'ann@example.com namespaces="git" {(tmp_path / "ann.pub").read_text()}')
    source = source_of(repository, cache, allowed_signers=signers)

    def sign(text: str, key: str) -> str:
        tree = repository.git(
            "rev-parse", repository.commit({"a.yaml": text}, branch="scratch") + "^{tree}"
        )
        signed = repository.git(
            "-c", "gpg.format=ssh", "-c", f"user.signingKey={tmp_path / key}", "commit-tree", "-S", tree, given=b"m"
        )  # fmt: skip
        repository.git("update-ref", "refs/heads/main", signed)
        return signed

    good = sign("1", "ann")
    assert source.fetch().commit == good
    sign("2", "eve")
    with pytest.raises(SourceRefused, match="not signed"):
        source.fetch()
    repository.commit({"a.yaml": "3"})
    with pytest.raises(SourceRefused, match="not signed"):
        source.fetch()
    assert source.last().commit == good


def test_no_process_is_left_behind(repository, cache):
    repository.commit({"a.yaml": "1"})
    source_of(repository, cache).fetch()

    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
