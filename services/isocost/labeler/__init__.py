"""The labeler service: weak labels and few-shot predictions from a vLLM server or an in-process model."""
