"""The economics of labelling, pure and without I/O: intervals, regimes, the frontier and the policy.

Amounts are whole micros of one currency; accuracies lie between 0 and 1.
"""
