//! From the tree of a manifest to [`AppManifest`].

use std::collections::{BTreeMap, BTreeSet};

use super::migration::{self, KEYS_WITHOUT_EFFECT, OLD_KEYS, Policy};
use super::{AppManifest, Credential, IdPolicy, Isolation, Proof, Role};
use crate::config::INDEX_MODES;
use crate::index;
use crate::names::AppSlug;
use crate::reader::{Field, Section, quoted};
use crate::report::{Position, Sheet};
use crate::secret::{self, Secrets};
use crate::yaml::{Kind, Node};

/// What a manifest gave.
pub(crate) struct AppReading {
    /// Only when the sheet has no errors.
    pub(crate) manifest: Option<AppManifest>,
    /// Known also when something else is wrong, so that clashes between files show in the same run.
    pub(crate) slug: Option<(AppSlug, Position)>,
    /// Every user name that could be read.
    pub(crate) usernames: Vec<(String, Position)>,
}

/// Reads everything there is to read; what is wrong goes to the sheet.
pub(crate) fn read(root: &Node, sheet: &Sheet, secrets: &Secrets<'_>) -> AppReading {
    let nothing = AppReading {
        manifest: None,
        slug: None,
        usernames: Vec::new(),
    };
    let Some((form, section)) = open(root, sheet) else {
        return nothing;
    };
    let policy = match form {
        Form::Current => Policy::default(),
        Form::Old => {
            migration::warn_without_effect(&section);
            migration::policy(&section)
        }
    };
    let slug = section
        .required("slug")
        .and_then(|field| Some((slug(&field)?, field.at())));
    let mut usernames = Vec::new();
    let mut credentials = credentials(&section, secrets, &mut usernames);
    if form == Form::Old {
        migration::promote_owner(&section, &policy, &mut credentials);
    }
    check_status(&section);
    let name = text(&section, "name");
    let description = text(&section, "description").unwrap_or_default();
    let (isolation, collection_isolation) = isolation(&section);
    let id_policy = section.field("id_policy").and_then(|field| {
        field.choice(&[
            ("any", IdPolicy::Any),
            ("random_only", IdPolicy::RandomOnly),
        ])
    });
    let expose_scope_field = is_set(&section, "expose_scope_field");
    let index_mode = section.field("indexes").and_then(|field| {
        let section = field.mapping(&[&["mode"]])?;
        section.field("mode")?.choice(INDEX_MODES)
    });
    let managed_indexes = index::read(&section, form == Form::Old);
    let prune = is_set(&section, "prune");
    let manifest = slug
        .as_ref()
        .filter(|_| !sheet.has_errors())
        .map(|(slug, _)| AppManifest {
            file: sheet.file().to_owned(),
            slug: slug.clone(),
            name: name.unwrap_or_else(|| slug.to_string()),
            description,
            credentials,
            isolation,
            collection_isolation,
            id_policy: id_policy.unwrap_or_default(),
            expose_scope_field,
            index_mode,
            managed_indexes,
            prune,
            app_roles: policy.app_roles,
        });
    AppReading {
        manifest,
        slug,
        usernames,
    }
}

/// Which form the manifest has, and its keys.
fn open<'n>(root: &'n Node, sheet: &'n Sheet) -> Option<(Form, Section<'n>)> {
    let root = Field::root(root, sheet);
    let form = root.open_mapping().and_then(|section| form(&section))?;
    let known: &[&[&str]] = match form {
        Form::Current => &[KEYS],
        Form::Old => &[KEYS, OLD_KEYS, KEYS_WITHOUT_EFFECT],
    };
    Some((form, root.mapping(known)?))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Version "3.0".
    Current,
    /// Versions "1.0" and "2.0".
    Old,
}

/// `None` when the rest of the file should not be read: the keys of an unknown version mean unknown things.
fn form(section: &Section<'_>) -> Option<Form> {
    // Without a version it is read as the current one, so that the other problems show as well.
    let Some(field) = section.required("version") else {
        return Some(Form::Current);
    };
    let version = match field.kind() {
        Kind::Text(text) => text.clone(),
        Kind::Float(number) => format!("{number:?}"),
        Kind::Integer(number) => format!("{number}.0"),
        _ => {
            field.unexpected::<()>("one of \"1.0\", \"2.0\", \"3.0\"");
            return Some(Form::Current);
        }
    };
    let form = match version.as_str() {
        "3.0" => Form::Current,
        "1.0" | "2.0" => Form::Old,
        _ => {
            field.error(&format!(
                "unknown version {}; known: \"1.0\", \"2.0\", \"3.0\"",
                quoted(&version)
            ));
            return None;
        }
    };
    if !matches!(field.kind(), Kind::Text(_)) {
        field.error(&format!(
            "a version is text; write \"{version}\" with the quotes"
        ));
    }
    Some(form)
}

fn slug(field: &Field<'_>) -> Option<AppSlug> {
    let text = field.text()?;
    match AppSlug::parse(text) {
        Ok(slug) => Some(slug),
        Err(error) => {
            field.error(&format!("{}: {error}", quoted(text)));
            None
        }
    }
}

/// Whether a switch is on; it is off where nothing is said.
fn is_set(section: &Section<'_>, key: &str) -> bool {
    let field = section.field(key);
    field.and_then(|field| field.boolean()).unwrap_or(false)
}

fn text(section: &Section<'_>, key: &str) -> Option<String> {
    section
        .field(key)
        .and_then(|field| field.text().map(str::to_owned))
}

fn check_status(section: &Section<'_>) {
    let Some(field) = section.field("status") else {
        return;
    };
    if field.choice(&[("active", true), ("inactive", false)]) == Some(false) {
        field.error("`inactive`: an inactive app is not served; write `active`, or take the file out of the directory");
    }
}

