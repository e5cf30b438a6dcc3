"""Several machines in one: namespaces with a network, processes and folders of their own, connected, each with an sshd.

They share this machine's kernel and its files outside the folders that are hidden below. Their programs are this one's,
with Debian's sshd and rsync where `make sshd` has put them into the environment. Nothing of them outlasts the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT

PROGRAMS = Path(sys.prefix) / "sshd" / "usr"
"""Where `make sshd` has unpacked Debian's packages; what is not there is this machine's own."""
USER = "ray"
"""Who logs in: root by another name, with a home of its own."""
_NEEDED = ("unshare", "nsenter", "ip", "ssh", "ssh-keygen")
_HOME = f"/home/{USER}"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAKE = """
set -euo pipefail
name="$1" folder="$2" programs="$3"; shift 3
hostname "$name"
ip link set lo up
[ ! -d "$programs" ] || mount -t overlay -o "lowerdir=$programs:/usr" overlay /usr
for empty in /tmp /home /run /dev/shm; do
    exec 9<"$empty"
    mount -t tmpfs -o mode=1777 tmpfs "$empty"
    for shared in "$folder" "$@"; do
        if [[ $shared == "$empty"/* ]]; then
            mkdir -p "$shared"
            mount --no-canonicalize --bind "/proc/self/fd/9/${shared#"$empty"/}" "$shared"
        fi
    done
    exec 9<&-
done
mount --bind "$folder/passwd" /etc/passwd
mount --bind /dev/null /etc/resolv.conf
echo 1 >/proc/sys/net/ipv4/ip_forward  # where the network ends, the first machine says so
mkdir -p /run/sshd "$HOME/.ssh"
cp "$folder/bashrc" "$HOME/.bashrc"
"$(command -v sshd)" -f "$folder/sshd_config" -E "$folder/$name.log"
echo ready
cat  # until the test closes the pipe, or ends
exit  # the first process of the machine, and so all of them
"""
_SSHD = """\
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PidFile none
UsePAM no
"""


@dataclass(frozen=True)
class Machine:
    """One of them; `key` is the file with the private key that opens all of them."""

    name: str
    address: str
    key: Path
    pid: int
    """Of its first process, as seen from outside."""

    def run(self, command: str, *, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """A command line in the user's home, as typed there after a login."""
        return subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", f"--wdns={_HOME}",
             "env", "-i", f"HOME={_HOME}", f"USER={USER}", f"BASH_ENV={_HOME}/.bashrc", f"PATH={_PATH}",
             "bash", "-c", command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def programs(self) -> list[str]:
        """Names of what runs on it: processes that are not shells, ssh or the machine's own."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                found.append(process.name())
        return [name for name in found if name not in ("bash", "cat", "ssh", "sshd")]


@contextmanager
def machines(*names: str, folder: Path, bashrc: str = "") -> Iterator[list[Machine]]:
    """Machines on one network; the folder, the checkout and its Python have the same paths on all of them.

    Args:
        names: one for each machine.
        folder: shared by all; what they are made with lies in it too.
        bashrc: lines for the `.bashrc` of the user, beside the one that puts this Python's programs on the PATH.
    """
    _skip_without_means()
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (folder / "sshd_config").write_text(_SSHD.format(folder=folder))
    (folder / "bashrc").write_text(f"export PATH={Path(sys.executable).parent}:$PATH\n{bashrc}\n")
    users = f"{USER}:x:0:0::{_HOME}:/bin/bash\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
    (folder / "passwd").write_text(users + Path("/etc/passwd").read_text())
    with ExitStack() as stack:
        made = [_make(stack, name, number, folder) for number, name in enumerate(names, start=1)]
        _connect(made)
        yield made


def _skip_without_means() -> None:
    if os.geteuid() != 0:
        pytest.skip("namespaces for machines need root")
    if missing := [program for program in _NEEDED if shutil.which(program) is None]:
        pytest.skip(f"machines need {' and '.join(missing)}")
    places = f"{PROGRAMS}/sbin:{PROGRAMS}/bin:/usr/sbin:{os.environ['PATH']}"
    if missing := [program for program in ("sshd", "rsync") if shutil.which(program, path=places) is None]:
        pytest.skip(f"no {' and '.join(missing)} here or in .venv; `make sshd` gets Debian's")


def _make(stack: ExitStack, name: str, number: int, folder: Path) -> Machine:
    process = stack.enter_context(
        subprocess.Popen(
            ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--mount-proc",
             "bash", "-c", _MAKE, "make", name, folder, PROGRAMS, ROOT, sys.prefix, sys.base_prefix],
            env={"HOME": _HOME, "PATH": _PATH}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
    )  # fmt: skip  # leaving its context closes the pipe, which ends it, and waits
    assert process.stdout is not None
    assert process.stderr is not None
    if process.stdout.readline() != "ready\n":
        pytest.skip(f"this machine makes no namespaces with an sshd in them: {process.stderr.read().strip()}")
    (first,) = psutil.Process(process.pid).children()
    return Machine(name, f"198.18.0.{number}", folder / "key", first.pid)


def _connect(made: Sequence[Machine]) -> None:
    """Put them on one network, whose bridge is in the first."""
    first, *others = made
    _ip(first, "link add name lan type bridge", "link set lan up", f"addr add {first.address}/24 dev lan")
    for each in others:
        _ip(first, f"link add name {each.name} type veth peer name lan netns {each.pid}",
            f"link set dev {each.name} master lan up")  # fmt: skip
        _ip(each, f"addr add {each.address}/24 dev lan", "link set lan up", f"route add default via {first.address}")


def _ip(machine: Machine, *commands: str) -> None:
    for command in commands:
        subprocess.run(["nsenter", f"--target={machine.pid}", "--net", "ip", *command.split()], check=True)
