"""Label Studio as a channel of human labels: items out as tasks, annotations back as answers.

`sync.LabelStudioSync` is the way in. It keeps no state of its own: what it holds is read from the budget service
(orders, leases, labels) and from the project (tasks, which carry the ids of their item and leases), so it may be killed
anywhere.
"""
