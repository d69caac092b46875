"""Benchmarks of quiv-dist beside its peers, side by side in one run."""
