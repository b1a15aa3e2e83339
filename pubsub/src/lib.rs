//! Topics: many readers of one stream, through bounded queues that push back.
//!
//! Built on the runtime's seams (lanes, outboxes, what reaches a driver from outside) and, for other processes, on `mproc-shm`; it
//! has no `unsafe`. Where there is no `mproc-shm`, topics stay in their process. Programs use the facade, `mproc`.

#![forbid(unsafe_code)]
// What other nodes ask for is used by transports only.
#![cfg_attr(
    not(any(target_os = "linux", target_os = "macos")),
    allow(dead_code, unused_imports)
)]

mod callback_slot;
mod carried;
mod channel;
mod codec;
mod delivery;
mod domain;
mod domain_time;
mod error;
mod events;
mod fan_out;
mod forked;
mod graph;
mod id;
mod inspect;
mod intake;
mod leases;
mod linger;
mod loan;
mod monitor;
mod msg;
// Its tests run wherever there are processes, too.
#[cfg(any(test, not(any(target_os = "linux", target_os = "macos"))))]
mod no_processes;
mod parts;
mod pattern;
mod prepared;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod processes;
mod processors;
mod publish_async;
mod publisher;
mod raw;
mod reader;
mod relay;
mod remote;
mod remote_link;
mod sample;
mod schema;
mod services;
mod snapshot;
mod sources;
mod stream;
mod subscriber;
mod subscription;
mod tasks;
mod topic;
mod topic_core;
mod tracked;
mod transport;
mod waiting;
mod watches;

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
use no_processes as processes;

pub use callback_slot::CallbackSlot;
pub use channel::ChannelSubscription;
pub use codec::{Codec, CodecError, CodecKind};
pub use delivery::DEFAULT_SUBSCRIPTION_CAPACITY;
pub use domain::{DEFAULT_DOMAIN, DomainOptions};
pub use domain_time::{CLOCK, ClockState, DomainTime, domain_clock, drive_time};
pub use error::{PublishError, RecvError, TryRecvError};
pub use events::{EVENTS, Event};
pub use fan_out::{Delivered, Refusal};
pub use graph::Graph;
pub use id::{PublisherId, SubscriptionId, TopicId};
pub use inspect::{
    ConnectionSnapshot, NodeInfo, NodeReport, PatternSnapshot, SendsSnapshot, SilentNode, Snapshot,
    Survey, SurveyOptions,
};
pub use linger::Linger;
pub use loan::Loan;
pub use msg::{Data, Msg, Place, accept_msgs, send_msg};
pub use pattern::Pattern;
pub use processors::{CallbackSubscription, Subscribing, Topics};
pub use publisher::{Publisher, PublisherOptions};
pub use raw::{Raw, RawPublisher, TypeInfo};
pub use relay::{Relay, RelayOptions, RelaySnapshot};
pub use sample::Sample;
pub use schema::{Schema, SchemaError};
pub use services::{
    Client, RawClient, ServeOptions, Served, ServiceError, ServiceSnapshot, Services,
};
pub use snapshot::{DomainSnapshot, PublisherSnapshot, SubscriptionSnapshot, TopicSnapshot};
pub use stream::SampleStream;
pub use subscription::{Control, Selectable, Subscription, SubscriptionOptions, select};
pub use tasks::{GoalHandle, TaskClient, TaskCx, TaskError, TaskFeedback, TaskOptions, TaskServer};
pub use topic::Topic;
pub use tracked::Released;
