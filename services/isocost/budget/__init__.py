"""The budget service: campaigns, items, sources, orders, the ledger, labels, observations and plans.

The only place that can spend money. Every mutation is one database transaction; money changes in `ledger` alone.
"""
