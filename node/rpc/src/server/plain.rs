//! `/health`, `/ready` and `/metrics`, for service managers and monitoring.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;

use super::Shared;

/// A question to the node that may wait for it. However many ask, one thread waits at a time, and none of those that
/// carry the connections: those who come meanwhile share the next answer.
#[derive(Debug)]
pub(super) struct Question<T>(Arc<Mutex<Option<Answered<T>>>>);

/// An answer, and when it was begun.
#[derive(Debug)]
struct Answered<T> {
    begun: Instant,
    answer: Result<T, String>,
}

impl<T: Clone + Send + 'static> Question<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// The answer of `ask`, begun after this was called.
    async fn answer(&self, ask: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
        let came = Instant::now();
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some(fresh) = last.as_ref().filter(|answered| answered.begun >= came) {
            return fresh.answer.clone();
        }
        // The thread holds the lock: whoever goes away meanwhile does not start a second one.
        let asked = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let answer = ask();
            *last = Some(Answered { begun, answer: answer.clone() });
            answer
        });
        asked.await.unwrap_or_else(|_| Err("the node's answer failed; its log says more".into()))
    }
}

fn response(answer: Result<(), String>) -> Response {
    match answer {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let probe = Arc::clone(&shared.probe);
    response(shared.health.answer(move || probe.health()).await)
}

pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let probe = Arc::clone(&shared.probe);
    response(shared.ready.answer(move || probe.ready()).await)
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let registry = Arc::clone(&shared.registry);
    let encode = move || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).map_err(|e| e.to_string())?;
        Ok(text)
    };
    match shared.metrics.answer(encode).await {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
