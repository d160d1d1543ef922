"""Counts the processor cores that this process may use, which in a container are often fewer than the machine has.

Two limits of Linux apply. A CPU affinity names the cores that a process may run on (sched_setaffinity(2); Docker's
`--cpuset-cpus`). A cgroup quota limits the processor time of a group of processes in each period (Docker's `--cpus`,
Kubernetes' `limits.cpu`): `cpu.max` in cgroup v2 (docs.kernel.org/admin-guide/cgroup-v2.html), `cpu.cfs_quota_us` and
`cpu.cfs_period_us` in v1 (docs.kernel.org/scheduler/sched-bwc.html). More threads than the quota allows do not run
faster: the kernel stops all of them until the next period.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath


@cache
def available_cores(root: Path = Path("/")) -> int:
    """Returns the number of cores that this process may use, at least 1: the smaller of affinity and cgroup quota.

    A quota of a fraction of a core counts as a whole one: 1.5 cores are 2. A limit that the system does not report
    does not count; macOS reports neither, and all of its cores are returned. `root` is the folder that holds `proc`
    and `sys`. The first answer is kept for the life of the process.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yields the quota in cores of each cgroup that limits this process: its own and those that contain it."""
    mount = root / "sys/fs/cgroup"
    for folder in _cgroups(root, mount):
        with suppress(OSError, ValueError, ZeroDivisionError):  # no file, or "max": this group has no quota
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota = (folder / "cpu.cfs_quota_us").read_text()
            if int(quota) > 0:  # -1 stands for no quota
                yield int(quota) / int((folder / "cpu.cfs_period_us").read_text())


def _cgroups(root: Path, mount: Path) -> Iterator[Path]:
    """Yields the folders of this process's cgroups that may have a CPU quota, from the inside out.

    A line of /proc/self/cgroup is `number:controllers:path`; the line of v2 names no controllers. Inside a container
    the path may be the one on the host, which does not exist here: the container's own group is then the mount itself.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath(path.lstrip("/"))
        for hierarchy in dict.fromkeys(["cpu", controllers] if controllers else ["."]):
            for inner in [group, *group.parents]:
                yield mount / hierarchy / inner
