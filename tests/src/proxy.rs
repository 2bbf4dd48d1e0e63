//! A proxy in the test's own process.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use mdb_auth::Mechanism;
use mdb_manifest::{Loaded, Report};
use mdb_runtime::{Ending, IndexOrder, IndexesArgs, Proxy, index_orders};
use mdb_testbed::Deployment;
use mongodb::Client;
use mongodb::options::ClientOptions;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::deployment::unique_name;
use crate::logs;
use crate::raw::RawClient;

/// A proxy with apps, its files, and a database name of its own. Dropping it fails the test if the proxy logged a
/// warning that was not announced.
#[derive(Debug)]
pub struct TestProxy {
    proxy: Option<Proxy>,
    address: SocketAddr,
    apps: Vec<(String, String)>,
    database: String,
    administrator_uri: String,
    upstream_uri: String,
    files: TempDir,
}

/// A proxy to be.
#[derive(Debug)]
pub struct ProxyBuilder {
    upstream_uri: String,
    /// For the test's own looks at the upstream.
    administrator_uri: String,
    apps: Vec<App>,
    limits: String,
    listener: String,
    upstream: String,
    canary: String,
    indexes: String,
    control: String,
    waits_for_upstream: bool,
}

#[derive(Debug)]
struct App {
    name: String,
    slug: String,
    exposes_scope_field: bool,
    isolation: String,
    id_policy: &'static str,
    more: String,
}

impl ProxyBuilder {
    /// In front of a deployment, as the user with the documented role.
    pub fn new(deployment: &Deployment) -> Self {
        Self {
            administrator_uri: deployment.uri(),
            ..Self::at(&deployment.proxy_uri())
        }
    }

    /// In front of this connection string.
    pub fn at(upstream_uri: &str) -> Self {
        Self {
            upstream_uri: upstream_uri.to_owned(),
            administrator_uri: upstream_uri.to_owned(),
            apps: Vec::new(),
            limits: String::new(),
            listener: String::new(),
            upstream: String::new(),
            canary: String::new(),
            control: String::new(),
            indexes: "  mode: off\n".to_owned(),
            waits_for_upstream: true,
        }
    }

    /// An app under a slug that begins with `name` and that no other proxy of this process has.
    #[must_use]
    pub fn app(self, name: &str) -> Self {
        let slug = unique_name(name);
        self.app_with_slug(name, &slug)
    }

    /// An app under exactly this slug.
    #[must_use]
    pub fn app_with_slug(mut self, name: &str, slug: &str) -> Self {
        self.apps.push(App {
            name: name.to_owned(),
            slug: slug.to_owned(),
            exposes_scope_field: false,
            isolation: "shared".to_owned(),
            id_policy: "any",
            more: String::new(),
        });
        self
    }

    /// The last app's manifest says `expose_scope_field: true`.
    #[must_use]
    pub fn exposing(mut self) -> Self {
        self.apps.last_mut().unwrap().exposes_scope_field = true;
        self
    }

    /// The last app's manifest says `isolation:` and this, in one line.
    #[must_use]
    pub fn isolated(mut self, isolation: &str) -> Self {
        isolation.clone_into(&mut self.apps.last_mut().unwrap().isolation);
        self
    }

    /// The last app's manifest says `id_policy: random_only`.
    #[must_use]
    pub fn with_random_ids(mut self) -> Self {
        self.apps.last_mut().unwrap().id_policy = "random_only";
        self
    }

    /// The configuration's `control_database`: one that other tests do not use keeps their work in the background away.
    #[must_use]
    pub fn control_database(mut self, name: &str) -> Self {
        self.control = format!("control_database: {name}\n");
        self
    }

    /// The last app's manifest also says this: whole lines.
    #[must_use]
    pub fn saying(mut self, lines: &str) -> Self {
        self.apps.last_mut().unwrap().more.push_str(lines);
        self
    }

    /// The last app is the configuration's `canary`.
    #[must_use]
    pub fn canary(mut self) -> Self {
        self.canary = format!("canary: {}\n", self.apps.last().unwrap().slug);
        self
    }

    /// A line of the section `limits`, as in `shutdown_grace: 1s`.
    #[must_use]
    pub fn limit(mut self, line: &str) -> Self {
        writeln!(self.limits, "  {line}").unwrap();
        self
    }

