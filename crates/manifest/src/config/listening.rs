//! From the list `listen` to [`Listener`]s.

use std::path::Path;

use super::reading::{address, flag, path};
use super::{ClientCertificates, FileReference, Listener, ListenerTls};
use crate::reader::{Field, Section};

/// At least one, or the sheet has the problem. Relative paths begin at `directory`.
pub(super) fn listeners(field: &Field<'_>, directory: &Path) -> Vec<Listener> {
    let Some(items) = field.list() else {
        return Vec::new();
    };
    if items.is_empty() {
        field.error("no client can connect without a listener; leave the key out or name one");
    }
    let listener = |item: &Field<'_>| {
        let section = item.mapping(&[KEYS])?;
        let tls = section
            .field("tls")
            .and_then(|field| tls(&field.mapping(&[TLS_KEYS])?, directory));
        Some(Listener {
            proxy_protocol: flag(&section, "proxy_protocol"),
            reuse_port: flag(&section, "reuse_port"),
            address: address(&section.required("address")?)?,
            tls,
        })
    };
    items.iter().filter_map(listener).collect()
}

fn tls(section: &Section<'_>, directory: &Path) -> Option<ListenerTls> {
    let certificate = section
        .required("certificate")
        .and_then(|field| file(&field, directory));
    let key = section.field("key").map(|field| file(&field, directory));
    let client_certificates = client_certificates(section, directory);
    let certificate = certificate?;
    Some(ListenerTls {
        key: key.unwrap_or_else(|| Some(certificate.clone()))?,
        certificate,
        client_certificates: client_certificates?,
    })
}

/// The two keys go together: a check against no authority, or an authority without a check, is not what anybody means.
fn client_certificates(section: &Section<'_>, directory: &Path) -> Option<ClientCertificates> {
    let wish = section.field("client_certificates");
    let authorities = section.field("client_ca");
    let words = [
        ("off", Wish::Off),
        ("optional", Wish::Optional),
        ("required", Wish::Required),
    ];
    let wished = match &wish {
        Some(field) => field.choice(&words)?,
        None => Wish::Off,
    };
    match (wished, authorities) {
        (Wish::Off, None) => Some(ClientCertificates::Off),
        (Wish::Off, Some(authorities)) => {
            authorities.error(
                "no certificate is asked of clients; write `client_certificates: required` or `optional`",
            );
            None
        }
        (Wish::Optional | Wish::Required, None) => {
            let field = wish?;
            field.error("name the authorities of the clients' certificates in `client_ca`");
            None
        }
        (Wish::Optional, Some(field)) => {
            Some(ClientCertificates::Optional(file(&field, directory)?))
        }
        (Wish::Required, Some(field)) => {
            Some(ClientCertificates::Required(file(&field, directory)?))
        }
    }
}

#[derive(Clone, Copy)]
enum Wish {
    Off,
    Optional,
    Required,
}

fn file(field: &Field<'_>, directory: &Path) -> Option<FileReference> {
    Some(FileReference {
        path: directory.join(path(field)?),
        line: field.at().line,
    })
}

const KEYS: &[&str] = &["address", "proxy_protocol", "reuse_port", "tls"];

const TLS_KEYS: &[&str] = &["certificate", "key", "client_ca", "client_certificates"];
