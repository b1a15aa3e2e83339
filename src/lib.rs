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
    GoalHandle, TaskClient, TaskCx, TaskError, TaskFeedback, TaskOptions, TaskServer,
};
pub use mproc_pubsub::{NodeInfo, NodeReport, SilentNode, Snapshot, Survey};
pub use mproc_pubsub::{Raw, RawClient, RawPublisher, Schema, SchemaError, TypeInfo};
pub use mproc_runtime::WaitSnapshot;
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
