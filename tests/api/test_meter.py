from prometheus_client import CollectorRegistry

from api.front.meter import Meters


def test_answers_are_counted_by_how_long_they_took() -> None:
    meters, registry = Meters(), CollectorRegistry()
    meter = meters.of("GET", "/v1/me")
    for seconds in (0.005, 0.006, 20.0):
        meter.answered(200, "ios/1", seconds)
    registry.register(meters)

    def told(what: str, **labels: str) -> float | None:
        name = f"http_server_request_duration_seconds_{what}"
        return registry.get_sample_value(name, {"method": "GET", "route": "/v1/me", **labels})

    counts = {bound: told("bucket", le=bound) for bound in ("0.005", "0.01", "10.0", "+Inf")}
    assert counts == {"0.005": 1, "0.01": 2, "10.0": 2, "+Inf": 3}  # a bound is within; each counts those before too
    assert (told("count"), told("sum")) == (3, 0.005 + 0.006 + 20.0)


def test_answers_of_a_route_that_will_go_are_counted_by_app_whatever_they_were() -> None:
    meters, registry = Meters(), CollectorRegistry()
    meter = meters.of("GET", "/v1/me")
    meter.deprecated = True
    for status in (200, 404):
        meter.answered(status, "ios/1", 0.01)
    registry.register(meters)
    labels = {"method": "GET", "route": "/v1/me", "client": "ios/1"}
    assert registry.get_sample_value("cairn_deprecated_requests_total", labels) == 2
