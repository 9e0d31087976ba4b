"""Runs on a closed model, through a server that speaks the OpenAI fine-tuning API.

`executor.FineTuningExecutor` is the way in. Nothing here needs a GPU, a tokenizer, or the model's weights.
"""
