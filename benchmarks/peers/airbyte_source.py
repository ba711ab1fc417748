"""Airbyte's CDK with the manifest beside this file: `airbyte_source.py read --config … …`.

The CDK's template for a declarative connector starts it in this way, without Docker.
"""

from __future__ import annotations

import sys
from pathlib import Path

from airbyte_cdk.entrypoint import AirbyteEntrypoint, launch
from airbyte_cdk.sources.declarative.yaml_declarative_source import YamlDeclarativeSource

MANIFEST = Path(__file__).with_name("airbyte_manifest.yaml")


def main(arguments: list[str]) -> None:
    """Run Airbyte's `read`, which has a configuration and a catalog."""
    source = YamlDeclarativeSource(
        path_to_yaml=str(MANIFEST),
        catalog=YamlDeclarativeSource.read_catalog(AirbyteEntrypoint.extract_catalog(arguments)),
        config=YamlDeclarativeSource.read_config(AirbyteEntrypoint.extract_config(arguments)),
    )
    launch(source, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
