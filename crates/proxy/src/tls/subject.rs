//! The subject of a certificate as MongoDB writes it: the name of a user who logs in by it.

use std::borrow::Cow;

use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate, X509Name};

/// The subject of a certificate in DER. `None` where it is empty, or holds what a server does not write so that it could
/// only be this: nobody has such a name.
pub(super) fn of(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    written(certificate.subject())
}

/// RFC 2253 as mongod 4.4 to 6.0 write it: everything backwards, the parts of a multi-valued name too.
fn written(subject: &X509Name<'_>) -> Option<String> {
    let names: Vec<_> = subject.iter_rdn().collect();
    let mut text = String::new();
    for name in names.into_iter().rev() {
        let mut separator = ",";
        let parts: Vec<_> = name.iter().collect();
        for part in parts.into_iter().rev() {
            if !text.is_empty() {
                text.push_str(separator);
            }
            text.push_str(&short_name(part));
            text.push('=');
            escape(&value(part)?, &mut text);
            separator = "+";
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The text of a part, of whatever kind of string.
///
/// Of kinds of two and four bytes a character, mongod 6.0.5 keeps the lowest byte of each: a BMPString `aŁb` is the user
/// `aAb` to it, and where that byte is beyond ASCII it closes the connection. It leaves NUL out and writes a line break as
/// a space. So these kinds are taken with ASCII only, and control characters not at all.
fn value<'a>(part: &AttributeTypeAndValue<'a>) -> Option<Cow<'a, str>> {
    let bytes = part.attr_value().data;
    let text: Cow<'_, str> = match part.attr_value().tag() {
        Tag::BmpString => narrow::<2>(bytes)?.into(),
        Tag::UniversalString => narrow::<4>(bytes)?.into(),
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::NumericString
        | Tag::Ia5String
        | Tag::VisibleString
        | Tag::TeletexString => std::str::from_utf8(bytes).ok()?.into(),
        _ => return None,
    };
    let is_plain = !text.chars().any(char::is_control);
    is_plain.then_some(text)
}

/// Characters of `N` bytes each, the highest first, all of them ASCII.
fn narrow<const N: usize>(bytes: &[u8]) -> Option<String> {
    let (characters, []) = bytes.as_chunks::<N>() else {
        return None;
    };
    let narrowed = characters.iter().map(|character| {
        let (low, high) = character.split_last()?;
        let is_ascii = low.is_ascii() && high.iter().all(|byte| *byte == 0);
        is_ascii.then_some(char::from(*low))
    });
    narrowed.collect()
}

fn short_name(part: &AttributeTypeAndValue<'_>) -> String {
    let id = part.attr_type().to_id_string();
    let known = SHORT_NAMES.iter().find(|(known, _)| *known == id);
    known.map_or(id, |(_, name)| (*name).to_owned())
}

fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => text.push('\\'),
            b' ' if at == 0 || at == last => text.push('\\'),
            b'#' if at == 0 => text.push('\\'),
            _ => {}
        }
        if byte.is_ascii() {
            text.push(char::from(byte));
        } else {
            let digit = |digit: u8| char::from(HEX[usize::from(digit & 0xf)]);
            text.extend(['\\', digit(byte >> 4), digit(byte)]);
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// As OpenSSL names them; anything else stands there by its number.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.72", "role"),
    ("2.5.4.97", "organizationIdentifier"),
];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    /// Number and value.
    type Part = (&'static [u64], &'static str);

    fn subject(parts: &[Part]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (id, value) in parts {
            let kind = DnType::CustomDnType(id.to_vec());
            params
                .distinguished_name
                .push(kind, DnValue::Utf8String((*value).to_owned()));
        }
        let key = KeyPair::generate().unwrap();
        of(params.self_signed(&key).unwrap().der())
    }

    fn named(name: DnValue) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        of(params.self_signed(&key).unwrap().der())
    }

    /// As mongod 6.0.5 calls such certificates, or `None` where it closes the connection or takes them for another's.
    #[test]
    fn other_kinds_of_strings_are_read_where_they_can_only_be_one_name() {
        let bmp = |text: &str| DnValue::BmpString(text.try_into().unwrap());
        let universal = |text: &str| DnValue::UniversalString(text.try_into().unwrap());
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        for (name, expected) in [
            (bmp("shop"), Some("CN=shop")),
            (bmp("a,b=#"), Some("CN=a\\,b=#")),
            (universal("shop"), Some("CN=shop")),
            (
                DnValue::TeletexString("shop".try_into().unwrap()),
                Some("CN=shop"),
            ),
            (
                DnValue::Ia5String("shop".try_into().unwrap()),
                Some("CN=shop"),
            ),
            (
                DnValue::PrintableString("shop".try_into().unwrap()),
                Some("CN=shop"),
            ),
            // "CN=aAb" there.
            (bmp("aŁb"), None),
            (bmp("€"), None),
            (universal("ü"), None),
            // "CN=ab" there.
            (utf8("a\0b"), None),
            (bmp("a\0b"), None),
            // "CN=a b" there.
            (utf8("a\nb"), None),
        ] {
            assert_eq!(named(name.clone()).as_deref(), expected, "{name:?}");
        }
    }

    /// What a mongod (4.4.2 and 6.0.5) called the same certificates.
    #[test]
    fn a_subject_is_written_as_a_server_writes_it() {
        const DC: &[u64] = &[0, 9, 2342, 19_200_300, 100, 1, 25];
        const UID: &[u64] = &[0, 9, 2342, 19_200_300, 100, 1, 1];
        let cases: &[(&[Part], Option<&str>)] = &[
            (
                &[
                    (&[2, 5, 4, 6], "DE"),
                    (&[2, 5, 4, 8], "Berlin"),
                    (&[2, 5, 4, 9], "Weg 1"),
                    (&[2, 5, 4, 10], "Ex, Ample+More=\"x\"<y>;z\\q"),
                    (&[2, 5, 4, 11], "apps"),
                    (&[2, 5, 4, 3], "shop"),
                ],
                Some(
                    "CN=shop,OU=apps,O=Ex\\, Ample\\+More=\\\"x\\\"\\<y\\>\\;z\\\\q,street=Weg 1,ST=Berlin,C=DE",
                ),
            ),
            (
                &[
                    (DC, "org"),
                    (&[2, 5, 4, 10], " lead trail "),
                    (&[2, 5, 4, 11], "#hash"),
                    (UID, "ann"),
                    (&[2, 5, 4, 3], "Käthe"),
                ],
                Some("CN=K\\C3\\A4the,UID=ann,OU=\\#hash,O=\\ lead trail\\ ,DC=org"),
            ),
            (
                &[(&[2, 5, 4, 10], "#"), (&[2, 5, 4, 3], " ")],
                Some("CN=\\ ,O=\\#"),
            ),
            (&[(&[1, 2, 3, 4, 5], "odd")], Some("1.2.3.4.5=odd")),
            (&[], None),
        ];
        for (parts, expected) in cases {
            assert_eq!(subject(parts).as_deref(), *expected);
        }
        assert_eq!(of(b"no certificate"), None);
    }
}
