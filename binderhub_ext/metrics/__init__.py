"""Every Prometheus metric, one module for each process that exposes it."""
