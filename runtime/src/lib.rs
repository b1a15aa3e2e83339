//! Processors that handle one message at a time, their mailboxes, and the drivers that run them.
//!
//! This crate knows neither topics nor shared memory. Programs use the facade, `mproc`, which adds both; its words are
//! the same.

mod address;
mod blocking;
mod call;
mod cell;
mod clock;
mod clocks;
mod context;
mod converted;
mod current;
mod dead_letters;
#[cfg(unix)]
mod descriptor;
mod driver;
mod ended;
mod error;
mod executor;
mod exit;
mod forward;
mod handled_by;
pub mod hook;
mod id;
mod interrupt;
mod lane;
mod links;
mod mailbox;
mod name;
mod neighbours;
mod outbox;
mod outside;
mod parcel;
mod parcels;
mod parker;
mod patterns;
mod pending;
mod permit;
mod processor;
pub mod queue;
mod recipient;
mod registry;
mod replies;
mod runtime;
mod sends;
mod shutdown;
mod snapshot;
mod spill;
mod supervision;
mod sync;
mod tasks;
mod ticket;
mod time_keeper;
mod timer;
mod timers;
mod trigger;
mod unblock;
mod waits_for;
#[cfg(unix)]
mod watch_fd;
mod world;

pub use address::{Address, WeakAddress};
pub use clocks::{
    Beat, Clock, ClockKind, ClockSetter, Jump, JumpCallback, JumpKind, JumpThreshold, Rate,
    Setting, SleepError, Slept, Time,
};
pub use context::{Cx, Extensions, ReplyToken, WatchId};
pub use dead_letters::{DeadLetter, DeadLetters, DropCause, Drops, LetterHeader};
#[cfg(unix)]
pub use descriptor::Interest;
#[cfg(unix)]
pub use driver::ReadyFd;
pub use driver::faults::{FaultCounts, Faults};
pub use driver::{Driver, Manual, OnDriver, Pool, PoolOptions, SpinReport, Spun, ThreadOptions};
pub use error::{
    CallError, Error, ErrorKind, Fault, Outcome, ReserveError, SendError, SpawnError, TrySendError,
};
pub use exit::{Down, Exit};
pub use handled_by::HandledBy;
pub use id::{DriverId, ProcessorId};
pub use lane::{LaneBell, LaneSource};
pub use links::LinkId;
pub use mailbox::{Lane, LaneId, MailboxOptions};
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use outbox::{Attempt, OUTBOX_CAPACITY, OutboxKey, Undelivered};
pub use outside::Outside;
pub use patterns::{
    Behaviour, BroadcastError, Group, GroupChange, GroupEvent, Keyed, KeyedError, PoolAddress,
    Probe, Recorder, Sent, StashFull, TestCx, behaviour,
};
pub use pending::{CleanUp, CleansUp, CutShort, Operation, Pending};
pub use permit::Permit;
pub use processor::{
    AfterPanic, Closure, Handle, IntoOutcome, LocalClosure, Processor, closure, local_closure,
};
pub use queue::WhenFull;
pub use recipient::{Recipient, RecipientPermit};
pub use replies::{Replies, replies};
pub use runtime::{
    DEFAULT_CAPACITY, DEFAULT_LIMIT, Idle, InExecutor, Options, Runtime, RuntimeCore,
};
pub use sends::SendWatch;
pub use shutdown::{Left, ShutdownReport};
pub use snapshot::{
    DriverSnapshot, ProcessorSnapshot, SendSnapshot, Snapshot, Totals, WaitSnapshot,
};
pub use spill::{outbox_holds, spill_undelivered};
pub use supervision::{
    Backoff, Child, ChildPlace, IntoProcessor, Restart, Strategy, Supervisor, SupervisorEvent,
    SupervisorSpec, WhenGivingUp,
};
pub use tasks::{AsyncHandle, AsyncProcessor, HandleAsync, TaskHandle};
pub use ticket::Ticket;
pub use timer::Tick;
pub use timers::TimerId;
pub use trigger::{Trigger, Triggered};
pub use unblock::UnblockError;
pub use waits_for::{Debt, Keeper};
#[cfg(unix)]
pub use watch_fd::FdWatch;
