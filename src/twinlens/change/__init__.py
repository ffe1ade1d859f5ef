"""Reversible changes of a model's weights, and the price of each."""
