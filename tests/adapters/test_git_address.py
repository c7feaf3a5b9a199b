"""What may stand in a source's url, ref and path (bad-input corpus G 1-8, 10, 16)."""

from __future__ import annotations

import pytest

from dsgitops.adapters.git import address, revision
from dsgitops.adapters.git.address import Address, Fault
from dsgitops.adapters.git.revision import Revision


@pytest.mark.parametrize(
    ("text", "scheme", "host"),
    [
        ("https://git.example.com/platform/agents.git", "https", "git.example.com"),
        ("https://git.example.com:8443/a", "https", "git.example.com"),
        ("https://10.0.0.7/agents.git", "https", "10.0.0.7"),
        ("https://[2001:db8::7]/agents.git", "https", "2001:db8::7"),
        ("ssh://git@git.example.com:2222/agents.git", "ssh", "git.example.com"),
        ("git@git.example.com:platform/agents.git", "ssh", "git.example.com"),
        ("http://localhost:3000/agents.git", "http", "localhost"),
        ("git://127.0.0.1:9418/agents.git", "git", "127.0.0.1"),
        ("file:///srv/git/agents.git", "file", ""),
        ("/srv/git/agents.git", "file", ""),
    ],
)
def test_addresses_that_people_use_are_taken(text, scheme, host):
    parsed = address.parse(text)

    assert isinstance(parsed, Address)
    assert (parsed.scheme, parsed.host) == (scheme, host)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ext::sh -c id",
        "ext::sh",
        "fd::17/agents",
        "-u./payload",
        "--upload-pack=id",
        "ssh://-oProxyCommand=id/agents",
        "ssh://-o@host/agents",
        "-oProxyCommand=id:agents",
        "git@host:-x",
        "https://host/a\nb",
        "https://host/a\rb",
        "https://host/a\0b",
        "https://host/a%0ab",
        "https://host/a%0Db",
        "https://host/a%00b",
        "https://host/a b",
        "https://user:hunter2@host/a",
        "https://token@host/a",
        "ssh://git:hunter2@host/a",
        "https://host/a?token=hunter2",
        "https://host/a#hunter2",
        "agents.git",
        "../agents.git",
        "./agents.git",
        "file://agents.git",
        "file://host/agents.git",
        "file:///srv/../etc/agents.git",
        "/srv/./agents",
        "//host/agents",
        "https://169.254.169.254/latest",
        "https://[fe80::1]/a",
        "https://[fd00:ec2::254]/a",
        "https://[::ffff:169.254.169.254]/a",
        "https://2852039166/a",
        "https://0xa9fea9fe/a",
        "https://169.254.43518/a",
        "https://0.0.0.0/a",
        "http://git.example.com/a",
        "http://10.0.0.7/a",
        "git://git.example.com/a",
        "ftp://host/a",
        "HTTPS://host/a",
        "https:///a",
        "https://host:0/a",
        "https://host:99999/a",
        "https://ho_st-/a",
        "https://a..b/a",
        "https://" + "a" * 3000,
    ],
)
def test_an_address_that_could_do_more_than_name_a_repository_is_refused(text):
    fault = address.parse(text)

    assert isinstance(fault, Fault)
    assert "hunter2" not in fault.what + fault.remedy


@pytest.mark.parametrize("name", ["main", "release/1.2", "fix-#42", "v1.0", "émile", "a@b"])
def test_branch_names_that_git_allows_are_taken(name):
    assert revision.parse("branch", name) == Revision("branch", name)


@pytest.mark.parametrize(
    "name",
    ["", "--output=x", "-b", "a..b", "refs/heads/x", "@{-1}", "@", "a b", "a\nb", "a~1", "a^", "a:b",
     "a?", "a*", "a[", "a\\b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a/b.lock", "a.", "x" * 300],
)  # fmt: skip
def test_a_branch_that_could_be_an_option_or_an_expression_is_refused(name):
    assert isinstance(revision.parse("branch", name), Fault)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("a" * 40, True),
        ("a" * 64, True),
        ("a" * 39, False),
        ("A" * 40, False),
        ("HEAD", False),
        ("", False),
    ],
)
def test_a_commit_is_a_full_hash(value, good):
    assert isinstance(revision.parse("commit", value), Revision) is good


@pytest.mark.parametrize("path", ["", ".", "clusters/prod", "clusters/prod/", "a b/ü"])
def test_paths_inside_the_repository_are_taken(path):
    assert revision.path_fault(path) is None


@pytest.mark.parametrize(
    "path", ["../..", "/etc", "a/../b", "a//b", ".git/hooks", "a/.GIT", "a\nb", "a\\b", "a:b"]
)
def test_a_path_that_leaves_the_repository_is_refused(path):
    assert revision.path_fault(path) is not None


TAGS = [
    "v1.0.0",
    "v1.2.0",
    "1.2.9",
    "v1.10.0",
    "v2.0.0-rc.1",
    "v2.0.0-rc.11",
    "v2.0.0-rc.2",
    "v0.3.1",
    "v0.4.0",
    "latest",
    "v1",
    "v01.2.3",
]


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [
        ("1.x", "v1.10.0"),
        ("^1.2", "v1.10.0"),
        ("~1.2", "1.2.9"),
        ("~1.2.0", "1.2.9"),
        ("1.2.*", "1.2.9"),
        ("^0.3.0", "v0.3.1"),
        (">=1.0.0 <1.10.0", "1.2.9"),
        (">=1.0.0, <1.10.0", "1.2.9"),
        (">= 1.0.0", "v1.10.0"),
        (">1.2", "v1.10.0"),
        ("<=1.2", "1.2.9"),
        ("<=1.2.0", "v1.2.0"),
        ("1.2.0", "v1.2.0"),
        ("=1.2.0", "v1.2.0"),
        ("*", "v1.10.0"),
        (">=2.0.0-0", "v2.0.0-rc.11"),
        (">=2.0.0", None),
        ("^3", None),
    ],
)
def test_a_semver_range_chooses_the_highest_tag_in_it(wanted, tag):
    assert revision.range_fault(wanted) is None
    assert revision.highest(TAGS, wanted) == tag


@pytest.mark.parametrize("wanted", ["", "latest", "1.2.3.4", ">=", "a.b", "1..2", "--x"])
def test_a_range_that_cannot_be_read_is_refused(wanted):
    assert isinstance(revision.parse("semver", wanted), Fault)
