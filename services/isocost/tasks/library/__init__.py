"""Benchmarks by name: a short YAML file each says how its rows become items with gold answers."""
