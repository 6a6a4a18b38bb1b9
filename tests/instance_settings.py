"""Settings of a test's own instance, with keys that every test knows."""

from pathlib import Path

from infra.admission_settings import RATES, AdmissionSettings
from infra.settings import Settings, TokenKey
from tests.stores import marked

MASTER_KEY = b"m" * 32

# all limits are at work, but no test meets them that does not mean to: tests ask from one address, as fast as they can
ROOMY = AdmissionSettings(rates=dict.fromkeys(RATES, (100_000, 60)), least=10_000, most=10_000)


def settings_of(folder: Path, database_url: str, redis_url: str, objects: str = "") -> Settings:
    """On these servers, with objects in the folder, or in one below it, as a store that has begun."""
    return Settings(
        data=folder,
        database_url=database_url,
        redis_url=redis_url,
        object_store_url=marked(folder / objects).as_uri(),
        master_keys=(MASTER_KEY,),
        token_keys=(TokenKey("k", b"t" * 32),),
        cursor_key=b"c" * 32,
        log_level="WARNING",
        admission=ROOMY,
    )
