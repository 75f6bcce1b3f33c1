"""Print, as one JSON object, everything that a Python program can see of how it was started."""

import ctypes
import json
import os
import resource
import signal
import stat
import sys
import threading


def descriptors():
    found = {}
    for fd in range(1024):
        try:
            mode = os.fstat(fd).st_mode
            target = os.readlink(f"/proc/self/fd/{fd}").partition(":[")[0]
        except OSError:
            continue
        found[fd] = [target, stat.S_IFMT(mode), os.get_inheritable(fd)]
    return found


def status():
    wanted = ("SigBlk", "SigIgn", "SigCgt", "Groups", "Uid", "Gid", "CapEff", "NoNewPrivs", "Seccomp", "Threads",
              "Cpus_allowed", "CoreDumping")
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.rstrip("\n").partition(":")[::2] for line in file)
    return {name: lines.get(name, "").strip() for name in wanted}


def stream(file):
    names = ("name", "mode", "encoding", "errors", "line_buffering", "write_through", "closed")
    said = {name: repr(getattr(file, name, None)) for name in names}
    buffer = getattr(file, "buffer", None)
    return [type(file).__name__, said, type(buffer).__name__, type(getattr(buffer, "raw", None)).__name__,
            file.fileno(), file.isatty(), file.seekable(), file.readable(), file.writable()]


def handlers():
    return {number: str(signal.getsignal(number)).partition(" at 0x")[0]
            for number in sorted(signal.valid_signals())}


def death_signal():
    number = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)
    return number.value


def c_environment(names):
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    return {name: os.fsdecode(libc.getenv(os.fsencode(name)) or b"") for name in names}


def c_lines():
    lines = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    found = []
    while lines[len(found)] is not None:
        found.append(os.fsdecode(lines[len(found)]))
    return found


def shown(name):
    with open(f"/proc/self/{name}", "rb") as file:
        return os.fsdecode(file.read()).split("\0")


def main():
    module = sys.modules["__main__"]
    spec = module.__spec__
    said = {
        "argv": sys.argv, "orig_argv": getattr(sys, "orig_argv", None), "executable": sys.executable,
        "path": sys.path, "flags": repr(sys.flags), "warnoptions": sys.warnoptions, "xoptions": sys._xoptions,
        "prefix": [sys.prefix, sys.exec_prefix, sys.base_prefix],
        "importers": sorted(entry for entry in sys.path_importer_cache if "/warm" in entry or "/fd/" in entry),
        "customized": [sorted(n for n in sys.modules if "customize" in n),
                       str(sys.modules.get("sitecustomize")), getattr(sys, "customized", None)],
        "main": {n: repr(v).partition(" at 0x")[0] for n, v in vars(module).items()
                 if n.startswith("__") and n != "__builtins__"},
        "spec": [spec.name, spec.origin, spec.parent] if spec else None,
        "streams": [stream(sys.stdin), stream(sys.stdout), stream(sys.stderr)],
        "same_streams": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
        "descriptors": descriptors(), "status": status(), "handlers": handlers(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource)
                   if name.startswith("RLIMIT_")},
        "umask": os.umask(0o022), "nice": os.getpriority(os.PRIO_PROCESS, 0), "directory": os.getcwd(),
        "scheduler": os.sched_getscheduler(0), "leader": os.getpgid(0) == os.getpid(), "session": os.getsid(0),
        "death_signal": death_signal(), "parent": os.getppid(), "thread": threading.current_thread().name,
        "threads": threading.active_count(), "main_thread": threading.main_thread().native_id == os.getpid(),
        "environment": dict(os.environ), "c_environment": c_environment(os.environ), "c_lines": sorted(c_lines()),
        "cmdline": shown("cmdline"), "environ": sorted(shown("environ")), "comm": shown("comm"),
        "recursion": sys.getrecursionlimit(), "switch": sys.getswitchinterval(),
        "collector": sys.modules["gc"].isenabled() if "gc" in sys.modules else True,
        "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__,
                  sys.gettrace() is None],
        "meta_path": [str(entry).partition(" at 0x")[0] for entry in sys.meta_path],
        "random": os.environ.get("PYTHONHASHSEED"),
    }
    print(json.dumps(said))


main()
