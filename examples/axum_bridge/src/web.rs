//! The routes, and the server.

use crate::counter::{Add, Counter, SQUARE, TOTALS, Total};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt as _, stream};
use mproc::metrics::{CONTENT_TYPE, Collector};
use mproc::prelude::*;
use mproc::{CallError, Client, InExecutor, Options, ServiceError};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::future::IntoFuture as _;
use std::io;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How many changes wait for a browser that is slow. Then the oldest go, and it is told how many.
const WAITING_MAX: usize = 256;

/// How long requests that are in progress at the end may take.
const END_LIMIT: Duration = Duration::from_secs(10);

/// These options, for a node whose operations are awaited on tokio: blocking one of its threads is refused.
pub fn options(options: Options) -> Options {
    options
        .blocking_in_executor(InExecutor::Refuse)
        .inside_executor(|| tokio::runtime::Handle::try_current().is_ok())
}

/// Serves until `ends` is done. Then it takes no more connections, ends the streams of changes, and returns when the requests in
/// progress are answered, after 10 seconds at most. The node is still there then: its end comes after this.
///
/// # Errors
///
/// As accepting connections, and making the service's client.
pub async fn serve(
    listener: TcpListener,
    node: &Node,
    counter: Address<Counter>,
    ends: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (end, ending) = watch::channel(false);
    let bridge = Bridge {
        node: node.clone(),
        counter,
        square: node.client(SQUARE).map_err(io::Error::other)?,
        metrics: Collector::new(node),
        ending: ending.clone(),
    };
    let begins_to_end = async move {
        ends.await;
        end.send_replace(true);
    };
    let server = axum::serve(listener, routes(bridge)).with_graceful_shutdown(begins_to_end);
    let too_late = async {
        is_ending(ending).await;
        tokio::time::sleep(END_LIMIT).await;
    };
    tokio::select! {
        served = server.into_future() => served,
        () = too_late => Ok(()),
    }
}

/// Waits until the server is to end.
async fn is_ending(mut ending: watch::Receiver<bool>) {
    // An error says that the server is gone, which is an end, too.
    let _ = ending.wait_for(|is_ending| *is_ending).await;
}

/// What every request needs. All of it is cheap to clone.
#[derive(Clone)]
struct Bridge {
    node: Node,
    counter: Address<Counter>,
    square: Client<i64, i64>,
    metrics: Collector,
    ending: watch::Receiver<bool>,
}

fn routes(bridge: Bridge) -> Router {
    Router::new()
        .route("/", get(Html(include_str!("page.html"))))
        .route("/total", get(total))
        .route("/add", post(add))
        .route("/square/{n}", get(square))
        .route("/changes", get(changes))
        .route("/metrics", get(metrics))
        .with_state(bridge)
}

#[derive(Serialize)]
struct Answer {
    value: i64,
}

#[derive(Deserialize)]
struct ToAdd {
    n: i64,
}

async fn total(State(bridge): State<Bridge>) -> Result<Json<Answer>, Failure> {
    let value = bridge.counter.call(Total).await?;
    Ok(Json(Answer { value }))
}

/// If the browser goes meanwhile, axum drops this future, and that takes the call back if it was not handled yet.
async fn add(
    State(bridge): State<Bridge>,
    Json(ToAdd { n }): Json<ToAdd>,
) -> Result<Json<Answer>, Failure> {
    let value = bridge.counter.call(Add(n)).await?;
    Ok(Json(Answer { value }))
}

async fn square(State(bridge): State<Bridge>, Path(n): Path<i64>) -> Result<Json<Answer>, Failure> {
    let value = bridge.square.call(n).await?;
    Ok(Json(Answer { value }))
}

/// Subscribes before it answers: whatever is published after the answer's head has come is in the stream. Dropping the stream,
/// as axum does when the browser has gone, ends the subscription.
async fn changes(State(bridge): State<Bridge>) -> Result<Response, Failure> {
    // A browser never holds up the counter.
    let options = SubscriptionOptions::new()
        .capacity(WAITING_MAX)
        .when_full(WhenFull::DropOldest);
    let totals = bridge.node.subscription_with(&TOTALS, options)?;
    let events = events(totals).take_until(Box::pin(is_ending(bridge.ending)));
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response())
}

/// A snapshot waits for nobody, so it may be taken on one of tokio's threads.
async fn metrics(State(bridge): State<Bridge>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        bridge.metrics.text(),
    )
}

/// Each sample as an event `total`, after an event `missed` with the count if there is a gap before it.
fn events(totals: Subscription<i64>) -> impl Stream<Item = Result<Event, Infallible>> {
    totals.into_stream().flat_map(|sample| {
        let missed = (sample.gap() > 0).then(|| {
            let missed = sample.gap().to_string();
            Ok(Event::default().event("missed").data(missed))
        });
        let total = Event::default()
            .event("total")
            .id(sample.sequence().to_string())
            .data(sample.to_string());
        stream::iter(missed.into_iter().chain([Ok(total)]))
    })
}

/// Why a request has no answer: a status and a line of text.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let status = match error {
            CallError::Timeout => StatusCode::GATEWAY_TIMEOUT,
            CallError::Full | CallError::Dropped | CallError::Stopped(_) | CallError::Restarted => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let status = match error {
            ServiceError::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ServiceError::NoServer
            | ServiceError::Gone(_)
            | ServiceError::Full
            | ServiceError::Dropped
            | ServiceError::Closed => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<mproc::Error> for Failure {
    fn from(error: mproc::Error) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_slow_browser_is_told_how_many_changes_it_has_missed() {
        // The stream's signs of life need a timer of tokio.
        let tokio = tokio::runtime::Runtime::new().unwrap();
        let _inside = tokio.enter();
        let node = Node::simulated_with(1, Options::default());
        let counter = node.spawn_thread("counter", Counter::default()).unwrap();
        let (_end, ending) = watch::channel(false);
        let bridge = Bridge {
            counter,
            square: node.client(SQUARE).unwrap(),
            metrics: Collector::new(&node),
            node: node.clone(),
            ending,
        };
        let response = changes(State(bridge)).now_or_never().unwrap();
        let totals = node.publisher(&TOTALS).unwrap();
        let most = i64::try_from(WAITING_MAX).unwrap();
        for total in 1..=most + 3 {
            totals.publish(total).unwrap();
        }
        let Ok(response) = response else {
            panic!("there is no stream");
        };
        let mut body = response.into_body().into_data_stream();
        let mut next = || {
            let chunk = body.next().now_or_never().unwrap().unwrap().unwrap();
            String::from_utf8(chunk.to_vec()).unwrap()
        };
        assert_eq!(next(), "event: missed\ndata: 3\n\n");
        let first = next();
        assert!(first.starts_with("event: total\n"), "{first:?}");
        assert!(first.contains("data: 4\n"), "{first:?}");
        for total in 5..=most + 3 {
            let event = next();
            assert!(event.contains(&format!("data: {total}\n")), "{event:?}");
        }
    }
}
