"""The app: routers, problems and one OpenAPI document over the services it is handed."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, Depends, FastAPI

from api import (
    activities,
    bootstrap,
    changes,
    chunks,
    client_config,
    entries,
    exports,
    feed,
    following,
    goals,
    health,
    metrics,
    notices,
    openapi,
    originals,
    pictures,
    problems,
    public,
    sessions,
    share,
    summaries,
    uploads,
    users,
)
from api.dependencies import unconditional
from api.front.front import Front
from api.services import Services


def create_app(
    services: Services, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
) -> Front:
    """An app without globals: tests make as many as they like."""
    app = FastAPI(
        title="Cairn",
        version="1",
        description="The open backend of a running-tracker app. Every write may be sent again, any number of times.",
        lifespan=lifespan,
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,  # a path with a slash too many names nothing
    )
    app.state.services = services
    contract = APIRouter(prefix="/v1", responses=openapi.answers(403), dependencies=[Depends(unconditional)])
    for resource in (
        users,
        sessions,
        uploads,
        chunks,
        entries,
        activities,
        pictures,
        exports,
        originals,
        feed,
        summaries,
        goals,
        following,
        notices,
        client_config,
        bootstrap,
        changes,
        public,
    ):
        contract.include_router(resource.router)
    app.include_router(contract)
    app.include_router(share.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    problems.install(app)
    openapi.install(app)
    return Front(app, services)
