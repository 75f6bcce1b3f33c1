#!/usr/bin/env python3
"""What the supervision of eight ranks costs that report one step a second, beside one of those ranks.

    idle.py BUILD [--seconds N]

CPU time and resident memory of the agent and of the supervisor, from /proc/PID/stat and /proc/PID/smaps_rollup, over
N seconds behind the first steps.
"""

import argparse
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import recovery  # noqa: E402
import rig  # noqa: E402

RANKS = 8


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid):
    """(all, its share where pages are shared)"""
    words = dict(
        line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if ": " in line
    )
    return int(words["Rss"].split()[0]), int(words["Pss"].split()[0])


def main():
    parser = argparse.ArgumentParser(usage="idle.py BUILD [--seconds N]")
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    build = options.build.resolve()
    print(f"what the supervision of {RANKS} ranks at one step a second costs")
    print(f"machine: {recovery.machine()}")
    print(f"method: /proc/PID/stat and smaps_rollup over {options.seconds} s; the baseline is one of the ranks")
    with rig.Scratch() as scratch:
        run = rig.Run(rig.Tools(build), scratch / "run", [build / "tests" / "bench" / "bench_pulse"], RANKS)
        try:
            run.start()
            run.wait_step(3)
            pids = {"agent": run.agent_pid, "supervisor": run.supervisor_pid(), "baseline: a rank": run.rank_pid(0)}
            before, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
            time.sleep(options.seconds)  # the passing of time is what is measured
            took = time.monotonic() - began
            share = {name: (cpu_s(pid) - before[name]) / took * 100 for name, pid in pids.items()}
            memory = {name: resident_kb(pid) for name, pid in pids.items()}
        finally:
            run.close()
    for name in pids:
        rss, pss = memory[name]
        print(f"  {name:<24} {share[name]:6.2f} % of a core   {rss / 1024:6.1f} MiB resident, {pss / 1024:6.1f} MiB its share")
    core = share["agent"] + share["supervisor"]
    mib = (memory["agent"][0] + memory["supervisor"][0]) / 1024
    print(f"  agent and supervisor     {core:6.2f} % of a core   target 0.5 %: {'reached' if core <= 0.5 else 'not reached'}")
    print(f"                           {mib:6.1f} MiB resident     target 16 MiB: {'reached' if mib <= 16 else 'not reached'}")


if __name__ == "__main__":
    main()
