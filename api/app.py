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
    document,
    entries,
    exports,
    feed,
    following,
    goals,
    health,
    metrics,
    notices,
    openapi_file,
    originals,
    pictures,
    problems,
    public,
    sessions,
    share,
    summaries,
    summaries_v1,
    tracks,
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
    return Front(declared(services, lifespan), services)


def declared(
    services: Services, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
) -> FastAPI:
    """Every route, as it is documented."""
    app = FastAPI(
        title="Cairn",
        version="1",
        description="The open backend of a running-tracker app. Every write may be sent again, any number of times.",
        lifespan=lifespan,
        docs_url="/docs",
        redoc_url=None,
        generate_unique_id_function=document.operation_id,
        redirect_slashes=False,  # a path with a slash too many names nothing
    )
    app.state.services = services
    contract = APIRouter(prefix="/v1", dependencies=[Depends(unconditional)])
    for resource in (
        users,
        sessions,
        uploads,
        chunks,
        entries,
        activities,
        tracks,
        pictures,
        exports,
        originals,
        feed,
        summaries_v1,
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
    app.include_router(summaries.router, prefix="/v2", dependencies=[Depends(unconditional)])
    app.include_router(share.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(openapi_file.router)
    problems.install(app)
    document.install(app)
    return app
