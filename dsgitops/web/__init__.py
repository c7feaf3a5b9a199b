"""The agent's own HTTP server: health and metrics, on one port.

It shares nothing with the agent's turns but values that are read: no client can hold a turn up.
"""

from dsgitops.web.pages import serve

__all__ = ["serve"]
