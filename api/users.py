"""Accounts and profiles."""

from functools import partial
from typing import Annotated, Final, Literal
from uuid import UUID
from zoneinfo import available_timezones

from fastapi import APIRouter, Depends, Response
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from api.codec import Name, answer, body_of, no_content
from api.dependencies import AskingClient, CurrentUser, Reads, ServicesDep, reads
from api.front.request import Request
from api.idempotency import json_reply
from api.once import Once, once
from api.openapi import answers, json_body
from api.pages import Ids, ids_of
from api.services import Services
from api.sessions import Email, Password, Signed, signed
from domain.accounts import address_of
from domain.errors import DomainError
from domain.measures import UserId, Visibility, derived_id
from domain.streams import Replied
from domain.streams import Request as StreamRequest
from domain.user import User, UserMissing, user_stream_id
from projections.people import Person, followed_among, follows, people

router = APIRouter(tags=["users"])

_TIME_ZONES: Final = available_timezones() - {"Factory", "localtime"}  # the server's own, and none at all


class Registration(Struct, frozen=True, forbid_unknown_fields=True):
    """A new account."""

    email: Email
    password: Password
    display_name: Name
    user_id: UUID | None = None  # chosen by the app, so that a lost answer can be asked for again


class Me(Struct, frozen=True, kw_only=True):
    """One's own profile."""

    user_id: UserId
    email: str | None
    display_name: str
    time_zone: str | None
    units: str
    default_visibility: Visibility


class ProfilePatch(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change; what is left out stays."""

    display_name: Name | UnsetType = UNSET
    time_zone: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET
    units: Literal["metric", "imperial"] | UnsetType = UNSET
    default_visibility: Visibility | UnsetType = UNSET


class Runner(Struct, frozen=True, kw_only=True):
    """Somebody's profile, as seen by the one who asks."""

    user_id: UserId
    display_name: str
    followers: int
    following: int
    followed_by_me: bool


class TimeZoneUnknown(DomainError):
    """The server knows no such time zone: send an IANA name such as Europe/Berlin, or null for none."""

    code = "time-zone-unknown"


class Runners(Struct, frozen=True):
    """Profiles that were asked for by their ids."""

    items: list[Runner]


@router.post(
    "/users",
    status_code=201,
    openapi_extra=json_body(Registration),
    responses=answers(400, 409, 415, 422, created=Signed),
)
async def register(
    registration: Annotated[Registration, Depends(body_of(Registration))],
    services: ServicesDep,
    client: AskingClient,
    once: Annotated[Once, Depends(once("POST /v1/users"))],
) -> Response:
    """Open an account and sign in.

    Safe to repeat. With the same `Idempotency-Key` the answer is the same, byte for byte, for 30 days; with the same
    `user_id`, each answer signs in anew. 409 `email-taken` when the address is another account's,
    `user-id-taken` when the id is.
    """
    address, user_id = address_of(registration.email), registration.user_id
    if once.key is not None:  # the same key with the same address is the same account, also years later
        user_id = user_id or registered_id(address, once.key)
    return await once.act(address, registration, partial(_opened, registration, services, user_id, client.label))


def registered_id(address: str, key: str) -> UUID:
    """Of an account that is opened with an idempotency key and without an id."""
    return derived_id("registration", address, key)


async def _opened(
    registration: Registration, services: Services, user_id: UUID | None, label: str, request: StreamRequest | None
) -> Replied:
    await services.admission.guess(registration.email, label)  # who knows the password of an account is signed in to it
    claimed = UserId(user_id) if user_id else None
    holder = await services.accounts.claim(registration.email, registration.password, claimed)
    session = await services.accounts.sign_in(holder)
    begin = partial(User.register, display_name=registration.display_name, at=services.clock())
    stream, reply = user_stream_id(holder), json_reply(signed(session, services), {"Location": f"/v1/users/{holder}"})
    if request is None:
        return Replied(reply, await services.streams.transact(User, stream, holder, begin), again=False)
    replied = await services.streams.transact_once(User, stream, holder, begin, request, reply)
    if replied.again:  # another process was faster, and its session is the one that is told of
        await services.accounts.sign_out(session.session_id)
    return replied


@router.get("/me", responses=answers(401, ok=Me))
async def get_me(request: Request, user_id: CurrentUser, services: ServicesDep) -> Response:
    """One's own profile, from the account itself: never behind."""
    fresh = Reads(services.read_models.reader(user_id), {}, ("people",))
    async with fresh.view():  # nobody else may have looked how far the read models are
        keep = fresh.keep(user_id)  # before the profile is read
    return answer(request, await read_me(services, user_id), keep=keep)


async def read_me(services: Services, user_id: UserId) -> Me:
    """The profile as it is now."""
    profile = (await services.streams.load(User, user_stream_id(user_id))).profile
    return Me(user_id=user_id, email=await services.accounts.email(user_id), **asdict(profile))


@router.patch(
    "/me", status_code=204, openapi_extra=json_body(ProfilePatch), responses=answers(401, 422, no_content=None)
)
async def edit_me(
    user_id: CurrentUser, patch: Annotated[ProfilePatch, Depends(body_of(ProfilePatch))], services: ServicesDep
) -> Response:
    """Change the profile. A change of time zone counts for later runs."""
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    if changes.get("time_zone") is not None and changes["time_zone"] not in _TIME_ZONES:
        raise TimeZoneUnknown
    now = services.clock()
    position = await services.streams.transact(
        User, user_stream_id(user_id), user_id, lambda user: user.change_profile(replace(user.profile, **changes), now)
    )
    return no_content(position)


@router.get("/users", responses=answers(401, 422, ok=Runners))
async def runners(
    request: Request, user_id: CurrentUser, fresh: Annotated[Reads, Depends(reads("people"))], ids: Ids
) -> Response:
    """Several public profiles, in the order of their ids; those that there are not are left out."""
    wanted = [UserId(one) for one in ids_of(ids)]
    async with fresh.view() as view:
        known = await people(view, wanted)
        followed = await followed_among(view, user_id, wanted)
    found = [known[one] for one in wanted if one in known]
    seen = [runner_seen(person, followed_by_me=person.user_id in followed) for person in found]
    return answer(request, Runners(seen), fresh.headers, fresh.keep(user_id, *wanted))


@router.get("/users/{runner_id}", responses=answers(401, 404, ok=Runner))
async def get_user(
    request: Request,
    runner_id: UUID,
    user_id: CurrentUser,
    fresh: Annotated[Reads, Depends(reads("people"))],
) -> Response:
    """Somebody's public profile."""
    async with fresh.view() as view:
        person = (await people(view, [UserId(runner_id)])).get(UserId(runner_id))
        if person is None:
            raise UserMissing
        followed = await follows(view, user_id, person.user_id)
    keep = fresh.keep(user_id, person.user_id)
    return answer(request, runner_seen(person, followed_by_me=followed), fresh.headers, keep)


def runner_seen(person: Person, *, followed_by_me: bool) -> Runner:
    """The profile as others see it."""
    return Runner(
        user_id=person.user_id,
        display_name=person.display_name,
        followers=person.followers,
        following=person.following,
        followed_by_me=followed_by_me,
    )
