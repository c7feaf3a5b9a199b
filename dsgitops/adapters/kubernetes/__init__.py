"""The real Kubernetes API, and anything that speaks as it does.

What belongs here: HTTP, watches, JSON.  Nothing here decides.
"""
