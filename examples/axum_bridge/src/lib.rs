//! A small web service, with axum on tokio, in front of processors.
//!
//! | request             | what it does                                   |
//! |---------------------|------------------------------------------------|
//! | `GET /`             | the page, for a browser                        |
//! | `GET /total`        | calls a processor                              |
//! | `POST /add`         | calls a processor, which publishes its total   |
//! | `GET /square/{n}`   | calls a service, here or in another process    |
//! | `GET /changes`      | streams the topic as server-sent events        |
//! | `GET /metrics`      | what the node counts, for Prometheus           |
//!
//! The handlers are tokio's, and await; processors run on drivers of their own. Nothing here locks, and no handler blocks one
//! of tokio's threads: the node is told to refuse that ([`options`]).

mod counter;
mod web;

pub use counter::{Add, Counter, SQUARE, TOTALS, Total, square};
pub use web::{options, serve};
