"""JupyterHub's REST API: the client, a server's start, clean-up. Runs in the service."""
