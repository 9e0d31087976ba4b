"""Base models and classifiers on them: what they read, what they answer."""
