"""Watershed beside other gateways, in one run on one core each: ``python -m benchmarks.gateway``."""