/// A word for all collections, or `default` and words for single ones.
fn isolation(section: &Section<'_>) -> (Isolation, BTreeMap<String, Isolation>) {
    let mut single = BTreeMap::new();
    let Some(field) = section.field("isolation") else {
        return (Isolation::default(), single);
    };
    if !matches!(field.kind(), Kind::Mapping(_)) {
        return (isolation_word(&field), single);
    }
    let Some(section) = field.mapping(&[&["default", "collections"]]) else {
        return (Isolation::default(), single);
    };
    let default = section.field("default");
    let default = default.map_or(Isolation::default(), |field| isolation_word(&field));
    let collections = section
        .field("collections")
        .and_then(|field| field.open_mapping());
    for field in collections.iter().flat_map(Section::fields) {
        if field.key().is_empty() || field.key().contains(['@', '$', '\0']) {
            field.error(
                "not the name of a collection: it is empty, or holds '@', '$' or a zero byte",
            );
        }
        single.insert(field.key().to_owned(), isolation_word(&field));
    }
    (default, single)
}

fn isolation_word(field: &Field<'_>) -> Isolation {
    let choices = [
        ("shared", Isolation::Shared),
        ("dedicated", Isolation::Dedicated),
    ];
    field.choice(&choices).unwrap_or_default()
}

fn credentials(
    section: &Section<'_>,
    secrets: &Secrets<'_>,
    usernames: &mut Vec<(String, Position)>,
) -> Vec<Credential> {
    let field = section.field("credentials");
    let items = field.as_ref().map_or_else(|| Some(Vec::new()), Field::list);
    let Some(items) = items else {
        return Vec::new();
    };
    if items.is_empty() {
        let at = field.map_or(section.at(), |field| field.at());
        section
            .sheet()
            .warning(at, "the app has no credential: nobody can log in");
    }
    items
        .iter()
        .filter_map(|item| credential(item, secrets, usernames))
        .collect()
}

fn credential(
    item: &Field<'_>,
    secrets: &Secrets<'_>,
    usernames: &mut Vec<(String, Position)>,
) -> Option<Credential> {
    let section = item.mapping(&[&["username", "password", "certificate_subject", "roles"]])?;
    let (username, proof) = if let Some(field) = section.field("certificate_subject") {
        let others = ["username", "password"].map(|key| section.field(key));
        for other in others.into_iter().flatten() {
            other.error("a credential with `certificate_subject` has no other name and no password; make two of it");
        }
        let subject = subject(&field).map(|subject| (subject, field.at()));
        (subject, Some(Proof::Certificate))
    } else {
        let username = section
            .required("username")
            .and_then(|field| Some((username(&field)?, field.at())));
        let password = section
            .required("password")
            .and_then(|field| secrets.read(&field, secret::always));
        (username, password.map(Proof::Password))
    };
    let roles = section.required("roles").and_then(|field| roles(&field));
    let (username, at) = username?;
    usernames.push((username.clone(), at));
    Some(Credential {
        username,
        proof: proof?,
        roles: roles?,
    })
}

/// A subject as MongoDB writes it; in any other form it would be no certificate's.
fn subject(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let is_text = text.chars().all(|c| c.is_ascii() && !c.is_ascii_control());
    let is_sized = (1..=SUBJECT_BYTES_MAX).contains(&text.len());
    let is_of_names = text
        .split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && !name.contains(['/', ',']));
    if !is_text || !is_sized || !is_of_names || has_spaced_comma(text) {
        field.error(&format!(
            "not a subject as MongoDB writes it: by RFC 2253, as in `CN=shop,OU=apps,O=Example`, the last part of the \
             certificate first, no space behind commas, other characters than ASCII as `\\C3\\A4`, at most \
             {SUBJECT_BYTES_MAX} bytes; `openssl x509 -noout -subject -nameopt RFC2253` prints it"
        ));
        return None;
    }
    Some(text.to_owned())
}

/// Whether a space follows a comma between two parts. A value that begins with a space has a backslash before it.
fn has_spaced_comma(subject: &str) -> bool {
    let mut before = None;
    subject.chars().any(|c| {
        let is_spaced = before == Some(',') && c == ' ';
        // What follows a backslash is a part of a value.
        before = (before != Some('\\')).then_some(c);
        is_spaced
    })
}

fn username(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.is_empty() || text.len() > USERNAME_BYTES_MAX || text.chars().any(char::is_control) {
        field.error(&format!(
            "a user name has 1 to {USERNAME_BYTES_MAX} bytes without control characters"
        ));
        return None;
    }
    Some(text.to_owned())
}

fn roles(field: &Field<'_>) -> Option<BTreeSet<Role>> {
    let items = field.list()?;
    if items.is_empty() {
        field.error("the list is empty; name at least one of read, readWrite, dbAdmin");
        return None;
    }
    let words = Role::ALL.map(|role| (role.as_str(), role));
    let roles: Vec<_> = items.iter().map(|item| item.choice(&words)).collect();
    roles.into_iter().collect()
}

const KEYS: &[&str] = &[
    "version",
    "slug",
    "name",
    "description",
    "status",
    "credentials",
    "isolation",
    "id_policy",
    "expose_scope_field",
    "indexes",
    "managed_indexes",
    "prune",
];

/// The name travels in every log-in and stands in logs.
const USERNAME_BYTES_MAX: usize = 256;
/// Authorities bound each part of a subject by 64 characters or so; it stands in logs as well.
const SUBJECT_BYTES_MAX: usize = 1024;
