"""Tornado handlers: parse the request, subscribe to a launch, write. And the page."""
