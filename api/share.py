"""The page behind a link to a run that somebody shares: HTML for everybody, without a script."""

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import Final
from uuid import UUID

from fastapi import APIRouter, Response

from api.dependencies import ServicesDep
from api.drawing.frame import FOOT_M, KILOMETRE_M, MILE_M
from api.front.request import Request
from api.public import PublicActivity, keys_of, published, seen
from api.publishing import Publication
from domain.measures import ON_FOOT, ActivityId
from domain.publishing import activity_key
from domain.texts import of_characters

router = APIRouter(tags=["public"])

_HTML: Final = "text/html; charset=utf-8"
_ROUTE: Final = "/activities/{activity_id}"
_MAP: Final = "/v1/public/activities/{activity_id}/map.svg?height={height}&width={width}"
_PREVIEW: Final = (1200, 630)  # messengers show 1.91:1
_SHOWN: Final = (600, 315)  # fills a phone: its labels are of the size of text there
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:0 auto;padding:1.5rem;color:#262b25}"
    "h1{margin:0;overflow-wrap:anywhere}img{width:100%;height:auto;border-radius:8px}"
    "dl{display:flex;flex-wrap:wrap;gap:.5rem 2rem}dt{color:#646d61}dd{margin:0;font-size:1.25rem}"
)
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; img-src 'self'; style-src 'sha256-{_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # a search engine's copy could not be taken back when the runner hides the run
    "X-Robots-Tag": "noindex",
}


@router.get("/activities/{activity_id}", response_class=Response, include_in_schema=False)
async def share_page(request: Request, activity_id: str, services: ServicesDep) -> Response:
    """A public activity as a page, with what messengers need for a preview. What is not public gets one 404, and so
    does what is no id: a link that was cut short.
    """
    try:
        known_id = ActivityId(UUID(activity_id))
    except ValueError:
        return Response(_NOTHING, 404, {**_HEADERS, "Cache-Control": "no-store"}, _HTML)
    publication = Publication(request, services, _ROUTE)
    found = await published(publication, known_id)
    if found is None:
        return publication.nothing(_NOTHING, _HTML, (activity_key(known_id),), _HEADERS)
    page = _page(seen(*found), services.public_url).encode()
    return publication.found(page, _HTML, keys_of(found[0]), _HEADERS)


def _page(activity: PublicActivity, public_url: str | None) -> str:
    figures = list(_figures(activity))
    told = " · ".join(f"{name} {value}" for name, value in figures)
    name = of_characters(activity.title) or activity.sport.capitalize()
    runner = of_characters(activity.display_name)
    title = escape(f"{name}: {runner}")
    absolute = _absolute(activity, public_url) if public_url else ""
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        '<meta property="og:type" content="article"><meta property="og:site_name" content="Cairn">'
        f'<meta property="og:title" content="{title}"><meta property="og:description" content="{escape(told)}">'
        f"{absolute}<style>{_STYLE}</style></head><body><main>"
        f"<h1><bdi>{escape(name)}</bdi></h1>"
        f"<p><bdi>{escape(runner)}</bdi>, {activity.local_date.day} {activity.local_date:%B %Y}</p>"
        f'<img src="{_map(activity, _SHOWN)}" width="{_SHOWN[0]}" height="{_SHOWN[1]}" alt="Map of the route">'
        f"<dl>{shown}</dl></main></body></html>"
    )


def _map(activity: PublicActivity, size: tuple[int, int]) -> str:
    return escape(_MAP.format(activity_id=activity.activity_id, width=size[0], height=size[1]))


def _absolute(activity: PublicActivity, public_url: str) -> str:
    """What must name the site: its address is a setting, for what a request says of it could be anybody's words."""
    base = escape(public_url)
    return (
        f'<meta property="og:url" content="{base}/activities/{activity.activity_id}">'
        f'<meta property="og:image" content="{base}{_map(activity, _PREVIEW)}">'
        '<meta property="og:image:type" content="image/svg+xml">'
        f'<meta property="og:image:width" content="{_PREVIEW[0]}">'
        f'<meta property="og:image:height" content="{_PREVIEW[1]}">'
    )


def _figures(activity: PublicActivity) -> Iterator[tuple[str, str]]:
    kilometres, miles = activity.distance_m / KILOMETRE_M, activity.distance_m / MILE_M
    if activity.distance_m > 0:
        yield "Distance", f"{kilometres:.2f} km ({miles:.2f} mi)"
    if activity.moving_s > 0:
        yield "Moving time", _clock(activity.moving_s)
    if activity.distance_m > 0 and activity.moving_s > 0:
        if activity.sport in ON_FOOT:
            yield "Pace", f"{_clock(activity.moving_s / kilometres)} /km ({_clock(activity.moving_s / miles)} /mi)"
        else:
            hours = activity.moving_s / 3600
            yield "Speed", f"{kilometres / hours:.1f} km/h ({miles / hours:.1f} mph)"
    if activity.elevation_gain_m > 0:
        yield "Climb", f"{activity.elevation_gain_m:.0f} m ({activity.elevation_gain_m / FOOT_M:.0f} ft)"


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


_NOTHING: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Nothing here</title>'
    f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body><main>'
    "<h1>Nothing here</h1><p>This activity is not public, or it is gone.</p></main></body></html>"
).encode()
