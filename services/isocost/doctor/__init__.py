"""Checks of a machine: what works, what does not, and what to do about it. Nothing is changed.

`diagnosis.diagnose` is the way in. What is heavy is imported by the check that needs it, in a process of its own.
"""
