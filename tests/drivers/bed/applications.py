"""The applications in several languages: how each is built below `target/drivers/`, and how it is started.

Every function gives `(command, extra environment, compressors the driver has)` or raises `CannotRun` or `Broken`.
"""

import os
import platform
import shutil

from . import tools
from .tools import PLACE, Broken, CannotRun, attempt

HERE = tools.ROOT / "tests" / "drivers"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
# libmongoc and what its package needs that a small Debian lacks.
C_PACKAGES = ["libmongoc-dev", "libmongoc-1.0-0", "libbson-dev", "libbson-1.0-0"]
C_PACKAGES += ["libmongocrypt0", "libsnappy1v5", "libicu72", "libsasl2-2", "libzstd1"]
OLD_PYTHON_PACKAGES = ["python3-pymongo", "python3-bson", "python3-gridfs"]


def with_pymongo(script):
    def build():
        # PyMongo takes what its virtualenv has packages for.
        return [tools.python(), str(HERE / "python" / "applications" / script)], {}, "zstd,snappy,zlib"

    return build


def with_odm(package, script):
    def build():
        interpreter = tools.python()
        pip = [interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        attempt(f"install {package}", *pip, package)
        return [interpreter, str(HERE / "python" / "applications" / script)], {}, "zlib"

    return build


def with_old_pymongo():
    """PyMongo 3.11 as Debian 12 has it: says hello as OP_QUERY."""
    system = "/usr/bin/python3"
    packages = debian_packages("pymongo-old", OLD_PYTHON_PACKAGES)
    modules = packages / "usr" / "lib" / "python3" / "dist-packages"
    environment = {"PYTHONPATH": str(modules)}
    attempt("import Debian's PyMongo", system, "-c", "import pymongo", env={**os.environ, **environment})
    return [system, str(HERE / "python" / "applications" / "shop.py")], environment, "zlib"


def with_node():
    """Of the compressors that the driver knows, zlib alone needs no further package."""
    return ["node", str(HERE / "node" / "shop.mjs"), str(tools.node_modules())], {}, "zlib"


def with_go():
    place = PLACE / "go"
    environment = {
        "GOMODCACHE": str(place / "modules"),
        "GOCACHE": str(place / "cache"),
        "GOFLAGS": "-modcacherw -buildvcs=false",
        "GOTOOLCHAIN": "local",
    }
    options = {"cwd": HERE / "go", "env": {**os.environ, **environment}}
    attempt("fetch the Go driver", "go", "mod", "download", **options)
    attempt("build with Go", "go", "build", "-o", str(place / "shop"), ".", failure=Broken, **options)
    return [str(place / "shop")], {}, "zstd,snappy,zlib"


def with_java():
    place = PLACE / "java"
    maven = ["mvn", "-q", "-B", "-f", str(HERE / "java" / "pom.xml"), f"-Dmaven.repo.local={place / 'repository'}"]
    attempt("fetch the Java driver", *maven, MAVEN_COPY, f"-DoutputDirectory={place / 'jars'}")
    path = f"{place / 'jars'}/*"
    sources = sorted(map(str, (HERE / "java").glob("*.java")))
    compiler = ["javac", "-cp", path, "-d", str(place / "classes")]
    attempt("compile with javac", *compiler, *sources, failure=Broken)
    return ["java", "-cp", f"{path}:{place / 'classes'}", "Shop"], {}, "zlib"


def with_rust():
    manifest = ["--locked", "--manifest-path", str(HERE / "rust" / "Cargo.toml")]
    target = PLACE / "rust"
    attempt("fetch the Rust driver", "cargo", "fetch", *manifest)
    attempt("build with cargo", "cargo", "build", *manifest, "--target-dir", str(target), failure=Broken)
    return [str(target / "debug" / "drivers-rust")], {}, "zstd,snappy,zlib"


def with_c():
    place = debian_packages("c", C_PACKAGES)
    libraries = next((place / "usr" / "lib").glob("*-linux-gnu"))
    flags = [f"-I{place}/usr/include/libmongoc-1.0", f"-I{place}/usr/include/libbson-1.0", "-Wall", "-Wextra", "-Werror"]
    links = [f"-L{libraries}", f"-Wl,-rpath-link,{libraries}", "-lmongoc-1.0", "-lbson-1.0"]
    sources = sorted(map(str, (HERE / "c").glob("*.c")))
    compiler = ["cc", "-std=gnu11", *flags, *sources, "-o", str(place / "shop"), *links]
    attempt("compile with cc", *compiler, failure=Broken)
    return [str(place / "shop")], {"LD_LIBRARY_PATH": str(libraries)}, "zstd,snappy,zlib"


def debian_packages(name, packages):
    """Debian packages laid out in a directory of their own; nothing is installed into the system."""
    place = PLACE / name
    marker, wanted = place / "installed", "\n".join(packages)
    if marker.is_file() and marker.read_text() == wanted:
        return place
    if not shutil.which("apt-get"):
        raise CannotRun(f"{platform.system()} without apt-get, and the packages are Debian's")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    attempt("fetch Debian packages", "apt-get", "download", "-q", *packages, cwd=place)
    for archive in place.glob("*.deb"):
        attempt("lay out Debian packages", "dpkg", "-x", str(archive), str(place))
        archive.unlink()
    marker.write_text(wanted)
    return place


APPLICATIONS = {
    "shop.py": with_pymongo("shop.py"),
    "shop_async.py": with_pymongo("shop_async.py"),
    "tasks_beanie.py": with_odm("beanie", "tasks_beanie.py"),
    "shop_mongoengine.py": with_odm("mongoengine", "shop_mongoengine.py"),
    "pymongo-old": with_old_pymongo,
    "node": with_node,
    "go": with_go,
    "java": with_java,
    "rust": with_rust,
    "c": with_c,
}


def command(entry):
    """How an application is run three times and its tellings are compared."""
    if not shutil.which("openssl"):
        raise CannotRun("there is no openssl to make the certificate of the listener with TLS")
    started, environment, compressors = APPLICATIONS[entry]()
    settings = [f"{name}={value}" for name, value in environment.items()]
    return [tools.python(), str(HERE / "python" / "compare.py"), compressors, "env", *settings, *started]
