"""Tasks on real models: datasets in, prompts of token ids out."""
