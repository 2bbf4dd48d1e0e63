//! What the connection string says: to the driver, and to the proxy's own connections.

use std::sync::Arc;

use mdb_auth::{Mechanism, Secret};
use mongodb::{
    error::ErrorKind,
    options::{
        AuthMechanism, ClientOptions, ConnectionString, Credential, HostInfo, ServerAddress, Tls,
    },
};

use crate::{
    error::UpstreamError,
    handshake::{Connector, Login, ScramLogin, metadata},
    tls,
    upstream::UpstreamOptions,
};

/// Reads the connection string; for `mongodb+srv://` this asks the name servers.
pub(crate) async fn read(
    options: &UpstreamOptions,
) -> Result<(ClientOptions, Connector), UpstreamError> {
    let driver = self::options(&options.uri).await?;
    let tls = match &driver.tls {
        Some(Tls::Enabled(options)) => Some(tls::connector(options)?),
        _ => None,
    };
    let has_certificate = matches!(
        &driver.tls,
        Some(Tls::Enabled(options)) if options.cert_key_file_path.is_some()
    );
    let login = match &driver.credential {
        Some(credential) => Some(Arc::new(login(
            credential,
            driver.default_database.as_deref(),
            has_certificate,
        )?)),
        None => None,
    };
    let connector = Connector {
        tls,
        login,
        compressors: options.compressors,
        metadata: metadata(&options.proxy_name, &options.proxy_version),
    };
    Ok((driver, connector))
}

/// The part of it that the driver reads; for `mongodb+srv://` this asks the name servers.
pub(crate) async fn options(uri: &Secret) -> Result<ClientOptions, UpstreamError> {
    let uri = uri.expose();
    let driver = ClientOptions::parse(uri)
        .await
        .map_err(|error| UpstreamError::Uri {
            reason: reason(uri, &error.kind),
        })?;
    check_supported(&driver)?;
    Ok(driver)
}

fn check_supported(driver: &ClientOptions) -> Result<(), UpstreamError> {
    let unsupported = |what| Err(UpstreamError::Unsupported { what });
    if driver.load_balanced == Some(true) {
        return unsupported("loadBalanced=true");
    }
    if driver
        .hosts
        .iter()
        .any(|host| !matches!(host, ServerAddress::Tcp { .. }))
    {
        return unsupported("a Unix domain socket");
    }
    Ok(())
}

fn login(
    credential: &Credential,
    database: Option<&str>,
    has_certificate: bool,
) -> Result<Login, UpstreamError> {
    let unsupported = |what| Err(UpstreamError::Unsupported { what });
    let mechanism = match &credential.mechanism {
        None => None,
        Some(AuthMechanism::MongoDbX509) if !has_certificate => {
            return unsupported("MONGODB-X509 without tls=true and tlsCertificateKeyFile");
        }
        Some(AuthMechanism::MongoDbX509) => return Ok(Login::Certificate),
        Some(AuthMechanism::ScramSha1) => Some(Mechanism::ScramSha1),
        Some(AuthMechanism::ScramSha256) => Some(Mechanism::ScramSha256),
        Some(_) => return unsupported("an authMechanism other than SCRAM and MONGODB-X509"),
    };
    let (Some(user), Some(password)) = (&credential.username, &credential.password) else {
        return unsupported("a user without a password");
    };
    let source = credential.source.as_deref().or(database).unwrap_or("admin");
    Ok(Login::Scram(ScramLogin {
        user: user.clone(),
        password: Secret::new(password.clone()),
        source: source.to_owned(),
        mechanism,
        stretched: Arc::default(),
    }))
}

/// The driver's words, unless they might quote a part of the credentials: with a character in them that
/// should have been percent-encoded, any part of the string can be taken for any other.
fn reason(uri: &str, kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::DnsResolve { message, .. } => reason_of_names(uri, message),
        ErrorKind::InvalidArgument { message, .. } if FIXED_TEXTS.contains(&message.as_str()) => {
            message.clone()
        }
        _ if uri.contains('@') => {
            "it is not valid (user name and password must be percent-encoded, and options be known)"
                .to_owned()
        }
        _ => kind.to_string(),
    }
}

