//! The right to see one app's documents, and the conditions that carry it.

use std::borrow::Cow;
use std::fmt;

use mdb_wire::{Document, Element, Kind, Writer};

use crate::app::AppId;
use crate::facts::{ASIDE, Aside, Isolation};
use crate::refusal::Refusal;
use crate::session::SessionCipher;

/// Bytes of the longest scope field's name.
const FIELD_BYTES_MAX: usize = 64;

/// The name of the field that carries the app, checked: top level, no operator, not `_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldName(Box<str>);

/// A text that cannot name the scope field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the scope field: 1 to 64 bytes, no '.', no '$', no zero byte, not '_id', no leading '~'"
)]
pub struct FieldNameError(pub String);

impl FieldName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, FieldNameError> {
        let legal = !name.is_empty()
            && name.len() <= FIELD_BYTES_MAX
            && !name.contains(['.', '$', '\0'])
            && !name.starts_with('~')
            && name != "_id";
        if legal {
            Ok(Self(name.into()))
        } else {
            Err(FieldNameError(name.to_owned()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a dotted path begins at the field.
    pub(crate) fn begins(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.0.as_bytes())
            .is_some_and(|rest| rest.first().is_none_or(|&c| c == b'.'))
    }
}

/// Which `_id` values an app may bring into shared collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdPolicy {
    /// Any. Guessable ones may be another app's already, which 11000 then tells.
    #[default]
    Any,
    /// ObjectIds and UUIDs, which do not collide.
    RandomOnly,
}

/// The right to see the documents of one app. Everything that is forwarded for the app goes through
/// [`Scope::apply`](crate::Scope::apply).
pub struct Scope {
    app: AppId,
    field: FieldName,
    is_hidden: bool,
    id_policy: IdPolicy,
    sessions: SessionCipher,
    /// The element `app_id: SLUG`.
    element: Vec<u8>,
    /// `\ASLUG\z`: equality that no collation loosens.
    pattern: String,
    /// `@SLUG`. No client can say a name with `@`, and no slug has one.
    suffix: Box<str>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("app", &self.app)
            .field("field", &self.field)
            .finish_non_exhaustive()
    }
}

impl Scope {
    /// `session_key` must be the same in every proxy of the deployment, and another for each app.
    pub fn new(app: AppId, field: FieldName, is_hidden: bool, session_key: [u8; 16]) -> Self {
        let mut writer = Writer::default();
        writer.string(field.as_str().as_bytes(), app.as_str());
        // Slugs hold nothing that a regular expression reads as more than itself (`-` means something in brackets only).
        let pattern = format!("\\A{}\\z", app.as_str());
        Self {
            sessions: SessionCipher::new(session_key),
            element: writer.into_bytes(),
            pattern,
            suffix: format!("@{}", app.as_str()).into(),
            is_hidden,
            id_policy: IdPolicy::default(),
            field,
            app,
        }
    }

    /// The same with a policy for `_id` values.
    #[must_use]
    pub fn with_id_policy(self, id_policy: IdPolicy) -> Self {
        Self { id_policy, ..self }
    }

    /// Which `_id` values the app may bring into shared collections.
    pub fn id_policy(&self) -> IdPolicy {
        self.id_policy
    }

    /// Whose documents.
    pub fn app(&self) -> &AppId {
        &self.app
    }

    /// The field that carries the app.
    pub fn field(&self) -> &FieldName {
        &self.field
    }

    /// Whether replies leave the field out.
    pub fn is_hidden(&self) -> bool {
        self.is_hidden
    }

    /// How session ids are mapped.
    pub fn sessions(&self) -> &SessionCipher {
        &self.sessions
    }

