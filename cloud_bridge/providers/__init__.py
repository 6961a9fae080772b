"""Providers: where a recipient's API is and how it wants to be greeted. URL, credentials and headers, nothing else."""

from cloud_bridge.providers.base import Provider, open_provider

__all__ = ["Provider", "open_provider"]
