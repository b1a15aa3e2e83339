//! `call_from_thread`: how long does a plain thread wait for a reply?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *The reply is not of this request*: it is the request's number plus one, and is checked.
//! - *The caller is not a plain thread*: calls are made on the calling thread, which belongs to no
//!   driver and no executor; whatever a peer needs to wait there is part of its answer.
//! - *Setting up the way back is left out*: a processor has many callers, so each request carries
//!   its own way back. A peer may keep it and clone it into each request if its documentation does.

use std::error::Error;

use mproc::{Cx, Handle, Node, Options, Outcome, Processor};

use crate::{
    harness::{Answer, Question, Stopwatch, Workload},
    report::MPROC,
};

/// Request and reply.
pub const FROM_THREAD: Question = Question {
    name: "call_from_thread",
    about: "a plain thread sends u64 and waits for the reply; ns per call",
};

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    let by = |variant, run| Workload {
        question: &FROM_THREAD,
        who: MPROC,
        variant,
        n: 200_000,
        run,
    };
    vec![by("default", mproc), by("pool", mproc_on_pool)]
}

struct Server;

impl Processor for Server {}

impl Handle<u64> for Server {
    type Reply = u64;

    fn handle(&mut self, request: u64, _: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
        Ok(reply_to(request))
    }
}

/// A processor on a thread of its own.
fn mproc(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let server = node.spawn_thread("server", Server)?;
    measure(n, |request| server.call(request).wait())
}

/// A processor on a pool of two threads.
fn mproc_on_pool(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let server = node.pool("pool", 2)?.spawn("server", Server)?;
    measure(n, |request| server.call(request).wait())
}

/// What the processor replies to a request.
#[inline]
pub fn reply_to(request: u64) -> u64 {
    request + 1
}

/// Measures `n` calls, one after the other.
///
/// # Errors
///
/// If a call fails or its reply is wrong.
pub fn measure<E: Into<Box<dyn Error>>>(
    n: u64,
    mut call: impl FnMut(u64) -> Result<u64, E>,
) -> Answer {
    // The first one is not counted: it finds the other side asleep, or not yet started.
    call(0).map_err(Into::into)?;
    let stopwatch = Stopwatch::start();
    for request in 0..n {
        let reply = call(request).map_err(Into::into)?;
        if reply != reply_to(request) {
            return Err(format!("reply {reply} came to request {request}").into());
        }
    }
    Ok(stopwatch.stop())
}
