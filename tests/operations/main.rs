//! One operation, waited for in several ways, and what each way promises.

mod executors;
mod in_executors;
mod interrupts;
mod panics;
mod places;
mod streams;
mod tickets;
mod unblocking;

use mproc::prelude::*;
use mproc::{Closure, Fault, Options, ReplyToken};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HALF: Duration = Duration::from_millis(500);
/// Longer than anything takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) const NUMBERS: Topic<u32> = Topic::new("numbers");

pub(crate) fn simulated(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

/// A real node with the documented capacities.
pub(crate) fn real() -> Node {
    Node::with_options(Options::default().call_limit(LONG).send_limit(LONG))
}

/// Answers each call half a second after it was handled.
pub(crate) struct Slow;

impl Processor for Slow {}

impl Handle<u32> for Slow {
    type Reply = u32;
    fn handle(&mut self, n: u32, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        let mut token: Option<ReplyToken<u32>> = None;
        let later = cx.reply_later(|t| token = Some(t));
        cx.after_with(HALF, move |_, _| {
            if let Some(token) = token {
                token.send(n);
            }
        });
        later
    }
}

pub(crate) type Squares = Address<Closure<u32, u32>>;

/// Answers with squares, at once.
pub(crate) fn squares(node: &Node) -> Squares {
    let square = closure(|n: u32, _cx| Ok::<_, Fault>(n * n));
    node.spawn_thread("squares", square).unwrap()
}

/// Polls a future once.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Counts how often it was woken.
#[derive(Default)]
pub(crate) struct Woken(AtomicUsize);

impl Woken {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        (woken.clone(), Waker::from(woken))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
