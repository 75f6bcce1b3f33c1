"""Keeps modules imported, and makes ranks of itself: what `holdfast run --warm` puts into the command's interpreter.

The agent starts the user's command itself, with this file in the place of sitecustomize, which an interpreter imports
last before it turns to what it is to run.  Here it stops: the modules are imported, and then every rank is a fork that
simply returns.  The interpreter goes on as it would have done anyway, so that a rank's __main__, sys.path, options,
tracebacks and exit are those of a plain start, whatever it runs.  warm.h says what the agent does.

A rank is forked twice, and the process in between ends at once: the agent, the nearest subreaper, becomes its parent.
Nothing of the user's runs before the agent has seen that and said so, on a socket that is this one start's own.
"""

import os
import sys

WORD = "HOLDFAST_WARM"
NAME = "sitecustomize"
REASON_MAX = 200  # bytes
START = 40  # bytes of a request, at most
START_FDS = 4
ENDED_MAX_S = 10.0  # how long the process in between may take to end
GONE_MAX_S = 0.2  # how long a thread that ended may still be seen
FAILED = 127

PR_SET_PDEATHSIG = 1
PR_SET_MM = 35
PR_SET_MM_MAP = 14
PR_SET_PTRACER = 0x59616D61
SIGKILL = 9
# Whoever has one of these open has begun to use a device, and a device does not survive a fork.
DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/davinci", "/dev/accel")


class Unfit(Exception):
    """The reason why no rank can be made of this process."""


# --- as if this file were not there ---------------------------------------------------------------------------


def withdraw():
    """Leave no trace of how this file was found; return what the agent said, or None."""
    here = os.path.dirname(__file__)
    word = os.environ.pop(WORD, None)
    first, _, rest = os.environ.get("PYTHONPATH", "").partition(os.pathsep)
    if first == here:
        if rest:
            os.environ["PYTHONPATH"] = rest
        else:
            del os.environ["PYTHONPATH"]
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    return word


def import_original():
    """The sitecustomize that this one stands in front of; whether there is one."""
    ours = sys.modules.pop(NAME, None)
    try:
        __import__(NAME)
    except ImportError as error:
        if error.name != NAME:
            raise
        sys.modules[NAME] = ours
        return False
    return True


# --- the modules ------------------------------------------------------------------------------------------------


def script_folder():
    """What will be sys.path[0]; None when nothing will."""
    script = sys.argv[0] if getattr(sys, "argv", None) else ""
    if getattr(sys.flags, "safe_path", False):
        return None
    if script == "-m":
        return os.getcwd()
    if script in ("-c", ""):
        return ""
    whole = os.path.realpath(script)
    return whole if os.path.isdir(whole) else os.path.dirname(whole)


def import_modules(names):
    """Import with the path, and the name of the script, that the script would import with."""
    import importlib

    main = sys.modules["__main__"]
    folder = script_folder()
    if folder is not None:
        sys.path.insert(0, folder)
    if sys.argv[0] not in ("-m", "-c", ""):
        main.__file__ = sys.argv[0]
    try:
        for name in names:
            importlib.import_module(name)
    except BaseException as error:  # also SystemExit: some modules end the process where something is missing
        raise Unfit(f"importing {name} failed: {type(error).__name__}: {error}") from None
    finally:
        if hasattr(main, "__file__"):
            del main.__file__
        if folder is not None and folder in sys.path:
            sys.path.remove(folder)


def threads():
    """Names of all threads but the main one."""
    found = []
    for task in os.listdir("/proc/self/task"):
        if int(task) == os.getpid():
            continue
        try:
            with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
                found.append(file.read().strip())
        except OSError:
            pass
    return found


def device():
    """A device that is open, or None."""
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(DEVICES):
            return target
    return None