    /// Lines of the section `indexes` instead of `mode: off`.
    #[must_use]
    pub fn indexes(mut self, lines: &[&str]) -> Self {
        self.indexes.clear();
        for line in lines {
            writeln!(self.indexes, "  {line}").unwrap();
        }
        self
    }

    /// A line about the listener, as in `proxy_protocol: true`.
    #[must_use]
    pub fn listener(mut self, line: &str) -> Self {
        writeln!(self.listener, "    {line}").unwrap();
        self
    }

    /// A line of the section `upstream`, as in `compressors: [zlib]`.
    #[must_use]
    pub fn upstream(mut self, line: &str) -> Self {
        writeln!(self.upstream, "  {line}").unwrap();
        self
    }

    /// Starts also when the upstream cannot be reached.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.waits_for_upstream = false;
        self
    }

    /// Writes configuration and manifests, and starts the proxy from them.
    pub async fn start(self) -> TestProxy {
        logs::keep();
        let files = tempfile::tempdir().unwrap();
        std::fs::create_dir(files.path().join("apps")).unwrap();
        let limits = match self.limits.as_str() {
            "" => String::new(),
            lines => format!("limits:\n{lines}"),
        };
        let config = files.path().join("mdb-runtime.yaml");
        let text = format!(
            "version: 1\nlisten:\n  - address: 127.0.0.1:0\n{}upstream:\n  uri: {{ env: UPSTREAM }}\n\
             {}admin:\n  address: 127.0.0.1:0\nindexes:\n{}{}{}{limits}",
            self.listener, self.upstream, self.indexes, self.control, self.canary
        );
        std::fs::write(&config, text).unwrap();
        for app in &self.apps {
            let path = files.path().join(format!("apps/{}.yaml", app.slug));
            std::fs::write(path, manifest(app)).unwrap();
        }
        let loaded = load(&files, &self.upstream_uri).unwrap();
        let proxy = Proxy::start(loaded).await.unwrap();
        if self.waits_for_upstream {
            let reachable = proxy.readiness().upstream_reachable();
            timeout(READY_MAX, reachable)
                .await
                .expect("the upstream is reachable");
        }
        TestProxy {
            address: proxy.addresses()[0],
            proxy: Some(proxy),
            apps: self
                .apps
                .into_iter()
                .map(|app| (app.name, app.slug))
                .collect(),
            database: unique_name("db"),
            administrator_uri: self.administrator_uri,
            upstream_uri: self.upstream_uri,
            files,
        }
    }
}

fn load(files: &TempDir, upstream_uri: &str) -> Result<Loaded, Report> {
    let environment = |name: &str| match name {
        "UPSTREAM" => Some(upstream_uri.to_owned()),
        "PASSWORD" => Some(PASSWORD.to_owned()),
        "OTHER_PASSWORD" => Some(OTHER_PASSWORD.to_owned()),
        _ => None,
    };
    mdb_manifest::load(&files.path().join("mdb-runtime.yaml"), &environment)
}

/// The manifest of an app: the user of its slug may do everything; `-read`, `-write` and `-admin` have one role each.
fn manifest(app: &App) -> String {
    let App {
        slug,
        exposes_scope_field,
        isolation,
        id_policy,
        more,
        ..
    } = app;
    let mut text = format!(
        "version: \"3.0\"\nslug: {slug}\nexpose_scope_field: {exposes_scope_field}\n\
         isolation: {isolation}\nid_policy: {id_policy}\ncredentials:\n"
    );
    let all = "[readWrite, dbAdmin]";
    for (suffix, roles) in [
        ("", all),
        ("-read", "[read]"),
        ("-write", "[readWrite]"),
        ("-admin", "[dbAdmin]"),
    ] {
        writeln!(
            text,
            "  - username: {slug}{suffix}\n    password: {{ env: PASSWORD }}\n    roles: {roles}"
        )
        .unwrap();
    }
    text + more
}

impl TestProxy {
    /// In front of a deployment, with these apps.
    pub async fn start(deployment: &Deployment, apps: &[&str]) -> Self {
        let builder = ProxyBuilder::new(deployment);
        apps.iter()
            .fold(builder, |builder, app| builder.app(app))
            .start()
            .await
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The proxy itself.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("it was not shut down")
    }

