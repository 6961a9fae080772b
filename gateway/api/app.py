"""What is not hot, by FastAPI: models, health, and the listener for operators with metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as StarletteHTTPException

from gateway.api.inference import is_loopback, refusal_headers
from gateway.replies import retry_headers
from gateway.tenants import KeyDirectory
from runtime import telemetry
from runtime.errors import MethodNotAllowedError, NotFoundError, WatershedError
from runtime.ids import new_id

ListModels = Callable[[], Awaitable[list[dict[str, Any]]]]
Readiness = Callable[[], list[str]]


def error_response(error: WatershedError, policy_version: str) -> JSONResponse:
    body = {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    return JSONResponse(body, error.status, refusal_headers(policy_version) | retry_headers(error))


def _bare(title: str) -> FastAPI:
    # No OpenAPI pages: they load scripts from elsewhere, and any path not listed here is a 404.
    return FastAPI(title=title, openapi_url=None, docs_url=None, redoc_url=None)


def public_app(
    keys: KeyDirectory, list_models: ListModels, readiness: Readiness, policy_version: Callable[[], str]
) -> FastAPI:
    """``/v1/models``, ``/healthz`` and ``/readyz``; any other path is 404 in OpenAI's shape."""
    app = _bare("Watershed")
    add_health(app, readiness)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        await keys.authenticate(request.headers.get("authorization"), loopback=is_loopback(request.scope))
        headers = refusal_headers(policy_version()) | {
            "x-request-id": new_id("req"),
            "x-watershed-route": "onprem",
            "x-watershed-sensitivity": "public",
            "x-watershed-target": "gateway",
        }
        return JSONResponse({"object": "list", "data": await list_models()}, headers=headers)

    @app.exception_handler(WatershedError)
    async def _ours(_: Request, error: WatershedError) -> Response:
        return error_response(error, policy_version())

    @app.exception_handler(StarletteHTTPException)
    async def _theirs(_: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            return error_response(MethodNotAllowedError("this path does not take that method"), policy_version())
        return error_response(NotFoundError("there is no such path here", code="unknown_path"), policy_version())

    return app


def admin_app(readiness: Readiness) -> FastAPI:
    """The operators' listener: ``/metrics`` in Prometheus' text format, and health."""
    app = _bare("Watershed operators")
    add_health(app, readiness)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(telemetry.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return app


def add_health(app: FastAPI, readiness: Readiness) -> None:
    """``/healthz``: the process runs. ``/readyz``: it may take traffic; 503 says what is missing."""

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        missing = readiness()
        return JSONResponse(
            {"status": "ready" if not missing else "not ready", "missing": missing}, 503 if missing else 200
        )
