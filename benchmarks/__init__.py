"""Comparisons of all variants from one command."""
