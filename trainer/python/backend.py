"""How pip builds the module from the tree: `pip install ./trainer/python`, without a network.

A build back end as PEP 517 describes one, of the standard library alone.  It compiles libholdfast from the sources in the
folder above into the package, so that the module needs no installation beside it; that takes a C compiler ($CC, else cc)
and the header of xxHash.
"""

import base64
import hashlib
import os
import pathlib
import re
import shlex
import subprocess
import sysconfig
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
TRAINER = HERE.parent
ROOT = TRAINER.parent
LIBRARY = "libholdfast.so.1"
FLAGS = ["-std=c11", "-O2", "-g", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-D_GNU_SOURCE",
         "-pthread", f"-Wl,-soname,{LIBRARY}", f"-Wl,--version-script={TRAINER / 'libholdfast.map'}", "-Wl,-z,nodelete",
         "-Wl,-z,defs"]


def _version():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(r"^project\(holdfast VERSION ([0-9.]+)", text, re.MULTILINE)[1]


def _sources():
    """The files of which trainer/CMakeLists.txt makes the library."""
    text = (TRAINER / "CMakeLists.txt").read_text(encoding="utf-8")
    names = re.search(r"add_library\(trainer_objects OBJECT([^)]*)\)", text)[1].split()
    return [str(TRAINER / name) for name in names]


def _compile(directory):
    """The library, built in that directory."""
    output = pathlib.Path(directory) / LIBRARY
    command = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS, f"-I{ROOT}", "-o", str(output), *_sources()]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"libholdfast could not be compiled: {error}\n"
                         "it takes a C compiler and xxhash.h: apt-get install build-essential libxxhash-dev") from None
    return output


def _tag():
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"py3-none-{platform}"


def _metadata():
    version = _version()
    lines = ["Metadata-Version: 2.1", "Name: holdfast", f"Version: {version}",
             "Summary: What a training program in Python says to its supervisor", "Requires-Python: >=3.9", ""]
    wheel = ["Wheel-Version: 1.0", f"Generator: holdfast {version}", "Root-Is-Purelib: false", f"Tag: {_tag()}", ""]
    folder = f"holdfast-{version}.dist-info/"
    return folder, {folder + "METADATA": "\n".join(lines).encode(), folder + "WHEEL": "\n".join(wheel).encode()}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Make the wheel; returns its name."""
    folder, files = _metadata()
    package = HERE / "holdfast"
    for path in sorted([*package.glob("*.py"), package / "py.typed"]):
        files["holdfast/" + path.name] = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="holdfast-wheel-") as scratch:
        files["holdfast/" + LIBRARY] = _compile(scratch).read_bytes()
    record = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")
        record.append(f"{name},sha256={digest},{len(content)}")
    files[folder + "RECORD"] = "\n".join([*record, folder + "RECORD,,", ""]).encode()
    name = f"holdfast-{_version()}-{_tag()}.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return name


def build_sdist(sdist_directory, config_settings=None):
    """There is none: the library's sources lie outside of this folder."""
    raise NotImplementedError("holdfast is built from its tree: pip install ./trainer/python")
