"""Switches off the usage reports of the libraries that Folioscope is built on.

Several libraries report to their makers unless an environment variable forbids it; docs/privacy.md lists them all.
onnxruntime starts its reporter while it is imported, so the variable must be set before that. Every top-level package
calls `switch_off_reports` in its `__init__`, because Python runs that before any of the package's modules. This is the
one exception to the rule that an import has no side effects. Processes that Folioscope starts inherit the variables.
"""

import os
import sys
import warnings
from collections.abc import Container, MutableMapping

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime, from 1.29 on
    "GRADIO_ANALYTICS_ENABLED": "False",  # also its check for a newer version
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, hf_xet, transformers
    "DO_NOT_TRACK": "1",  # the convention of https://donottrack.sh, which other libraries may follow
    "RAY_USAGE_STATS_ENABLED": "0",  # if ray is installed
}
"""Environment variables, with the values that switch the reports off."""

READ_AT_IMPORT = {"ORT_DISABLE_TELEMETRY": "onnxruntime", "HF_HUB_DISABLE_TELEMETRY": "huggingface_hub"}
"""Variables that a library reads only while it is imported, with the name of that library."""


def switch_off_reports(
    environment: MutableMapping[str, str] = os.environ, imported: Container[str] = sys.modules
) -> None:
    """Set each of SWITCHES that is unset or empty in `environment`. Values that the user has set are left unchanged.

    Warns about a library in `imported` that read its variable before it was set: it may have begun to report.
    """
    unset = [name for name in SWITCHES if not environment.get(name)]
    environment.update({name: SWITCHES[name] for name in unset})
    late = [name for name in unset if READ_AT_IMPORT.get(name) in imported]
    for name in late:
        warnings.warn(
            f"{READ_AT_IMPORT[name]} was imported before Folioscope while {name} was not set, so it may report to "
            f"its makers. Set {name}={SWITCHES[name]} in the environment, or import Folioscope's packages first",
            stacklevel=3,
        )
