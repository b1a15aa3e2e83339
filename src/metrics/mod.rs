//! What a node counts, as metrics in the text format of OpenMetrics, which Prometheus and its kin read.
//!
//! The figures are those of [`Node::snapshot`]: nothing is counted twice, and nothing is done while messages go. A scrape costs
//! one snapshot. A program that has metrics of its own registers a [`Collector`] with them; one that has none keeps a
//! `Collector` and serves its [`text`](Collector::text).
//!
//! # Examples
//!
//! ```
//! use mproc::metrics::Collector;
//! use mproc::prelude::*;
//! use prometheus_client::{encoding::text::encode, registry::Registry};
//!
//! let node = Node::simulated(1);
//! let printer = node.spawn_thread("printer", closure(|page: u32, _cx| println!("page {page}")))?;
//! let mut registry = Registry::default(); // the program's own
//! registry.register_collector(Box::new(Collector::new(&node)));
//!
//! printer.send(1)?;
//! node.settle();
//! let mut text = String::new();
//! encode(&mut text, &registry)?;
//! assert!(text.contains("mproc_processor_messages_handled_total{processor=\"printer\",driver=\"printer\"} 1\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Series
//!
//! Of a kind of things (processors, drivers, topics, publishers, subscriptions, services) at most 1000 are shown one by one:
//! the busiest ([`Collector::shown_max`]). How many are not is in `mproc_left_out`, and the figures of the node are those of
//! all. Processors that have ended stay in the figures of the node; the series of whatever has ended end with it.
//!
//! A counter never goes down, as long as the same [`Collector`] is asked. (The snapshot takes back what was counted as handled
//! when a handler sets its message aside.)
//!
//! | series | type | labels | what |
//! |---|---|---|---|
//! | `mproc_messages_received_total` | counter | | Messages that came in, of all processors that ever lived, as in the lines below |
//! | `mproc_messages_handled_total` | counter | | Messages whose handler was entered |
//! | `mproc_messages_returned_total` | counter | | Messages given back to their senders |
//! | `mproc_messages_dropped_total` | counter | `cause` | Messages that were dropped |
//! | `mproc_messages_queued` | gauge | | Messages that wait in mailboxes |
//! | `mproc_outbox_messages` | gauge | | Messages that wait in outboxes |
//! | `mproc_outbox_dropped_total` | counter | | Messages given up in outboxes |
//! | `mproc_faults_total` | counter | | Handlers that returned a fault |
//! | `mproc_panics_total` | counter | | Handlers that panicked |
//! | `mproc_restarts_total` | counter | | How often supervisors have brought processors up again |
//! | `mproc_dead_letters_total` | counter | | Dead letters |
//! | `mproc_processors` | gauge | | Processors that live |
//! | `mproc_processors_ended_total` | counter | | Processors that have ended |
//! | `mproc_drivers` | gauge | | Drivers |
//! | `mproc_topics` | gauge | | Topics |
//! | `mproc_publishers` | gauge | | Publishers |
//! | `mproc_subscriptions` | gauge | | Subscriptions; one to a pattern counts once for each topic |
//! | `mproc_services` | gauge | | Services that are served, called or known |
//! | `mproc_left_out` | gauge | `kind` | How many are not shown one by one |
//! | `mproc_processor_messages_received_total` | counter | `processor`, `driver` | Messages that came in |
//! | `mproc_processor_messages_handled_total` | counter | `processor`, `driver` | Messages whose handler was entered |
//! | `mproc_processor_messages_returned_total` | counter | `processor`, `driver` | Messages given back to their senders |
//! | `mproc_processor_messages_dropped_total` | counter | `processor`, `driver`, `cause` | Messages that were dropped; causes that occurred |
//! | `mproc_processor_messages_queued` | gauge | `processor`, `driver` | Messages that wait |
//! | `mproc_processor_messages_queued_max` | gauge | `processor`, `driver` | The most that ever waited |
//! | `mproc_processor_mailbox_capacity` | gauge | `processor`, `driver` | Places of the mailbox; absent if it has no bound |
//! | `mproc_processor_outbox_messages` | gauge | `processor`, `driver` | Messages that wait in its outbox |
//! | `mproc_processor_outbox_dropped_total` | counter | `processor`, `driver` | Messages given up in its outbox |
//! | `mproc_processor_faults_total` | counter | `processor`, `driver` | Handlers that returned a fault |
//! | `mproc_processor_panics_total` | counter | `processor`, `driver` | Handlers that panicked |
//! | `mproc_processor_restarts_total` | counter | `processor`, `driver` | How often its supervisor has brought it up again |
//! | `mproc_processor_busy_seconds_total` | counter | `processor`, `driver` | Time spent in handlers |
//! | `mproc_processor_longest_handler_seconds` | gauge | `processor`, `driver` | The longest handler |
//! | `mproc_processor_handling_seconds` | gauge | `processor`, `driver` | For how long it has been in a handler; 0 if it is in none |
//! | `mproc_processor_stalled` | gauge | `processor`, `driver` | 1 while its outbox waits for room elsewhere, else 0 |
//! | `mproc_processor_restarting` | gauge | `processor`, `driver` | 1 while it waits for its supervisor, else 0 |
//! | `mproc_driver_members` | gauge | `driver`, `kind` | Processors that it serves |
//! | `mproc_driver_turns_total` | counter | `driver`, `kind` | How often it served a processor |
//! | `mproc_driver_parks_total` | counter | `driver`, `kind` | How often it went to sleep |
//! | `mproc_driver_wakes_total` | counter | `driver`, `kind` | How often it was woken |
//! | `mproc_driver_threads` | gauge | `driver`, `kind` | Its threads, spare ones included |
//! | `mproc_driver_threads_blocked` | gauge | `driver`, `kind` | Threads of a pool that are blocked inside a handler |
//! | `mproc_driver_steals_total` | counter | `driver`, `kind` | How often one of a pool's threads took work from another |
//! | `mproc_driver_exhausted_total` | counter | `driver`, `kind` | How often a pool's thread blocked and no spare one was left |
//! | `mproc_topic_info` | info | `topic`, `type`, `codec` | 1 |
//! | `mproc_topic_publishers` | gauge | `topic` | Its publishers in this process |
//! | `mproc_topic_subscriptions` | gauge | `topic` | Its subscriptions, links to other processes included |
//! | `mproc_topic_history_values` | gauge | `topic` | Values kept for late subscribers |
//! | `mproc_publisher_published_total` | counter | `topic`, `publisher` | Values published while anybody listened or history was kept |
//! | `mproc_publisher_outstanding` | gauge | `topic`, `publisher` | Values of which samples are queued or held |
//! | `mproc_publisher_in_flight` | gauge | `topic`, `publisher` | Values not given back by `Wait` subscriptions, if that is bounded |
//! | `mproc_publisher_paused` | gauge | `topic`, `publisher` | 1 while it is paused, else 0 |
//! | `mproc_subscription_offered_total` | counter | `topic`, `subscription`, `owner` | Samples that passed its filter |
//! | `mproc_subscription_taken_total` | counter | `topic`, `subscription`, `owner` | Samples handed to its handler or receiver |
//! | `mproc_subscription_dropped_total` | counter | `topic`, `subscription`, `owner`, `cause` | Samples that were dropped; causes that occurred |
//! | `mproc_subscription_refused_total` | counter | `topic`, `subscription`, `owner` | Samples refused because it was full |
//! | `mproc_subscription_lost_total` | counter | `topic`, `subscription`, `owner` | Sum of the gaps that its receiver has seen |
//! | `mproc_subscription_queued` | gauge | `topic`, `subscription`, `owner` | Samples that wait |
//! | `mproc_subscription_queued_max` | gauge | `topic`, `subscription`, `owner` | The most that ever waited |
//! | `mproc_subscription_capacity` | gauge | `topic`, `subscription`, `owner` | Its places |
//! | `mproc_subscription_held` | gauge | `topic`, `subscription`, `owner` | Samples that are held, if that is bounded |
//! | `mproc_subscription_held_seconds_max` | gauge | `topic`, `subscription`, `owner` | The age of the oldest of them; 0 if there is none |
//! | `mproc_subscription_paused` | gauge | `topic`, `subscription`, `owner` | 1 while it is paused, else 0 |
//! | `mproc_subscription_closed` | gauge | `topic`, `subscription`, `owner` | 1 if it is closed, else 0 |
//! | `mproc_service_servers` | gauge | `service` | Servers in this process |
//! | `mproc_service_servers_elsewhere` | gauge | `service` | Servers of other processes that can be called |
//! | `mproc_service_calls_total` | counter | `service` | Calls of this process that were put on their way |
//! | `mproc_service_answered_total` | counter | `service` | Of these, those that got a reply |
//! | `mproc_service_failed_total` | counter | `service` | Of these, those that got an error |
//! | `mproc_service_cancelled_total` | counter | `service` | Of these, those that were given up |
//! | `mproc_service_requests_total` | counter | `service` | Requests of other processes |
//! | `mproc_service_replies_total` | counter | `service` | Of these, those that were answered |
//! | `mproc_service_replies_dropped_total` | counter | `service` | Replies dropped because their caller's process was gone |
//! | `mproc_service_requests_cancelled_total` | counter | `service` | Requests given up before they were answered |
//! | `mproc_domain_peers` | gauge | `domain` | Other nodes to which there is a connection |
//! | `mproc_domain_links` | gauge | `domain` | Links from their publishers and to their subscriptions |
//! | `mproc_domain_violations_total` | counter | `domain` | How often a peer did not keep to the protocol |
//! | `mproc_domain_refused_total` | counter | `domain` | Topics and subscriptions that did not fit |
//! | `mproc_domain_lost_connections_total` | counter | `domain` | Connections that ended without a word |
//!
//! `publisher` and `subscription` are numbers, unique in the process; `owner` is the processor that handles the samples, and
//! empty for a subscription that is pulled from or is a link to another process. A subscription to a pattern is shown under
//! each topic that it matches, with the counts of all. `cause` is `no_room`, `evicted` and so on, as
//! [`DropCause`](crate::DropCause) says.

