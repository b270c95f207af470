"""Helps to choose the best architecture for a phone: rewards, fronts, sweeps through DVC, and a search."""
