"""The number of cores is the smaller of the CPU affinity and the cgroup quota, rounded up."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from configs.cores import available_cores

V2 = {"proc/self/cgroup": "0::/\n"}
V1 = {"proc/self/cgroup": "3:memory:/docker/1f\n2:cpu,cpuacct:/docker/1f\n1:cpuset:/\n"}


def cores(root: Path, files: Mapping[str, str], affinity: int = 64) -> int:
    """The number of cores on a system with these files, for a process that may run on `affinity` cores."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
        return available_cores(root)


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("400000 100000\n", 4),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("100000 50000\n", 2),
        ("max 100000\n", 64),
        ("9000000 100000\n", 64),
    ],
)
def test_a_quota_of_cgroup_v2_limits_the_cores_and_is_rounded_up(
    tmp_path: Path, cpu_max: str, expected: int
) -> None:
    assert cores(tmp_path, V2 | {"sys/fs/cgroup/cpu.max": cpu_max}) == expected


@pytest.mark.parametrize(("quota", "expected"), [("250000\n", 3), ("-1\n", 64)])
@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct", "cpu/docker/1f"])
def test_a_quota_of_cgroup_v1_limits_the_cores(
    tmp_path: Path, folder: str, quota: str, expected: int
) -> None:
    files = {
        f"sys/fs/cgroup/{folder}/cpu.cfs_quota_us": quota,
        f"sys/fs/cgroup/{folder}/cpu.cfs_period_us": "100000\n",
    }
    assert cores(tmp_path, V1 | files) == expected


def test_the_smallest_quota_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/work.slice/folioscope.service\n",
        "sys/fs/cgroup/work.slice/folioscope.service/cpu.max": "max 100000\n",
        "sys/fs/cgroup/work.slice/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/other.slice/cpu.max": "100000 100000\n",
    }
    assert cores(tmp_path, files) == 3


def test_the_affinity_counts_where_it_is_smaller_than_the_quota(tmp_path: Path) -> None:
    assert cores(tmp_path, V2 | {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, affinity=2) == 2


@pytest.mark.parametrize("text", ["", "garbage\n", "0 0\n"])
def test_a_system_that_reports_no_quota_has_none(tmp_path: Path, text: str) -> None:
    assert cores(tmp_path / "bare", {}) == 64
    assert cores(tmp_path / "odd", V2 | {"sys/fs/cgroup/cpu.max": text}) == 64


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_a_process_bound_to_one_core_has_one_core() -> None:
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from configs.cores import available_cores; print(available_cores())"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert run.stdout == "1\n"