    /// What `mdb-runtime indexes` prints with the proxy's own configuration. Fails the test if the order fails.
    pub async fn order(&self, order: IndexOrder) -> String {
        let args = IndexesArgs {
            config: Some(self.files.path().join("mdb-runtime.yaml")),
            order,
        };
        let uri = self.upstream_uri.clone();
        let carry_out = move || {
            let environment = |name: &str| match name {
                "UPSTREAM" => Some(uri.clone()),
                "PASSWORD" => Some(PASSWORD.to_owned()),
                _ => None,
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let ending = index_orders::run(&args, &environment, &mut out, &mut err);
            let err = String::from_utf8_lossy(&err).into_owned();
            assert_eq!(ending, Ending::Success, "{err}");
            String::from_utf8_lossy(&out).into_owned()
        };
        tokio::task::spawn_blocking(carry_out).await.unwrap()
    }

    /// Drains and ends the proxy, as SIGTERM does.
    pub async fn shut_down(&mut self) {
        self.proxy
            .take()
            .expect("it was not shut down")
            .shut_down()
            .await;
    }

    /// Takes the proxy out, to end it beside other work.
    pub fn take(&mut self) -> Proxy {
        self.proxy.take().expect("it was not shut down")
    }

    /// Changes the file of an app: `None` removes it. The proxy does not notice by itself.
    pub fn change(&self, slug: &str, change: impl FnOnce(String) -> Option<String>) {
        let path = self.files.path().join(format!("apps/{slug}.yaml"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        match change(text) {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    }

    /// Reads the files again, as SIGHUP does.
    pub async fn reload(&self) {
        let read = load(&self.files, &self.upstream_uri);
        self.proxy().reload(read).await;
    }

    /// The slug of an app.
    pub fn slug(&self, app: &str) -> &str {
        let found = self.apps.iter().find(|(name, _)| name == app);
        &found.unwrap_or_else(|| panic!("no app {app}")).1
    }

    /// The name of a database that no other test uses.
    pub fn database_name(&self) -> &str {
        &self.database
    }

    /// The connection string of a user; `user` is an app, perhaps with `-read`, `-write` or `-admin` behind it.
    pub fn uri(&self, user: &str) -> String {
        format!(
            "mongodb://{}:{PASSWORD}@{}/",
            self.user_name(user),
            self.address
        )
    }

    /// The name under which `user` logs in.
    pub fn user_name(&self, user: &str) -> String {
        let (app, suffix) = match user.split_once('-') {
            Some((app, role)) => (app, format!("-{role}")),
            None => (user, String::new()),
        };
        format!("{}{suffix}", self.slug(app))
    }

    /// The official driver through the proxy.
    pub async fn client(&self, user: &str) -> Client {
        connect(&self.uri(user)).await
    }

    /// The test's database through the proxy.
    pub async fn database(&self, user: &str) -> mongodb::Database {
        self.client(user).await.database(&self.database)
    }

    /// The test's database as an administrator sees it upstream.
    pub async fn upstream(&self) -> mongodb::Database {
        connect(&self.administrator_uri)
            .await
            .database(&self.database)
    }

    /// A connection of its own that is nobody's yet.
    pub async fn raw_stranger(&self) -> RawClient {
        RawClient::connect(self.address).await
    }

    /// A connection of its own that has logged in.
    pub async fn raw(&self, user: &str) -> RawClient {
        let mut client = self.raw_stranger().await;
        let reply = client
            .log_in(Mechanism::ScramSha256, &self.user_name(user), PASSWORD)
            .await;
        assert!(reply.get_bool("done").is_ok_and(|done| done), "{reply}");
        client
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            logs::check();
        }
    }
}

async fn connect(uri: &str) -> Client {
    let mut options = ClientOptions::parse(uri).await.unwrap();
    options.server_selection_timeout = Some(READY_MAX);
    Client::with_options(options).unwrap()
}

/// Of every user.
pub const PASSWORD: &str = "pencil";

/// The variable `OTHER_PASSWORD` in manifests that a test writes.
pub const OTHER_PASSWORD: &str = "crayon";

/// Everything is on this machine.
const READY_MAX: Duration = Duration::from_secs(30);
