//! `/pool`: a page that shows a pool and keeps itself up to date through the public methods, as any other program would.
//! It loads nothing from elsewhere and may not: what a peer calls itself is hostile text.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Shared;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri \
                      'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/pool", get(|| file("text/html; charset=utf-8", include_str!("page/pool.html"))))
        .route("/pool.css", get(|| file("text/css; charset=utf-8", include_str!("page/pool.css"))))
        .route("/pool.js", get(|| file("text/javascript; charset=utf-8", include_str!("page/pool.js"))))
}

async fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the node brings another page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
