"""The offline testbed: a made-up world, its texts, and two tiny language models pretrained on them.

The strong model has memorised the world's facts but was never shown the task's question; the weak model
answers the question but mostly judges whether a value is frequent. On all 2,840 pool items its zero-shot
answers are right for .99 of the true claims of frequent values and .95 of the false claims of rare ones, but
only for .24 of the true claims of rare values and .05 of the false claims of frequent ones: .755 in all.

Together they show in minutes on two cores what label quantity and label quality buy (Mallen & Belrose 2024,
arXiv 2410.13215).

    from isocost.microworld.carried import model_dir
    from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE, pool_frame, test_frame
"""

__all__ = [
    "carried",
    "claims",
    "corpus",
    "curriculum",
    "gauge",
    "muon",
    "pretrain",
    "tokenizer",
    "world",
]
