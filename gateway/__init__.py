"""The one endpoint: wire formats, pipeline, zones, tenants, console and CLI."""
