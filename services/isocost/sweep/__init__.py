"""A whole grid of training runs as one command: methods x budgets x weak fractions x weak prices x seeds x tasks."""
