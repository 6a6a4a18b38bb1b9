"""36 to 48: values of the domain. What a device may have recorded is taken and flagged; what an app says is refused."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from tests.api.bad_inputs.place import Bad, Place, Send, bad, call, day, goal, hand_in, recording, sends_json
from tests.api.bad_inputs.shape import INVALID
from tests.api.wire import Answer
from tests.infra.formats.test_gpx import gpx, track

UNREADABLE, PARAMETER = "422 recording-unreadable", "422 invalid-parameter"
NORTH = [round(52.5 + 2.7e-5 * second, 7) for second in range(60)]


def made_gpx(number: int, *points: tuple[float, float, float]) -> bytes:
    """A GPX of (second, latitude, longitude)."""
    text = "".join(
        f'<trkpt lat="{lat}" lon="{lon}"><time>{(day(number) + timedelta(seconds=t)).isoformat()}</time></trkpt>'
        for t, lat, lon in points
    )
    return gpx(track(text))


def straight(number: int, *more: tuple[float, float, float]) -> bytes:
    """A minute to the north, and then some."""
    return made_gpx(number, *((t, lat, 13.4) for t, lat in enumerate(NORTH)), *more)


def measured(body: bytes, holds: Callable[[dict[str, float]], bool]) -> Send:
    """A recording that is fine, and an activity of which something holds."""

    async def send(place: Place) -> Answer:
        answer = await hand_in(body)(place)
        assert answer.status == 201, answer
        assert holds(json.loads(answer.body)), answer.body[:600]
        return answer

    return send


def _is_about(metres: float, found: dict[str, float]) -> bool:
    return abs(found["distance_m"] - metres) < 3


def _stands_still(found: dict[str, float]) -> bool:
    return found["distance_m"] == 0 and not found["avg_speed_mps"]


async def _rounded(place: Place) -> Answer:
    """1e-300 is 0, and no coordinate has more than seven decimals."""
    lat = [1e-300 if second == 30 else 1e-5 * second + 1.2345678901234567e-5 for second in range(60)]
    answer = await hand_in(recording(37, lat=lat))(place)
    assert answer.status == 201, answer
    track = await place.ask("GET", f"/activities/{json.loads(answer.body)['activity_id']}/track?columns=lat")
    kept = json.loads(track.body)["columns"]["lat"]
    assert kept == [round(value, 7) for value in lat]
    return track


def named(text: str) -> Send:
    """Anna takes a name."""
    return sends_json(json.dumps({"display_name": text}).encode())


def kept_as_it_is(text: str) -> Send:
    """A title that is odd but a title: it comes back as it was, and no picture or file breaks."""

    async def send(place: Place) -> Answer:
        path = f"/activities/{place.run}"
        answer = await place.ask(
            "PATCH", path, json.dumps({"title": text}).encode(), {"Content-Type": "application/json"}
        )
        assert answer.status == 204, answer
        after = {"Cairn-Min-Position": answer.headers["cairn-position"]}
        assert json.loads((await place.ask("GET", path, b"", after)).body)["title"] == text
        for made in ("map.svg", "export.gpx", "export.fit"):
            shown = await place.ask("GET", f"{path}/{made}")
            assert shown.status == 200
            assert b"<script" not in shown.body or made == "export.fit"
        return answer

    return send


AT_SEA = [179.9992 + 2.7e-5 * second for second in range(60)]
WRAPPED = [round(lon - 360 if lon > 180 else lon, 7) for lon in AT_SEA]
POLAR = [(90 - abs(30 - second) * 2.7e-5, 0.0 if second < 30 else 180.0) for second in range(60)]
MILLION = "[" + "0," * 1_000_000 + "0]"

ENTRIES: list[Bad] = [
    bad(36, "latitude 91", hand_in(recording(36, lat=[91.0] * 60)), "201 misplaced no-positions"),
    bad(36, "longitude 181", hand_in(recording(436, lon=[181.0] * 60)), "201 misplaced no-positions"),
    bad(36, "latitude 91 in a GPX", hand_in(straight(136, (60, 91, 13.4))), "201 misplaced"),
    bad(36, "0, 0 in a GPX", hand_in(straight(236, (60, 0, 0))), "201 no-fix"),
    bad(
        36,
        "latitude and longitude exchanged",
        hand_in(made_gpx(336, *((t, 113.4, lat) for t, lat in enumerate(NORTH)))),
        "201 misplaced no-positions",
    ),
    bad(37, "1e-300 and 17 digits", _rounded, "200"),
    bad(
        38,
        "across the antimeridian",
        measured(recording(38, lat=[0.0] * 60, lon=WRAPPED), partial(_is_about, 178)),
        "201",
    ),
    bad(
        38,
        "across the pole",
        measured(recording(138, lat=[lat for lat, _ in POLAR], lon=[lon for _, lon in POLAR]), partial(_is_about, 178)),
        "201",
    ),
    bad(
        39, "time going backwards", hand_in(straight(39, (30, 52.50162, 13.4), (31, 52.50164, 13.4))), "201 clock-jump"
    ),
    bad(39, "equal times", hand_in(straight(139, (59, 52.50161, 13.4), (59, 52.50162, 13.4))), "201"),
    bad(39, "a gap of three days", hand_in(straight(239, (259_200, 52.50162, 13.4))), "201 clock-jump"),
    bad(40, "1,000 km in a second", hand_in(straight(40, (60, 61.5, 13.4), (61, 52.5017, 13.4))), "201 teleport"),
    bad(
        40,
        "a run at 300 km/h",
        hand_in(recording(140, lat=[52.5 + 7.5e-4 * second for second in range(60)])),
        "201 too-fast",
    ),
    bad(41, "in the future", hand_in(recording(41, started_at="2190-05-01T07:00:00Z")), "201 clock-ahead"),
    bad(41, "before 1990", hand_in(recording(41, started_at="1989-05-01T07:00:00Z")), "201 clock-unset"),
    *(
        bad(42, f"a recording's time {text}", hand_in(recording(42, started_at=text)), UNREADABLE)
        for text in ("0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2500-01-01T00:00:00Z")
    ),
    bad(42, "milliseconds as a time", hand_in(recording(42, started_at=1_700_000_000_000)), UNREADABLE),
    bad(
        42,
        "milliseconds as seconds since the start",
        hand_in(recording(42, t=[1_700_000_000_000 + n for n in range(60)])),
        UNREADABLE,
    ),
    *(
        bad(42, f"a goal from {text}", goal(starts_on=text), INVALID)
        for text in ("0000-01-01", "10000-01-01", "2026-02-30", "2026-5-1", 20_000)
    ),
    bad(42, "a goal in no time", goal(starts_on="9999-12-31"), "422 goal-out-of-time"),
    *(
        bad(42, f"sums from {text}", call("GET", f"/me/summaries?from={text}"), PARAMETER)
        for text in ("0000-01-01", "10000-01-01", "2026-02-30", "0", "1700000000000", "2026-W01-1", "20260101", "")
    ),
    bad(43, "a time without a zone", hand_in(recording(43, started_at="2026-05-01T07:00:00")), UNREADABLE),
    bad(44, "no point", hand_in(recording(44, 0)), "422 recording-empty"),
    bad(44, "one point", measured(recording(144, 1), _stands_still), "201 no-times"),
    bad(
        44,
        "the same point 100,000 times",
        measured(recording(244, 100_000, lat=[52.5] * 100_000, t=[0] * 100_000), _stands_still),
        "201 no-times",
    ),
    bad(
        45,
        "over a million points",
        hand_in(f'{{"started_at": "2026-05-01T07:00:00Z", "points": {{"t": {MILLION}}}}}'.encode()),
        UNREADABLE,
    ),
    *(
        bad(46, f"heart rates of {bpm}", hand_in(recording(n, heart_rate_bpm=[120] * 50 + [bpm] * 10)), *expected)
        for n, bpm, *expected in (
            (46, -5, "201 out-of-range"),
            (146, 0, "201", "201 out-of-range"),
            (246, 65_535, "201 out-of-range"),
        )
    ),
    bad(46, "cadence 300", hand_in(recording(346, cadence_spm=[170] * 59 + [300])), "201", "201 out-of-range"),
    bad(
        46,
        "heights from -500 to 90,000",
        hand_in(recording(446, altitude_m=[-500.0] * 30 + [90_000.0] * 30)),
        "201 out-of-range",
    ),
    bad(47, "a name of 100,000 letters", named("a" * 60_000), INVALID),
    bad(
        47,
        "a title of 201 letters",
        sends_json(json.dumps({"title": "a" * 201}).encode(), "/activities/{run}"),
        INVALID,
    ),
    bad(47, "a title of 201 letters in a query", hand_in(recording(47), title="a" * 201), PARAMETER),
    *(
        bad(47, f"a name that shows nothing: {text!a}", named(text), INVALID)
        for text in ("", " ", "\u3000\t", "\u200b\u200d", "\u202e", "\u3164", "\u2800\ufeff", "\u00ad")
    ),
    bad(47, "a title that shows nothing", sends_json(rb'{"title": "\u200b \u202e"}', "/activities/{run}"), INVALID),
    bad(47, "a title that shows nothing in a query", hand_in(recording(47), title="\u200b \u202e"), PARAMETER),
    *(
        bad(47, f"a name with a line break: {text!a}", named(text), INVALID)
        for text in ("Anna\n", "\nAnna", "A\nB", "A\x1b[2J")
    ),
    bad(47, "zalgo without end", named("Z" + "\u0301" * 80), INVALID),
    *(
        bad(47, f"a title kept as it is: {text[:12]!a}", kept_as_it_is(text), "204")
        for text in (
            "<script>alert(1)</script>",
            "\u202etxet",
            "Z\u0301\u0302\u0303",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467",
            "a\x01\x1b\ufffeb",
            "'; DROP TABLE users; --",
            "{{7*7}} ${7*7} %s %n",
            "\uffff" + "\U0010ffff",
        )
    ),
    *(bad(48, f"a target of {text}", goal(target=text), INVALID) for text in ("10 km", "1,5", "1.5", "ten", "١٢", "")),
    *(
        bad(48, f"from {text}", call("GET", f"/activities/{{run}}/track?from={text}"), PARAMETER)
        for text in ("1,5", "10s", "1.5.0", "")
    ),
    *(
        bad(48, f"at most {text} points", call("GET", f"/activities/{{run}}/track?max_points={text}"), PARAMETER)
        for text in ("1,000", "1.5", "many", "1", "-2", "1e9", "")
    ),
    *(
        bad(48, f"{columns} as columns", call("GET", f"/activities/{{run}}/track?columns={columns}"), PARAMETER)
        for columns in ("t,pulse", "", ",", "t,t%00", "t," * 100)
    ),
    *(
        bad(48, f"a goal with {name} {value}", goal(**{name: value}), INVALID)
        for name, value in (
            ("metric", "steps"),
            ("period", "day"),
            ("sport", "chess"),
            ("target", 0),
            ("target", -1),
            ("target", 1e13),
        )
    ),
    bad(48, "a goal that ends first", goal(ends_on="2026-04-30"), "422 goal-ends-before-it-starts"),
    bad(48, "no time zone", sends_json(b'{"time_zone": "Europe/Atlantis"}'), "422 time-zone-unknown"),
    bad(48, "a file as a time zone", sends_json(b'{"time_zone": "../../etc/passwd"}'), "422 time-zone-unknown"),
]
