//! A service that runs, and a stream of its changes.

use futures_util::{Stream, StreamExt as _};
use mproc::prelude::*;
use mproc::{Options, Server};
use mproc_axum_bridge::{Counter, SQUARE, options, serve, square};
use reqwest::{Client, RequestBuilder, StatusCode};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long anything that is waited for may take. Far more than it does.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Waits, at most for [`LIMIT`].
pub(crate) async fn within_limit<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("it takes too long: {what}"),
    }
}

/// The web service, in this process, at an address of its own.
pub(crate) struct Service {
    pub(crate) node: Node,
    pub(crate) counter: Address<Counter>,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    end: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        let node = Node::with_options(options(Options::default().call_limit(LIMIT)));
        let counter = node.spawn_thread("counter", Counter::default()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ends) = oneshot::channel();
        let (its_node, its_counter) = (node.clone(), counter.clone());
        let server = tokio::spawn(async move {
            let ends = async {
                // The test is over if it does not say so.
                let _ = ends.await;
            };
            serve(listener, &its_node, its_counter, ends).await
        });
        Self {
            node,
            counter,
            address,
            client: client(),
            end,
            server,
        }
    }

    /// Its other service, which a test may also serve by itself.
    pub(crate) fn serve_square(&self) -> Server<i64, i64> {
        self.node.serve(SQUARE, square).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    pub(crate) fn add(&self, n: i64) -> RequestBuilder {
        let url = format!("http://{}/add", self.address);
        self.client.post(url).json(&serde_json::json!({ "n": n }))
    }

    /// Tells it to end. Returns what waits for its end.
    pub(crate) fn end(self) -> impl Future<Output = ()> {
        self.end.send(()).unwrap();
        async { self.server.await.unwrap().unwrap() }
    }
}

/// One that speaks to this machine only.
pub(crate) fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// The status of the answer, and its body.
pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, String) {
    within_limit("an answer", async {
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    })
    .await
}

/// What `/add`, `/total` and `/square` answer if all is well.
pub(crate) async fn value(request: RequestBuilder) -> i64 {
    let (status, body) = answer(request).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    body["value"].as_i64().unwrap()
}

type Chunks = Pin<Box<dyn Stream<Item = reqwest::Result<Vec<u8>>> + Send>>;

/// A stream of server-sent events. Dropping it closes the connection.
pub(crate) struct Changes {
    chunks: Chunks,
    text: String,
}

impl Changes {
    /// Returns when the head of the answer has come.
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = within_limit("the stream", request.send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let chunks = response.bytes_stream().map(|chunk| Ok(chunk?.to_vec()));
        Self {
            chunks: Box::pin(chunks),
            text: String::new(),
        }
    }

    /// The lines of the next event; `None` at an orderly end of the stream.
    async fn event(&mut self) -> Option<Vec<String>> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let lines: Vec<_> = event.lines().map(str::to_owned).collect();
                self.text = rest.to_owned();
                // A line that begins with a colon is a sign of life.
                if lines.iter().any(|line| !line.starts_with(':')) {
                    return Some(lines);
                }
                continue;
            }
            let chunk = self.chunks.next().await?;
            self.text += std::str::from_utf8(&chunk.unwrap()).unwrap();
        }
    }

    /// The number of the next event, and its total.
    pub(crate) async fn total(&mut self) -> Option<(u64, i64)> {
        let lines = within_limit("an event", self.event()).await?;
        let field = |name: &str| {
            let mut values = lines.iter().filter_map(|line| line.strip_prefix(name));
            values.next().unwrap_or_else(|| panic!("{lines:?}"))
        };
        assert_eq!(field("event: "), "total");
        Some((
            field("id: ").parse().unwrap(),
            field("data: ").parse().unwrap(),
        ))
    }
}
