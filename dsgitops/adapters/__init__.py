"""Everything that talks to the world: Git, the API server, Sentry, the clock, the scheduler.

Adapters carry out and report; they never decide.
"""
