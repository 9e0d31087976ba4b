"""What executes runs side by side: this process, others, or a Ray cluster."""