def check_fork():
    """Raise Unfit when a fork of this process would not be whole.

    A first fork is made to see it: libraries that know of forks end their threads before one (OpenBLAS does), and
    PyTorch tells a child whether its devices can be used in it.
    """
    import time

    pid = os.fork()
    if pid == 0:
        cuda = getattr(sys.modules.get("torch"), "cuda", None)
        bad = getattr(cuda, "_is_in_bad_fork", None)
        os._exit(1 if bad is not None and bad() else 0)
    if os.waitpid(pid, 0)[1] != 0:
        raise Unfit("a module has begun to use the GPU, which no fork can go on with")
    found = device()
    if found is not None:
        raise Unfit(f"a module has opened {found}, which no fork can go on with")
    try:
        os.waitpid(-1, os.WNOHANG)
        raise Unfit("a module has started a process")
    except ChildProcessError:
        pass
    end = time.monotonic() + GONE_MAX_S
    left = threads()
    while left and time.monotonic() < end:
        time.sleep(0.005)
        left = threads()
    if left:
        raise Unfit(f"a module has started {len(left)} thread(s) ({', '.join(sorted(set(left)))})")


# --- a rank -----------------------------------------------------------------------------------------------------


class Kernel:
    """The calls that Python has no name for."""

    def __init__(self):
        import ctypes

        self.c = ctypes
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.malloc.restype = ctypes.c_void_p
        self.libc.malloc.argtypes = [ctypes.c_size_t]
        self.libc.sbrk.restype = ctypes.c_void_p
        self.libc.sbrk.argtypes = [ctypes.c_ssize_t]

    def prctl(self, option, *arguments):
        words = [self.c.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
        return self.libc.prctl(self.c.c_int(option), *words)

    def copy(self, block):
        """Address of a copy that is never freed."""
        address = self.libc.malloc(max(len(block), 1))
        self.c.memmove(address, block, len(block))
        return address

    def show(self, arguments, environment):
        """Have /proc/PID/cmdline and environ show these.  Where the kernel does not let us, they stay as they are."""
        with open("/proc/self/stat", "rb") as file:
            fields = [b"", b""] + file.read().rpartition(b") ")[2].split()
        at = {name: int(fields[number - 1]) for name, number in (
            ("start_code", 26), ("end_code", 27), ("start_stack", 28), ("start_data", 45), ("end_data", 46),
            ("start_brk", 47))}
        argument_start, environment_start = self.copy(arguments), self.copy(environment)
        layout = (self.c.c_uint64 * 13)(
            at["start_code"], at["end_code"], at["start_data"], at["end_data"], at["start_brk"], self.libc.sbrk(0),
            at["start_stack"], argument_start, argument_start + len(arguments), environment_start,
            environment_start + len(environment), 0, 0xFFFFFFFF << 32)
        self.prctl(PR_SET_MM, PR_SET_MM_MAP, self.c.addressof(layout), self.c.sizeof(layout))


def read_all(fd, size):
    block = b""
    while len(block) < size:
        part = os.pread(fd, size - len(block), len(block))
        if not part:
            raise OSError("a request is cut off")
        block += part
    return block


def take_environment(block):
    """os.environ, and with it C's, in the order given."""
    os.environ.clear()
    for line in block.split(b"\0")[:-1]:
        name, equals, value = line.partition(b"=")
        if name and equals:
            os.environb[name] = value


def wait_for_parent(between, agent):
    """Until the process in between has ended and the agent is our parent."""
    import select
    import time

    end = time.monotonic() + ENDED_MAX_S
    if hasattr(os, "pidfd_open"):
        try:
            fd = os.pidfd_open(between)
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(ENDED_MAX_S * 1000)
            os.close(fd)
        except OSError:
            pass  # it has ended, or the kernel is an old one
    while os.getppid() == between and time.monotonic() < end:
        os.sched_yield()
    return os.getppid() == agent


class Start:
    """One start, as the agent asked for it."""

    def __init__(self, data, fds):
        import struct

        self.fds = fds
        if len(data) != struct.calcsize("<4I") or len(fds) != START_FDS:
            raise OSError("not a request")
        self.agent, self.tail, self.argument_bytes, self.environment_bytes = struct.unpack("<4I", data)

    def close(self):
        for fd in self.fds:
            os.close(fd)

    def become(self, kernel, between):
        """In the new process: be a rank.  Returns when it may run; ends the process when it may not."""
        channel, out, err, words = self.fds
        try:
            block = read_all(words, self.argument_bytes + self.environment_bytes)
            arguments, environment = block[: self.argument_bytes], block[self.argument_bytes :]
            os.dup2(out, 1)
            os.dup2(err, 2)
            for fd in (out, err, words):
                os.close(fd)
            os.setpgid(0, 0)
            kernel.prctl(PR_SET_PTRACER, self.agent)
            take_environment(environment)
            self.take_arguments(arguments)
            kernel.show(arguments, environment)
            reseed()
            # A death signal belongs to the parent that one has: it would come now, from the process in between.
            parented = wait_for_parent(between, self.agent)
            kernel.prctl(PR_SET_PDEATHSIG, SIGKILL)
            if not parented or os.getppid() != self.agent:
                os._exit(FAILED)
            os.write(channel, b"\0")
            if os.read(channel, 1) != b"\1":
                os._exit(FAILED)
            os.close(channel)
        except BaseException as error:
            number = getattr(error, "errno", None) or 5
            try:
                os.write(channel, bytes([min(number, 255)]))
            finally:
                os._exit(FAILED)

    def take_arguments(self, block):
        words = [os.fsdecode(word) for word in block.split(b"\0")[:-1]]
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = words
        # The first of sys.argv is the script, or says that there is none.
        sys.argv[1:] = words[self.tail :]


def reseed():
    """Random numbers that a plain start would have seeded from the system.  The module random does so itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


# --- the parent of ranks ----------------------------------------------------------------------------------------


def receive(control):
    """The next request; None when the agent has gone."""
    import array
    import socket

    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(START, socket.CMSG_SPACE(START_FDS * fds.itemsize),
                                            socket.MSG_CMSG_CLOEXEC)
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
    return Start(data, list(fds)) if data else None


def serve(control, kernel):
    """Make ranks until the agent has gone.  Returns in the ranks only."""
    while True:
        start = receive(control)
        if start is None:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            between = os.getpid()
            if os.fork() != 0:
                os._exit(0)
            control.close()
            start.become(kernel, between)
            return
        start.close()
        os.waitpid(pid, 0)


def prepare(names, kernel):
    """Import, and see that ranks can be made."""
    import gc

    import_modules(names)
    # What the imports said belongs to this process, not to every rank's output.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    kernel.libc.fflush(None)
    check_fork()
    # Keeps the collector from touching, and so copying, the pages of all that is shared.
    gc.collect()
    gc.freeze()


def work(control, what, names):
    """Whatever the agent wants of this process; returns in ranks only."""
    if what == "probe":
        control.send(b"P")
        os._exit(0)
    try:
        kernel = Kernel()
        prepare(names.split(","), kernel)
    except Unfit as error:
        control.send(b"U" + str(error).encode("utf-8", "replace")[:REASON_MAX])
        os._exit(FAILED)
    control.send(b"R")
    serve(control, kernel)


def stand_by(word):
    """Do the agent's work where this process is the one that it started; else nothing."""
    number, agent, what, names = word.split(" ", 3)
    # What the command started on its way to be this interpreter inherits the word, too.
    if os.getppid() != int(agent):
        return
    try:
        import socket

        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=int(number))
        control.set_inheritable(False)
        work(control, what, names)
    except BaseException:
        # Whatever goes wrong here: what the command runs must not begin in a process that is no rank.
        sys.excepthook(*sys.exc_info())
        os._exit(FAILED)


def enter():
    word = withdraw()
    original, failure = False, None
    try:
        original = import_original()
    except Exception as error:
        failure = error  # the interpreter says so and goes on, and so do ranks
    if word is not None:
        stand_by(word)
    if failure is not None:
        raise failure
    if not original:
        # What the interpreter expects where there is none; it takes this module away again.
        raise ImportError(f"No module named '{NAME}'", name=NAME)


enter()
