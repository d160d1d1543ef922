"""Switches off the usage reports of the libraries that Folioscope is built on, in one place.

Several of them report to their makers unless an environment variable says no; docs/privacy.md lists what each does.
onnxruntime starts its reporter while it is being imported, so the variable must be set before that. Python runs a
package's `__init__` before any of its modules: that is why every top-level package calls `switch_off_reports` there.
This is the one exception to the rule that an import does nothing else. Processes that Folioscope starts inherit the
variables.
"""

import os
import sys
import warnings
from collections.abc import Container, MutableMapping

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime, from 1.29 on
    "GRADIO_ANALYTICS_ENABLED": "False",  # also its check for a newer version
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, hf_xet, transformers
    "DO_NOT_TRACK": "1",  # the convention of https://donottrack.sh, for whatever else follows it
    "RAY_USAGE_STATS_ENABLED": "0",  # where ray is installed
}
"""Environment variables, and the value that switches the reports off."""

READ_AT_IMPORT = {"ORT_DISABLE_TELEMETRY": "onnxruntime", "HF_HUB_DISABLE_TELEMETRY": "huggingface_hub"}
"""Variables that are read once, while this library is being imported."""


def switch_off_reports(
    environment: MutableMapping[str, str] = os.environ, imported: Container[str] = sys.modules
) -> None:
    """Set each of SWITCHES in `environment` that is unset or empty; a value that the user has set stays.

    Warns about a library among `imported` that has already read its variable: it may have begun to report.
    """
    unset = [name for name in SWITCHES if not environment.get(name)]
    environment.update({name: SWITCHES[name] for name in unset})
    late = [name for name in unset if READ_AT_IMPORT.get(name) in imported]
    for name in late:
        warnings.warn(
            f"{READ_AT_IMPORT[name]} was imported before Folioscope, and {name} was not set: it may report to its "
            f"makers. Set {name}={SWITCHES[name]} in the environment, or import Folioscope's packages first",
            stacklevel=3,
        )