mod series;
mod shown;
mod write;

use self::write::{Counted, Out};
use crate::Node;
use prometheus_client::encoding::{DescriptorEncoder, text::encode};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What HTTP servers say of [`text`]: `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// So many of a kind are shown one by one, unless told otherwise.
const SHOWN_MAX: usize = 1000;

/// The metrics of a node, to be registered in a program's own registry
/// ([`Registry::register_collector`](prometheus_client::registry::Registry::register_collector)), or served as they are.
///
/// Cheap to clone; clones are the same collector. It is a handle of the node, which therefore does not end by itself while the
/// collector is there: end it with [`shutdown`](crate::Runtime::shutdown). Of a node that has ended the last figures are shown.
#[derive(Clone, Debug)]
pub struct Collector {
    node: Node,
    shown_max: usize,
    /// What was shown last, for counts that the snapshot may take back. Nothing is called while it is locked.
    counted: Arc<Mutex<Counted>>,
}

impl Collector {
    /// A collector for `node`.
    pub fn new(node: &Node) -> Self {
        Self {
            node: node.clone(),
            shown_max: SHOWN_MAX,
            counted: Arc::default(),
        }
    }

    /// Shows at most so many processors, drivers, topics, publishers, subscriptions and services one by one; 1000 unless told
    /// otherwise, 0 for none. These are the busiest: by time in handlers, by turns, by samples, by calls. How many are left out
    /// is shown.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc::{Node, closure, metrics::Collector};
    /// let node = Node::simulated(1);
    /// for name in ["a", "b", "c"] {
    ///     node.spawn_thread(name, closure(|_: u8, _cx| ()))?;
    /// }
    /// let text = Collector::new(&node).shown_max(1).text();
    /// assert!(text.contains("mproc_processors 3\n"));
    /// assert!(text.contains("mproc_left_out{kind=\"processors\"} 2\n"));
    /// # Ok::<(), mproc::Error>(())
    /// ```
    #[must_use = "it makes another collector"]
    pub fn shown_max(mut self, shown_max: usize) -> Self {
        self.shown_max = shown_max;
        self
    }

    /// All of it as text, for programs without a registry. Send it with [`CONTENT_TYPE`].
    pub fn text(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            // A string takes whatever is written to it.
            Err(fmt::Error) => unreachable!("writing to a string does not fail"),
        }
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.node.snapshot();
        // Taken, so that the program's writer is not called with it locked.
        let before = std::mem::take(&mut *self.lock());
        let mut out = Out::new(encoder, before);
        let written = series::write(&snapshot, self.shown_max, &mut out);
        let counted = out.into_counted();
        self.lock().merge(counted);
        written
    }
}

impl Collector {
    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The metrics of `node` now, as text. For a look; who scrapes again and again keeps a [`Collector`], whose counters never go
/// down.
///
/// # Examples
///
/// ```
/// # use mproc::{Node, closure, metrics};
/// let node = Node::simulated(1);
/// node.spawn_thread("sink", closure(|_: u8, _cx| ()))?.send(1)?;
/// node.settle();
/// assert!(metrics::text(&node).contains("mproc_messages_handled_total 1\n"));
/// # Ok::<(), mproc::Error>(())
/// ```
pub fn text(node: &Node) -> String {
    Collector::new(node).text()
}
