"""dsgitops keeps the DaemonSets of a cluster as Git has them."""

__version__ = "0.1.0"