/// What is wrong with the records of a `mongodb+srv://`, where, and what to do about it.
fn reason_of_names(uri: &str, message: &str) -> String {
    let string = ConnectionString::parse(uri).unwrap_or_default();
    let HostInfo::DnsRecord(host) = &string.host_info else {
        return message.to_owned();
    };
    let service = string.srv_service_name.as_deref().unwrap_or("mongodb");
    let service = format!("_{service}._tcp.{host}");
    if message.contains(NO_RECORDS) {
        return format!(
            "the name servers have no SRV records of {service}: correct the host's name or srvServiceName, or create the \
             records (host names without such records belong into a mongodb://)"
        );
    }
    let is_about = |text: &str| message.contains(text);
    let advice = if is_about("domain name") {
        format!("all hosts of the SRV records of {service} must be of its own domain: correct them")
    } else if is_about("TXT") {
        format!(
            "{host} may have one TXT record, with authSource and replicaSet as in a connection string: correct it"
        )
    } else {
        format!(
            "the SRV records of {service} could not be asked for: look at the name servers in /etc/resolv.conf"
        )
    };
    format!("{advice} ({message})")
}

/// How the driver's text for a name without records begins.
const NO_RECORDS: &str = "no records found";

/// Texts of the driver in which nothing of the connection string stands.
const FIXED_TEXTS: &[&str] = &[
    "a port cannot be specified with 'mongodb+srv'",
    "exactly one host must be specified with 'mongodb+srv'",
    "srvMaxHosts and replicaSet cannot both be present",
    "srvMaxHosts cannot be specified with a non-SRV URI",
    "srvServiceName cannot be specified with a non-SRV URI",
];

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_uri(uri: &str) -> Result<(ClientOptions, Connector), UpstreamError> {
        read(&UpstreamOptions::new(Secret::new(uri.to_owned()))).await
    }

    #[tokio::test]
    async fn credentials_are_taken_from_the_string() {
        let cases = [
            ("mongodb://h:1", None),
            ("mongodb://u:p%40@h:1", Some(("u", "admin", None))),
            ("mongodb://u:p%40@h:1/shop", Some(("u", "shop", None))),
            (
                "mongodb://u:p%40@h:1/shop?authSource=users",
                Some(("u", "users", None)),
            ),
            (
                "mongodb://u:p%40@h:1/?authMechanism=SCRAM-SHA-1",
                Some(("u", "admin", Some(Mechanism::ScramSha1))),
            ),
        ];
        for (uri, expected) in cases {
            let (_, connector) = read_uri(uri).await.unwrap();
            let login = connector.login.as_deref();
            let found = login.map(|login| {
                let Login::Scram(login) = login else {
                    panic!("no password: {login:?}");
                };
                assert_eq!(login.password.expose(), "p@");
                (login.user.as_str(), login.source.as_str(), login.mechanism)
            });
            assert_eq!(found, expected, "{uri}");
        }
    }

    #[tokio::test]
    async fn what_is_not_supported_is_said() {
        for (uri, expected) in [
            ("mongodb://h:1/?loadBalanced=true", "loadBalanced"),
            ("mongodb://%2Ftmp%2Fx.sock", "Unix"),
            ("mongodb://u:p@h:1/?authMechanism=PLAIN", "SCRAM"),
            ("mongodb://u@h:1", "password"),
            (
                "mongodb://h:1/?authMechanism=MONGODB-X509",
                "tlsCertificateKeyFile",
            ),
            (
                "mongodb://h:1/?tls=true&tlsAllowInvalidCertificates=true",
                "tlsCAFile",
            ),
            ("postgres://h:1", "scheme"),
        ] {
            let text = read_uri(uri).await.unwrap_err().to_string();
            assert!(text.contains(expected), "{uri}: {text}");
        }
    }

    #[tokio::test]
    async fn errors_do_not_quote_passwords() {
        for uri in [
            "mongodb://user:pen?cil@h:1",
            "mongodb://user:pen@cil/x@h:1:2",
        ] {
            let error = read_uri(uri).await.unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("pen") && !text.contains("cil"), "{text}");
        }
    }
}
