"""What the service costs, as ratios against a peer in the same run. See docs/benchmarks.md.

Each part is a module with an async `run(bench)` that prints one table. Nothing here is a test:
a slow machine changes the figures, not the exit code.
"""
