"""What is measured: one module a system, each with the same few commands."""
