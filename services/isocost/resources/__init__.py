"""The domain objects of `proto/isocost/v1/resources.proto`, validated, and their conversion from and to the wire.

Wire messages are converted here, at the edge, and go no further in.
"""
