"""Benchmarks: each writes ``benchmarks/results/NAME.json`` and a chart beside it."""
