//! Write concurrent, real-time programs without locks.
//!
//! A program is a set of *message processors*. Each owns its state and a mailbox, and handles one message at a time, so
//! its code needs no mutex. Processors talk by direct message, by call and reply, and by topic.
//!
//! ```
//! use mproc::prelude::*;
//!
//! const CHANGED: Topic<i64> = Topic::new("counter/changed");
//!
//! struct Counter { total: i64 }
//! struct Add(i64);
//! struct Get;
//!
//! impl Processor for Counter {}
//! impl Handle<Add> for Counter {
//!     type Reply = ();
//!     fn handle(&mut self, Add(n): Add, cx: &mut Cx<'_, Self>) -> Outcome<()> {
//!         self.total += n;
//!         cx.publish(&CHANGED, self.total)?;
//!         Ok(())
//!     }
//! }
//! impl Handle<Get> for Counter {
//!     type Reply = i64;
//!     fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, i64>) -> Outcome<i64> { Ok(self.total) }
//! }
//!
//! let node = Node::new()?;
//! let changes = node.subscription(&CHANGED)?;
//! let counter = node.spawn_thread("counter", Counter { total: 0 })?;
//! counter.send(Add(5))?;
//! assert_eq!(counter.call(Get).wait()?, 5);
//! assert_eq!(*changes.recv().wait()?, 5);
//! # Ok::<(), mproc::Error>(())
//! ```
//!
//! # Features
//!
//! None is on by default, and what is off costs nothing.
//!
//! | feature | what it adds |
//! |---|---|
//! | `tracing` | events of the crate `tracing` for panics, faults, long handlers, drops, ends and restarts |
//! | `spans` | `tracing`, and a span around each handler, which follows from the span of whoever sent the message |
//! | `metrics` | the module `metrics`: what a node counts, in the text format that Prometheus reads |
//!
//! ## Spans
//!
//! Everything that a processor handles runs in a span `handle` of target `mproc_spans` and level `INFO`, with the fields
//! `processor` and `message_type`. What is no message has a word for a type: `started`, `stopped`, `timer`, `continuation`,
//! `trigger`, `file descriptor`, `update`, `task`. The span ends when the handler returns, also if it panics. A span that
//! the thread is in already, such as one around a script's `spin`, is its parent; threads of drivers are in none.
//!
//! The span *follows from* the one in which the message was sent, the call made or the value published, on whatever thread that
//! was. A continuation follows from where `then` was said, a spawned future from where it was spawned. Timers, notices (of ends,
//! of groups), what comes from history, and what comes from another process follow from nothing: spans do not leave the process.
//!
//! The span of a handler that awaits goes on with its future: it is entered at each poll, and at the future's drop. A future of
//! `Cx::spawn` has a span of its own.
//!
//! The span in which something was sent stays open (and is not entered) until that was handled or dropped; of a published value,
//! while samples of it are held; of a call, as long as its operation.
//!
//! Processors run on threads of their own, so they see the subscriber that is set for the whole process (`init`,
//! `set_global_default`), and none that is set for one thread. The filter `mproc_spans=off` switches the spans off, and
//! then nothing is kept open.
//!
//! ```
//! # #[cfg(feature = "spans")] {
//! tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
//! let node = mproc::Node::simulated(1);
//! let printer = node.spawn_thread("printer", mproc::closure(|page: u32, _cx| tracing::info!(page, "printed")))?;
//! tracing::info_span!("request", id = 7).in_scope(|| printer.send(1))?;
//! node.settle(); // INFO handle{processor="printer" message_type="u32"}: printed page=1
//! # }
//! # Ok::<(), mproc::Error>(())
//! ```

#[cfg(feature = "metrics")]
pub mod metrics;
mod node;
mod raw;
mod script;
mod services;

