"""What a poll costs: 1,000 manifests in a repository on disk, beside bare git in the same run.

Run: python bench/git_poll.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from git_repositories import Repository, source_of  # noqa: E402 - found by the path above

FILES = 1000
ROUNDS = 20


def median_ms(run, before=lambda: None) -> float:
    """Return the median of `ROUNDS` runs, in ms; `before` is not counted."""
    took = []
    for _ in range(ROUNDS):
        before()
        started = time.perf_counter()
        run()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


def main() -> None:
    """Print one line per figure."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Repository.create(Path(folder) / "agents.git")
        manifest = "apiVersion: apps/v1\nkind: DaemonSet\n" + "# a line of a manifest\n" * 60
        files = {f"prod/f{n}.yaml": f"{manifest}# {n}\n" for n in range(FILES)}
        repository.commit(files)
        source = source_of(repository, Path(folder) / "cache", path="prod")
        started = time.perf_counter()
        tree = source.fetch()
        first = (time.perf_counter() - started) * 1000
        lines = repository.git("ls-tree", "-r", "main").splitlines()
        index = str(repository.path / "test-index")

        def change() -> None:
            blob = repository.blob(manifest + os.urandom(8).hex())
            repository.git(
                "update-index", "-z", "--index-info",
                given=f"100644 {blob}\tprod/f7.yaml\0".encode(), GIT_INDEX_FILE=index,
            )  # fmt: skip
            repository.commit_tree(repository.git("write-tree", GIT_INDEX_FILE=index))

        unchanged = median_ms(source.fetch)
        changed = median_ms(source.fetch, before=change)
        ids = [file.blob for file in source.fetch().files]
        read = median_ms(lambda: source.read(ids))
        (mirror,) = Path(folder).glob("cache/*/mirror.git")
        ref = "+refs/heads/main:refs/dsgitops/incoming"
        fetch = [
            "git",
            "--git-dir",
            str(mirror),
            "fetch",
            "-q",
            "--no-tags",
            f"file://{repository.path}",
            ref,
        ]
        bare = median_ms(lambda: subprocess.run(fetch, check=True, capture_output=True))
        size = sum(path.stat().st_size for path in mirror.rglob("*") if path.is_file())
    assert len(lines) == len(tree.files) == FILES
    print(f"first fetch            {first:8.1f} ms  (GitPython's import included)")
    print(f"unchanged poll         {unchanged:8.1f} ms  bare `git fetch`: {bare:.1f} ms")
    print(f"poll with one change   {changed:8.1f} ms  of {FILES} files")
    print(f"reading {FILES} blobs     {read:8.1f} ms")
    print(f"mirror                 {size / 1024:8.0f} KiB")


if __name__ == "__main__":
    main()
