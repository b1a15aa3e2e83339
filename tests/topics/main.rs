//! Topics, from outside: every claim of the design about publishing and subscribing within one process.
//!
//! | file | subject |
//! |---|---|
//! | `samples.rs` | one sample for all, in order; what it carries, and how long it lives |
//! | `policies.rs` | full queues under each policy, and who holds whom back |
//! | `leases.rs` | samples that are held: in flight, flush, leases |
//! | `history.rs` | history for those who come late, pauses, filters |
//! | `names.rs` | names, types, wiring |
//! | `ends.rs` | who comes and goes, silence, and the end of a node |
//! | `pulling.rs` | subscriptions that are pulled: select, channels, receivers that wait |
//! | `in_handlers.rs` | publishing inside handlers |
//! | `dynamic.rs` | dynamic messages |
//! | `listeners.rs` | values of typed topics as dynamic messages |

mod dynamic;
mod ends;
mod history;
mod in_handlers;
mod leases;
mod listeners;
mod names;
mod policies;
mod pulling;
mod samples;

use mproc::prelude::*;
use mproc::{Data, Msg, Outcome, SubscriptionSnapshot};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

const NUMBERS: Topic<u32> = Topic::new("numbers");
const OTHERS: Topic<u32> = Topic::new("others");
const WORDS: Topic<String> = Topic::new("words");
const SECOND: Duration = Duration::from_secs(1);

fn options() -> SubscriptionOptions<u32> {
    SubscriptionOptions::new()
}

fn values(subscription: &Subscription<u32>) -> Vec<u32> {
    subscription.try_iter().map(|n| *n).collect()
}

fn values_and_gaps(subscription: &Subscription<u32>) -> Vec<(u32, u64)> {
    subscription.try_iter().map(|n| (*n, n.gap())).collect()
}

#[track_caller]
fn assert_conserved(s: &SubscriptionSnapshot) {
    assert_eq!(
        s.offered,
        s.taken + s.dropped.total() + s.refused + s.queued,
        "{s:?}"
    );
}

/// Counts how often it is cloned.
struct Precious(Arc<AtomicUsize>);
impl Clone for Precious {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::SeqCst);
        Self(self.0.clone())
    }
}
const PRECIOUS: Topic<Precious> = Topic::local("precious");

/// Tells what reaches it, and how; answers what is sent to it.
struct Peer(mpsc::Sender<(&'static str, Msg)>);
impl Processor for Peer {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe_msgs(TopicId::new(7, 1)).call(|me, m, _| {
            me.0.send(("7:1", m.into_owned()))?;
            Ok(())
        })?;
        cx.subscribe_mid(8).call(|me, m, _| {
            me.0.send(("8:*", m.into_owned()))?;
            Ok(())
        })?;
        Ok(())
    }
}
impl Handle<Msg> for Peer {
    type Reply = ();
    fn handle(&mut self, msg: Msg, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if msg.status == 0 {
            Node::from(&*cx).send(msg.reply(1, Data::Bytes(b"yes"[..].into())))?;
        }
        self.0.send(("direct", msg))?;
        Ok(())
    }
}

/// A node whose queues have their ordinary room whatever `MPROC_CAPACITY` says: for claims that need several places.
fn roomy(seed: u64) -> Node {
    Node::simulated_with(seed, mproc::Options::default())
}
