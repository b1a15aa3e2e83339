//! `call_three_ways`: does it matter how a caller waits for a reply?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *The reply is not of this request*: as in [`call`](crate::call), it is the request's number plus one, and is checked.
//! - *The ways are measured against different servers*: the server is the same, on a thread of its own, and there is one call at
//!   a time.
//! - *An executor's own work is counted*: the awaited calls are made by one future, on the calling thread, with no other task.
//!   Peers that have no executor of their own are awaited on tokio's, in its form for one thread.
//! - *A continuation costs a thread what a wait costs a core*: with `then` the caller is a processor on a thread of its own, so
//!   that there are two threads in each way.

use std::sync::mpsc::{Sender, channel};

use mproc::{CallError, Cx, Fault, Handle, Node, Options, Outcome, Processor};

use crate::{
    call::{measure, reply_to},
    harness::{Answer, Question, Stopwatch, Workload},
    report::MPROC,
};

/// Request and reply, waited for in each way.
pub const THREE_WAYS: Question = Question {
    name: "call_three_ways",
    about: "u64 there and back, waited for by blocking, awaiting or continuing; ns per call",
};

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    let by = |variant, run| Workload {
        question: &THREE_WAYS,
        who: MPROC,
        variant,
        n: 200_000,
        run,
    };
    vec![by("wait", wait), by("await", awaited), by("then", then)]
}

struct Server;

impl Processor for Server {}

impl Handle<u64> for Server {
    type Reply = u64;

    fn handle(&mut self, request: u64, _: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
        Ok(reply_to(request))
    }
}

fn wait(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let server = node.spawn_thread("server", Server)?;
    measure(n, |request| server.call(request).wait())
}

fn awaited(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let server = node.spawn_thread("server", Server)?;
    node.run(measure_async(n, async |request| server.call(request).await))?
}

/// Calls the server again and again, each time when the reply has come.
struct Caller {
    server: mproc::Address<Server>,
    left: u64,
    over: Sender<Result<(), String>>,
}

struct Go(u64);

impl Processor for Caller {}

impl Handle<Go> for Caller {
    type Reply = ();

    fn handle(&mut self, Go(n): Go, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.left = n;
        self.next(cx);
        Ok(())
    }
}

impl Caller {
    fn next(&mut self, cx: &mut Cx<'_, Self>) {
        let request = self.left;
        self.server.call(request).then(cx, move |me, reply, cx| {
            me.replied(request, reply, cx)
                .map_err(|_| Fault::new("nobody measures"))
        });
    }

    fn replied(
        &mut self,
        request: u64,
        reply: Result<u64, CallError>,
        cx: &mut Cx<'_, Self>,
    ) -> Result<(), std::sync::mpsc::SendError<Result<(), String>>> {
        match reply {
            Ok(reply) if reply == reply_to(request) => {}
            other => {
                return self
                    .over
                    .send(Err(format!("{other:?} to request {request}")));
            }
        }
        self.left -= 1;
        if self.left == 0 {
            return self.over.send(Ok(()));
        }
        self.next(cx);
        Ok(())
    }
}

fn then(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let server = node.spawn_thread("server", Server)?;
    let (over, is_over) = channel();
    let caller = Caller {
        server,
        left: 0,
        over,
    };
    let caller = node.spawn_thread("caller", caller)?;
    // The first one is not counted, as in the other ways.
    caller.send(Go(1))?;
    is_over.recv()??;
    let stopwatch = Stopwatch::start();
    caller.send(Go(n))?;
    is_over.recv()??;
    Ok(stopwatch.stop())
}

/// As [`measure`], for calls that are awaited.
///
/// # Errors
///
/// As [`measure`].
pub async fn measure_async<E: Into<Box<dyn std::error::Error>>>(
    n: u64,
    mut call: impl AsyncFnMut(u64) -> Result<u64, E>,
) -> Answer {
    call(0).await.map_err(Into::into)?;
    let stopwatch = Stopwatch::start();
    for request in 0..n {
        let reply = call(request).await.map_err(Into::into)?;
        if reply != reply_to(request) {
            return Err(format!("reply {reply} came to request {request}").into());
        }
    }
    Ok(stopwatch.stop())
}
