"""Sentry, or what speaks its protocol: alerts as events, and check-ins of the poll loop."""
