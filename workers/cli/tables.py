"""How figures are written for people."""


def distance(metres: float) -> str:
    """Kilometres, to the metre's hundred."""
    return f"{metres / 1000:.2f} km"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as watches show them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pace(metres: float, seconds: float) -> str:
    """Minutes and seconds a kilometre; nothing for no way."""
    return f"{duration(seconds / metres * 1000)}/km" if metres > 0 and seconds > 0 else ""
