"""Benchmarks, scoring through lm-eval, and bits per byte."""
