"""Commit status: each commit's rollout told beside the commit, on GitHub, GitLab and Gitea."""

from dsgitops.adapters.forge.dialects import Repository, fault
from dsgitops.adapters.forge.statuses import Statuses

__all__ = ["Repository", "Statuses", "fault"]
