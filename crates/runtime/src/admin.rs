//! The HTTP face for those who run the proxy: `/metrics`, `/healthz`, `/readyz`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use mdb_indexer::declared::{Declared, Degraded};
use mdb_telemetry::Metrics;
use serde_json::{Value, json};

use crate::readiness::{Readiness, Unready};

#[derive(Debug, Clone)]
struct Admin {
    metrics: Metrics,
    readiness: Readiness,
    declared: Declared,
}

/// The routes. They show metrics with the names of apps, and never documents or secrets.
pub(crate) fn routes(metrics: Metrics, readiness: Readiness, declared: Declared) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Admin {
            metrics,
            readiness,
            declared,
        })
}

async fn render_metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, EXPOSITION)], admin.metrics.render())
}

/// 200 while the process lives, whatever becomes of the upstream: restarting a proxy does not mend a database.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let reasons = admin.readiness.reasons();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let words: Vec<_> = reasons.iter().copied().map(Unready::as_str).collect();
    let mut body = json!({ "ready": reasons.is_empty(), "reasons": words });
    let degraded: Vec<_> = admin.declared.degraded().iter().map(shown).collect();
    let mut warnings = Vec::new();
    if admin.readiness.has_failed_reload() {
        warnings.push("reload_failed");
    }
    if !degraded.is_empty() {
        warnings.push("indexes_degraded");
        body["degraded"] = degraded.into();
    }
    if !warnings.is_empty() {
        body["warnings"] = json!(warnings);
    }
    let json_type = [(header::CONTENT_TYPE, "application/json")];
    (status, json_type, format!("{body}\n"))
}

/// An index of a manifest that cannot be built. The proxy serves the app as before.
fn shown(degraded: &Degraded) -> Value {
    let Degraded {
        place,
        index,
        reason,
    } = degraded;
    json!({
        "app": place.app,
        "namespace": format!("{}.{}", place.database, place.collection),
        "index": index,
        "code": reason.code,
        "reason": reason.text,
    })
}

/// The content type of the text exposition format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use mdb_upstream::MemberKind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::readiness::tests::Causes;

    /// Status line and the rest of an answer.
    async fn ask(admin: &Admin, path: &str) -> (String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = routes(
            admin.metrics.clone(),
            admin.readiness.clone(),
            admin.declared.clone(),
        );
        let server = tokio::spawn(async { axum::serve(listener, router).await });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let question = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        let (status, rest) = answer.split_once("\r\n").unwrap();
        (status.to_owned(), rest.to_owned())
    }

    #[tokio::test]
    async fn readiness_follows_its_causes_and_health_does_not() {
        let causes = Causes::new();
        let admin = Admin {
            metrics: Metrics::new(),
            readiness: causes.readiness(),
            declared: Declared::default(),
        };
        let (status, rest) = ask(&admin, "/readyz").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert!(rest.contains("content-type: application/json"), "{rest}");
        assert!(rest.ends_with("{\"ready\":false,\"reasons\":[\"upstream_not_reached\"]}\n"));
        causes.reach();
        causes.set_member(MemberKind::Primary);
        let (status, rest) = ask(&admin, "/readyz").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(rest.ends_with("{\"ready\":true,\"reasons\":[]}\n"));
        admin.readiness.set_failed_reload(true);
        let (status, rest) = ask(&admin, "/readyz").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let warned = "{\"ready\":true,\"reasons\":[],\"warnings\":[\"reload_failed\"]}\n";
        assert!(rest.ends_with(warned), "{rest}");
        admin.readiness.set_failed_reload(false);
        causes.drain.cancel();
        let (status, rest) = ask(&admin, "/readyz").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert!(rest.contains("[\"draining\"]"), "{rest}");
        let (status, rest) = ask(&admin, "/healthz").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(rest.ends_with("\r\n\r\nok\n"));
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format_and_other_paths_are_unknown() {
        let admin = Admin {
            metrics: Metrics::new(),
            readiness: Causes::new().readiness(),
            declared: Declared::default(),
        };
        let (status, rest) = ask(&admin, "/metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(rest.contains(&format!("content-type: {EXPOSITION}")));
        let (_, body) = rest.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, admin.metrics.render());
        let (status, _) = ask(&admin, "/").await;
        assert_eq!(status, "HTTP/1.1 404 Not Found");
    }
}