    /// The name upstream of one of the app's collections.
    pub fn physical_collection<'n>(&self, name: &'n str, isolation: Isolation) -> Cow<'n, str> {
        match isolation {
            Isolation::Shared => Cow::Borrowed(name),
            Isolation::Dedicated => Cow::Owned(format!("{name}{}", self.suffix)),
        }
    }

    /// The app's name of a physical collection that is its own; `None` for any other.
    pub fn dedicated_name<'n>(&self, physical: &'n str) -> Option<&'n str> {
        let name = physical.strip_suffix(&*self.suffix)?;
        (!name.is_empty()).then_some(name)
    }

    /// A name for what a `$out` writes on the way to a shared collection. `random` keeps several apart. It holds `@`, which
    /// no client can say, and ends with it, which no name of an app's own collection does.
    pub fn aside(&self, random: u128) -> Aside {
        Aside(format!("{ASIDE}{}@{random:032x}@", self.app()).into())
    }

    /// What the physical names of the app's own collections end with.
    pub(crate) fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Bytes that stamping adds to a document.
    pub fn stamp_bytes(&self) -> usize {
        self.element.len()
    }

    /// The element `app_id: SLUG`.
    pub(crate) fn stamp_element(&self) -> &[u8] {
        &self.element
    }

    /// Writes the element `app_id: SLUG`.
    pub(crate) fn stamp(&self, w: &mut Writer) {
        w.raw(&self.element);
    }

    /// Whether a value is the app's own: a string of exactly its bytes. A symbol compares equal on the server, an array
    /// that holds the slug matches; neither is the own value.
    pub(crate) fn owns(&self, value: &Element<'_>) -> bool {
        value.kind == Kind::String && value.as_string() == Some(self.app.as_str().as_bytes())
    }

    /// Whether a predicate on the scope field says no more than what holds anyway: the own value, plain, in `$eq`,
    /// or alone in `$in`.
    pub(crate) fn is_own_predicate(&self, value: &Element<'_>) -> bool {
        if self.owns(value) {
            return true;
        }
        let Some(document) = value.as_document() else {
            return false;
        };
        let mut elements = document.elements();
        let (Some(operator), None) = (elements.next(), elements.next()) else {
            return false;
        };
        match operator.key {
            b"$eq" => self.owns(&operator),
            b"$in" => operator.as_array().is_some_and(|array| {
                let mut values = array.elements();
                matches!((values.next(), values.next()), (Some(only), None) if self.owns(&only))
            }),
            _ => false,
        }
    }

    /// Writes the app's condition as a filter under `key`, joined to what `write_user` writes of the client's filter, if
    /// there is anything.
    ///
    /// The client's filter stands as one whole in an `$and`: no key in it can meet the condition's. Under a collation
    /// other than `simple` equality is what the collation says (strength 1 takes `a` for `A`), so an anchored regular
    /// expression, which no collation touches, stands beside it; the equality stays, as it feeds upserts.
    pub(crate) fn filter(
        &self,
        w: &mut Writer,
        key: &[u8],
        is_collated: bool,
        write_user: Option<impl FnOnce(&mut Writer) -> Result<(), Refusal>>,
    ) -> Result<(), Refusal> {
        let filter = w.begin_document(key);
        if write_user.is_none() && !is_collated {
            self.stamp(w);
            w.end(filter);
            return Ok(());
        }
        let and = w.begin_array(b"$and");
        let condition = w.begin_document(b"0");
        self.stamp(w);
        w.end(condition);
        if is_collated {
            let condition = w.begin_document(b"1");
            w.regex(self.field.as_str().as_bytes(), &self.pattern);
            w.end(condition);
        }
        if let Some(write_user) = write_user {
            let user = w.begin_document(if is_collated { b"2" } else { b"1" });
            write_user(w)?;
            w.end(user);
        }
        w.end(and);
        w.end(filter);
        Ok(())
    }

    /// A read of the hidden field where the app cannot mean its own.
    pub(crate) fn reserved(&self) -> Refusal {
        let field = self.field.as_str();
        Refusal::bad_value(format!(
            "field '{field}' is reserved: it belongs to the proxy; name the app's own field otherwise"
        ))
    }

    /// A change of the field.
    pub(crate) fn immutable(&self) -> Refusal {
        let field = self.field.as_str();
        Refusal::immutable_field(format!(
            "field '{field}' is reserved and cannot be changed: it belongs to the proxy; name the app's own field otherwise"
        ))
    }
}

/// Refuses a document in which a field stands twice, where that matters: server parsers disagree about which one counts, and two
/// `from` in one `$lookup` end a mongod 4.4 to 6.0 as a whole.
pub(crate) fn no_repeats(document: Document<'_>, what: &str) -> Result<(), Refusal> {
    match document.repeated_key() {
        None => Ok(()),
        Some(key) => Err(Refusal::repeated_field(format!(
            "field '{}' stands twice in {what}; a field may stand once only",
            String::from_utf8_lossy(key)
        ))),
    }
}
