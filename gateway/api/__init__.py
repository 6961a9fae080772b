"""HTTP: a raw ASGI route for the hot endpoints, FastAPI for the rest."""