pub use mproc_pubsub::{CLOCK, ClockState, DomainTime};
pub use mproc_pubsub::{
    CallbackSubscription, ChannelSubscription, Codec, CodecError, CodecKind, Control,
    DEFAULT_DOMAIN, DEFAULT_SUBSCRIPTION_CAPACITY, Data, Delivered, DomainOptions, DomainSnapshot,
    EVENTS, Event, Graph, Linger, Loan, Msg, Pattern, Place, PublishError, Publisher, PublisherId,
    PublisherOptions, PublisherSnapshot, RecvError, Refusal, Relay, RelayOptions, RelaySnapshot,
    Released, Sample, SampleStream, Selectable, Subscribing, Subscription, SubscriptionId,
    SubscriptionOptions, SubscriptionSnapshot, Topic, TopicId, TopicSnapshot, Topics, TryRecvError,
    select,
};
pub use mproc_pubsub::{Client, ServeOptions, Served, ServiceError, ServiceSnapshot, Services};
pub use mproc_pubsub::{
    ConnectionSnapshot, NodeInfo, NodeReport, PatternSnapshot, SendsSnapshot, SilentNode, Snapshot,
    Survey, SurveyOptions,
};
pub use mproc_pubsub::{
    GoalHandle, TaskClient, TaskCx, TaskError, TaskFeedback, TaskOptions, TaskServer,
};
pub use mproc_pubsub::{Raw, RawClient, RawPublisher, Schema, SchemaError, TypeInfo};
pub use mproc_runtime::{
    Address, AfterPanic, Backoff, CallError, Child, ChildPlace, Closure, Cx, DEFAULT_CAPACITY,
    DEFAULT_LIMIT, DeadLetter, DeadLetters, Down, Driver, DriverId, DriverSnapshot, DropCause,
    Drops, Error, ErrorKind, Exit, Fault, FaultCounts, Faults, Handle, HandledBy, Idle, InExecutor,
    IntoOutcome, IntoProcessor, Left, LetterHeader, LinkId, LocalClosure, MailboxOptions, Name,
    NameError, OnDriver, Options, Outcome, Pending, Permit, Pool, PoolOptions, Processor,
    ProcessorId, ProcessorSnapshot, Recipient, RecipientPermit, Replies, ReplyToken, ReserveError,
    Restart, Runtime, SendError, ShutdownReport, SpawnError, SpinReport, Spun, Strategy,
    Supervisor, SupervisorEvent, SupervisorSpec, ThreadOptions, Tick, Ticket, TimerId, Totals,
    TrySendError, UnblockError, WatchId, WeakAddress, WhenFull, WhenGivingUp, closure,
    local_closure, replies,
};
pub use mproc_runtime::{AsyncHandle, AsyncProcessor, HandleAsync, TaskHandle};
pub use mproc_runtime::{
    Beat, Clock, ClockKind, Jump, JumpCallback, JumpKind, JumpThreshold, Rate, SleepError, Slept,
    Time,
};
pub use mproc_runtime::{
    Behaviour, BroadcastError, Group, GroupChange, GroupEvent, Keyed, KeyedError, PoolAddress,
    Probe, Recorder, Sent, StashFull, TestCx, behaviour,
};
#[cfg(unix)]
pub use mproc_runtime::{FdWatch, Interest, ReadyFd};
pub use mproc_runtime::{SendSnapshot, SendWatch, WaitSnapshot};
pub use mproc_runtime::{Trigger, Triggered};
pub use node::{Node, NodeBuilder};
pub use script::{Callbacks, OnFault, Script, ScriptCx, init, init_without_signals};
pub use services::Server;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/coming_from.md")]
struct ComingFrom;

/// What setup and the outside world return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The names that most programs use.
pub mod prelude {
    pub use crate::{
        Address, AsyncProcessor, Child, Cx, Down, Handle, HandleAsync, MailboxOptions, Node,
        Outcome, Processor, Publisher, Sample, Script, Services, Subscription, SubscriptionOptions,
        Topic, TopicId, Topics, WhenFull, closure,
    };
    pub use std::time::Duration;
}
