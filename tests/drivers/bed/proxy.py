"""The proxy under test, started as its users start it: `mdb-runtime serve --config FILE`."""

import json
import os
import secrets
import shutil
import time
import urllib.error
import urllib.request

from . import process, tools

CONTRACT = tools.ROOT / "crates" / "manifest" / "tests" / "contract"
# Who is the app `notes` as well.
CLIENT_SUBJECT = "CN=a client,O=Drivers"
READY_TIMEOUT_SECONDS = 60
PASSWORDS = ["SHOP_PASSWORD", "SHOP_REPORTS_PASSWORD", "NOTES_PASSWORD", "TASK_MANAGER_PASSWORD"]


def binary():
    """`MDB_RUNTIME_BIN`, or a debug build of the present sources."""
    named = os.environ.get("MDB_RUNTIME_BIN")
    if named:
        return named
    build = ["cargo", "build", "-p", "mdb-runtime"]
    tools.attempt("build the proxy", *build, failure=tools.Broken, cwd=tools.ROOT)
    return str(tools.TARGET / "debug" / "mdb-runtime")


def make_certificate(place):
    """`proxy.pem` and `proxy.key` for localhost, and `client.pem` of `CLIENT_SUBJECT`, signed by the authority `ca.pem`."""
    new = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"]
    authority = ["-subj", "/CN=authority", "-keyout", str(place / "ca.key"), "-out", str(place / "ca.pem")]
    tools.attempt("make an authority", *new, *authority)
    signed = ["-CA", str(place / "ca.pem"), "-CAkey", str(place / "ca.key"), "-subj", "/CN=proxy"]
    signed += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    signed += ["-keyout", str(place / "proxy.key"), "-out", str(place / "proxy.pem")]
    tools.attempt("make a certificate", *new, *signed)
    client = place / "client.pem"
    signed = ["-CA", str(place / "ca.pem"), "-CAkey", str(place / "ca.key"), "-subj", "/O=Drivers/CN=a client"]
    signed += ["-addext", "basicConstraints=critical,CA:FALSE"]
    signed += ["-keyout", str(place / "client.key"), "-out", str(client)]
    tools.attempt("make a client's certificate", *new, *signed)
    client.write_text(client.read_text() + (place / "client.key").read_text())


class Proxy:
    """Runs while it is entered, with the contract's files on other ports and with other secrets."""

    def __init__(self, binary, directory, upstream_uri, passwords=None):
        self.binary = binary
        self.directory = directory
        self.port, self.tls_port, self.admin_port = (process.free_port() for _ in range(3))
        self.secrets = passwords or {name: secrets.token_urlsafe(12) for name in PASSWORDS}
        self.upstream_uri = upstream_uri
        self.log = directory / "proxy.log"
        self.process = None

    def __enter__(self):
        files = self.directory / "contract"
        shutil.copytree(CONTRACT, files)
        config = files / "mdb-runtime.yaml"
        text = config.read_text()
        text = text.replace(":27018", f":{self.port}").replace(":9464", f":{self.admin_port}")
        config.write_text(self.with_tls(text, files))
        command = [self.binary, "serve", "--config", str(config)]
        environment = {**os.environ, **self.secrets, "MDB_UPSTREAM_URI": self.upstream_uri}
        self.process = process.start(command, self.log, env=environment)
        try:
            self.wait_until_ready()
        except BaseException:
            process.stop(self.process)
            raise
        return self

    def __exit__(self, *_):
        process.stop(self.process)

    def with_tls(self, text, files):
        """The configuration with a second listener, where there is an openssl to make its certificate."""
        if not shutil.which("openssl"):
            return text
        make_certificate(files)
        address = f"127.0.0.1:{self.tls_port}"
        tls = {"certificate": "proxy.pem", "key": "proxy.key", "client_ca": "ca.pem", "client_certificates": "optional"}
        listener = {"address": address, "tls": tls}
        manifest = files / "apps" / "notes.yaml"
        credential = {"certificate_subject": CLIENT_SUBJECT, "roles": ["readWrite"]}
        changed = manifest.read_text().replace("credentials:\n", f"credentials:\n  - {json.dumps(credential)}\n")
        manifest.write_text(changed)
        return text.replace("listen:\n", f"listen:\n  - {json.dumps(listener)}\n")

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=5)
                return
            except (urllib.error.URLError, OSError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise tools.Broken(f"the proxy is not ready ({error}): {tail}") from error
            time.sleep(0.1)

    def environment(self):
        return {
            **self.secrets,
            "DRIVERS_PROXY": f"127.0.0.1:{self.port}",
            "DRIVERS_ADMIN": f"127.0.0.1:{self.admin_port}",
            "DRIVERS_PROXY_PID": str(self.process.pid),
            "DRIVERS_TLS_PORT": str(self.tls_port),
            "DRIVERS_CA": str(self.directory / "contract" / "ca.pem"),
            "DRIVERS_CLIENT_CERTIFICATE": str(self.directory / "contract" / "client.pem"),
            "DRIVERS_CLIENT_SUBJECT": CLIENT_SUBJECT,
        }

    def complaints(self):
        """What must never be, whatever the suites sent."""
        found = []
        if self.process.poll() is not None:
            found.append(f"the proxy ended with {self.process.returncode}")
        log = self.log.read_text(errors="replace")
        return found + [f"proxy.log: {line}" for line in log.splitlines() if "panicked at" in line]
