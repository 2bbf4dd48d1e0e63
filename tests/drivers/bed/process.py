"""Child processes that cannot outlive the run."""

import ctypes
import os
import signal
import socket
import subprocess

PR_SET_PDEATHSIG = 1

# A proxy drains for up to 15 s, a mongod writes a checkpoint.
STOP_TIMEOUT_SECONDS = 30


def start(command, log, **options):
    """Starts `command` with its output appended to the file `log`. The child dies with its parent."""
    parent = os.getpid()

    def die_with_parent():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    with open(log, "ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
            **options,
        )


def stop(process):
    """SIGTERM, then SIGKILL; returns when the process is gone. A paused one is resumed first."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as reservation:
        reservation.bind(("127.0.0.1", 0))
        return reservation.getsockname()[1]
