//! Services: a call by name, answered by one server, in this process or another.
//!
//! Within a node a service is a processor, and a call of it is a call to that: circles are found, places are exact, and values
//! move as they are. What is here adds the name, and the way to other nodes:
//!
//! ```text
//! client's node                                        server's node
//!                                      <----   Serve      (for each of its servers, when the nodes meet, and later)
//!   Request                            ---->   a call to the processor, made by the dispatcher
//!                                      <----   Taken      (now and then: so many have left the line for the mailbox)
//!   Cancel     (nobody waits any more) ---->   the call is dropped: taken back, or the handler can see it
//!                                      <----   Reply, or Failure
//!                                      <----   Unserve    (the server has ended)
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `registry.rs`, `state.rs` | who serves what, and who waits |
//! | `incoming.rs` | what other nodes do, and what each frame does |
//! | `session.rs` | the two links to one other node, and frames that wait for room |
//! | `links.rs` | services as a transport sees them |
//! | `frame.rs` | every byte |
//! | `dispatcher.rs` | the thread that takes frames |
//! | `serving.rs` | a request of another node, as a call here |
//! | `call.rs`, `slot.rs` | a call, and where its answer arrives |
//! | `client.rs`, `raw_client.rs`, `server.rs`, `local.rs` | what programs see |
//!
//! # How a session ends
//!
//! A session is made of a link to a node and one from it, with the transport's own rules for ends: what was queued is taken, then
//! comes the end. So replies that were sent before a server's node ended arrive, and whoever still waits after them is told at
//! once that it is gone. The requests of a node that is gone are cancelled as if it had said so.
//!
//! # Two servers of one name
//!
//! A node refuses a second server when it knows of the first, unless both are shared. Two that were made before their nodes had
//! met are compared when they do: the younger makes way. Both sides see the same: a Serve carries the time at which its server was
//! made, and a millisecond counts as the same time, where the nodes' own numbers decide. Until that is done clients call the
//! older.

mod call;
mod client;
mod dispatcher;
mod error;
mod frame;
mod incoming;
mod links;
mod local;
mod raw_client;
mod registry;
mod server;
mod serving;
mod session;
mod slot;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use error::ServiceError;
pub use raw_client::RawClient;
pub(crate) use registry::Registry;
pub use server::{ServeOptions, Served, Services};
pub use snapshot::ServiceSnapshot;
