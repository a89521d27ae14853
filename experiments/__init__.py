"""Experiments with reversible recurrent networks, and the demo."""
