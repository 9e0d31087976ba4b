"""The trainer service: trains the strong model on nested subsets of labels, each stage once, and measures it.

`service.TrainerService` is the way in. Nothing here imports torch before the first run does.
"""
