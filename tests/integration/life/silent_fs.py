"""A file system that never answers: who opens a file in it waits in the kernel and cannot be killed.

    silent_fs.py DIRECTORY

Mounts itself there (FUSE, as root), says "ready", and "asked" whenever somebody waits, and is gone when its standard input ends, at which all who wait
are let go with an error.  Exit status 77: this machine does not allow it.
"""

import ctypes
import os
import select
import struct
import sys

FUSE_INIT = 26
MS_NOSUID_NODEV = 6
MNT_DETACH = 2


def main(directory):
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        print(f"/dev/fuse: {error.strerror}")
        return 77
    options = f"fd={fuse},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
    if libc.mount(b"silent", directory.encode(), b"fuse", MS_NOSUID_NODEV, options) != 0:
        print(f"mount: {os.strerror(ctypes.get_errno())}")
        return 77
    try:
        request = os.read(fuse, 1 << 17)
        _, operation, unique = struct.unpack_from("<IIQ", request)
        assert operation == FUSE_INIT, operation
        answer = struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0)
        os.write(fuse, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([sys.stdin, fuse], [], [])
            if sys.stdin in ready:
                return 0
            # Taken, so that who asked waits for the answer, and not to be heard: killed, it waits all the same.
            os.read(fuse, 1 << 17)
            print("asked", flush=True)
    finally:
        libc.umount2(directory.encode(), MNT_DETACH)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
