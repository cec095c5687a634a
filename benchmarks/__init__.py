"""Ratios against a peer, both sides measured by turns in one run on one machine: `python -m benchmarks`."""
