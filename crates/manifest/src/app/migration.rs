//! Manifests of versions "1.0" and "2.0": which of their keys live on, and which have no effect in a proxy.
//!
//! Version "1.0" is "2.0" without what "2.0" added, so that one table serves both.

use std::collections::BTreeSet;

use super::{Credential, Role};
use crate::reader::{Field, Section, quoted};

/// Keys of the old form beside those of version "3.0".
pub(super) const OLD_KEYS: &[&str] = &["developer_id", "auth_policy"];

/// Top-level keys of the old form that described the application around the database. Nothing inside them has an effect.
pub(super) const KEYS_WITHOUT_EFFECT: &[&str] = &[
    "auth_required",
    "sub_auth",
    "auth",
    "token_management",
    "data_scope",
    "initial_data",
    "collection_settings",
    "embedding_config",
    "memory_config",
    "websockets",
    "cors",
    "observability",
    "pip_deps",
];

/// Keys of `auth_policy` that live on.
const POLICY_KEYS: &[&str] = &["roles", "owner_can_access"];

/// What the old form says that version "3.0" cannot.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) app_roles: Vec<String>,
    owner_can_access: bool,
}

/// Warns about every key without effect, by name: the leaves, since they are what somebody once chose.
pub(super) fn warn_without_effect(section: &Section<'_>) {
    for key in KEYS_WITHOUT_EFFECT {
        let Some(field) = section.field(key) else {
            continue;
        };
        match field.open_mapping_or_none() {
            Some(inner) => inner.fields().for_each(|field| without_effect(&field)),
            None => without_effect(&field),
        }
    }
}

/// Reads `auth_policy`. Its other keys are warned about.
pub(super) fn policy(section: &Section<'_>) -> Policy {
    let Some(inner) = section
        .field("auth_policy")
        .and_then(|field| field.open_mapping())
    else {
        return Policy::default();
    };
    inner
        .fields()
        .filter(|field| !POLICY_KEYS.contains(&field.key()))
        .for_each(|field| without_effect(&field));
    let roles = inner
        .field("roles")
        .and_then(|field| field.list())
        .unwrap_or_default();
    Policy {
        app_roles: roles
            .iter()
            .filter_map(|role| role.text().map(str::to_owned))
            .collect(),
        owner_can_access: inner
            .field("owner_can_access")
            .and_then(|field| field.boolean())
            .unwrap_or(false),
    }
}

/// Gives the owner's credential every role, if the policy lets the owner in.
pub(super) fn promote_owner(
    section: &Section<'_>,
    policy: &Policy,
    credentials: &mut [Credential],
) {
    let Some(field) = section.field("developer_id") else {
        return;
    };
    let Some(owner) = field.text() else { return };
    if !policy.owner_can_access {
        field.warning("has no effect without `auth_policy.owner_can_access: true`");
        return;
    }
    match credentials
        .iter_mut()
        .find(|credential| credential.username == owner)
    {
        Some(credential) => credential.roles = BTreeSet::from(Role::ALL),
        None => field.warning(&format!(
            "has no effect: no credential has the user name {}",
            quoted(owner)
        )),
    }
}

/// One key of the old form that a proxy has no use for.
pub(crate) fn without_effect(field: &Field<'_>) {
    field.warning("has no effect in a proxy; remove it");
}
