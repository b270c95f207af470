"""Fine-tuning: which part of a backbone learns, what it learns from, how, and which of its weights become zeros."""
