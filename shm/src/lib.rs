//! Memory that several processes map (sealed segments, slots, links, leases, doorbells), and how these processes find each
//! other.
//!
//! An internal crate: programs use the facade, `mproc`, and the layer of topics uses this one. It knows neither processors nor
//! topics.
//!
//! # A message's way
//!
//! A publisher has an [`Endpoint`]. It [lends](Endpoint::loan) a slot of its memory, which is filled in place and
//! [frozen](Loan::freeze). The slot's index is [queued](Endpoint::queue) on one link after another, each by its own policy, and
//! the bells of drivers that sleep are rung. [`Endpoint::publish`] does that for all links at once.
//! A subscription [takes](SubscriberLink::take) it from its [`SubscriberLink`] as a [`Lease`] and reads it where it stands; when
//! the lease is dropped the slot goes back. Nothing is copied, and no other process takes part.
//!
//! | to understand | read |
//! |---|---|
//! | what stands where | [The wire](#the-wire-what-stands-in-shared-memory) below, `layout.rs` |
//! | how slots go out and come back | `link/README.md`, `slots.rs` |
//! | how a driver sleeps and is woken | `bell.rs` |
//! | how a publisher waits | `waiter.rs`, [`Endpoint`] |
//! | what is mapped, and by whom | `segment.rs`, `sys/` |
//! | how memory is given back | `retiring.rs`, `mapped.rs`, [`Endpoint`] |
//! | how processes meet | `rendezvous.rs`, `directory.rs`, `greeting.rs` |
//! | what they tell each other | `handshake.rs`, `socket.rs` |
//! | who is alive | `process.rs`, `watch.rs`, `fork.rs` |
//!
//! # Examples
//!
//! Both sides, here in one process. Between two, the descriptors and geometries travel on a socket.
//!
//! ```
//! use mproc_shm::{Endpoint, EndpointOptions, Queued, SlotHeader, SubscriberLink, Taken, WhenFull};
//! use std::os::fd::AsFd;
//!
//! let mut endpoint = Endpoint::new(EndpointOptions {
//!     bytes_max: 1 << 20,
//!     slots_max: 1024,
//!     history: 0,
//!     node: [0; 16],
//! });
//! let attached = endpoint.attach(8, 2, WhenFull::DropOldest, None)?;
//! let mut link = SubscriberLink::open(attached.fd.as_fd(), attached.geometry)?;
//!
//! let mut loan = endpoint.loan(5)?;
//! loan.buffer()[..5].copy_from_slice(b"hello");
//! for segment in endpoint.segments() {
//!     link.add_segment(segment.as_fd(), segment.geometry())?;
//! }
//! let filled = loan.freeze();
//! let queued = endpoint.queue(attached.id, &filled, &SlotHeader::default(), None);
//! assert_eq!(queued, Queued::Queued { evicted: false });
//! assert_eq!(endpoint.queued(attached.id), 1);
//! // The link keeps it now.
//! drop(filled);
//!
//! let Taken::Sample(lease) = link.take()? else { panic!("it is queued") };
//! assert_eq!(lease.payload(), b"hello");
//! assert_eq!(endpoint.counts().leased, 1);
//! drop(lease);
//! assert_eq!(endpoint.counts().leased, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Premises of safety
//!
//! `unsafe` stands in `sys/map.rs`, `lease.rs`, `loan.rs`, `endpoint.rs`, for the handler of forks in `fork.rs`, and for calls to
//! the system in `sys/linux/` and `sys/macos/`. The arguments there lean on this:
//!
//! 1. *Whoever publishes runs this protocol.* Other processes cannot write to a data segment (it is sealed), but its publisher
//!    can, and it must not while a slot is leased. This is taken for granted for processes of the same user.
//!    [`Lease::payload`] needs it; for a publisher that is not trusted there is [`Lease::copy_into`].
//! 2. *A subscriber need not be honest.* Links and bells are made of atomics, of which every value is legal. Each is loaded once
//!    and checked; nothing read there is an index, a length or a count before that. A peer that breaks the protocol gets
//!    [`Violation`], loses its link, and keeps what was queued for it until it is dead.
//! 3. *A file that is mapped cannot shrink*: its seals and its length are checked before, so that no access is a SIGBUS. All of it is
//!    allocated when it is made: no memory is an error then, and never a signal later.
//! 4. *A process that is reported dead does nothing any more.* [`Endpoint::reap`] may only be called after the end of the whole
//!    process was reported.
//! 5. *Children made by `fork` do not have the mappings.* There every handle says so or does nothing, and a payload is empty; one
//!    load of a word that nobody writes tells. Only a slice that was borrowed before the fork is a segmentation fault. Nothing
//!    is unmapped there either: the addresses may be somebody else's by then.
//! 6. *Reading in place is for types of which every bit pattern is a value.* A loan shows what was published in that slot before,
//!    or zeros; never memory that is not initialised.
//!
//! A peer that lies about a doorbell can put a driver to sleep through the news of others; see `bell.rs`.
//!
//! # Limits
//!
//! 1024 links to an [`Endpoint`]; 15 bells to a page; 2^24 slots. Segments are added while running, up to the budget. Those
//! of which nothing is out are given back when the budget is needed for another size, and not before. That takes an answer of
//! each subscriber: one that is stopped, and has not left, keeps the budget short until it goes on or its process ends. A
//! payload is at most 1.75 GiB. A publisher whose thread waits for several links at once needs Linux 5.16, and is woken by
//! 127 of them at most; otherwise by the first of them, or by its limit. A driver that [watches](Endpoint::watch) has no such
//! limit. Sealing needs Linux 5.1. These are Linux's numbers; for macOS see below.
//!
//! # Where it was run
//!
//! Linux on x86-64 only. On other processors the models (`ci/loom.sh`) are what speaks for the orderings.
//!
//! There is code for macOS 14.4 and later in `sys/macos.rs` and `sys/macos/`, for all that Linux has and under the same names. It
//! compiles, tests included (`ci/lint.sh` sees to that), and **nothing of it was ever run**, but for `sys/framing.rs`, whose tests
//! run on Linux too. It follows Apple's headers and the published source of the kernel. A program with it does not start on an older
//! macOS. What is weaker there than on Linux, if it works as it is meant:
//!
//! - Nothing is sealed. Shared memory gets its length once, so that it cannot shrink; but its pages are not all found when it is
//!   made. A subscriber gets a descriptor that cannot be mapped for writing, but may make its mapping writable afterwards. So
//!   premise 1 is taken for granted for subscribers, too.
//! - A connection is bytes in a row with a length before each packet, which are sent as a whole because of the socket's low-water
//!   mark.
//! - A peer is found by its process id and start time, not by the connection alone. The id is that of the process that used its
//!   end last.
//! - Sockets are named by their whole path, of at most 103 bytes: a long name of a domain may not fit.
//! - A full queue of a listener looks like a dead one. Whether the process id in the socket's name is in use decides.
//! - Descriptors close on exec, but only from shortly after they are made.
//! - Times do not count while the host sleeps, and a publisher waits for several links by looking every millisecond.
//!
//! Elsewhere this crate does not compile; the layer of topics does without it.
//!
#![cfg_attr(not(loom), doc = include_str!("../WIRE.md"))]
// Models use a part of the crate only.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod bell;
mod class;
#[cfg(not(loom))]
mod endpoint;
mod error;
mod fan_out;
#[cfg(not(loom))]
mod header;
#[cfg(loom)]
mod heap;
#[cfg(all(test, not(loom)))]
mod kill_tests;
mod layout;
#[cfg(not(loom))]
mod lease;
mod link;
#[cfg(not(loom))]
mod loan;
#[cfg(not(loom))]
mod mapped;
mod points;
#[cfg(not(loom))]
mod retiring;
#[cfg(all(test, not(loom)))]
mod retiring_tests;
#[cfg(not(loom))]
mod sealed;
#[cfg(not(loom))]
mod segment;
mod slots;
mod sync;
#[cfg(not(loom))]
mod sys;
mod waiter;

// How processes find each other: the control plane.
#[cfg(not(loom))]
mod directory;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod greeting;
#[cfg(not(loom))]
mod handshake;
#[cfg(not(loom))]
mod process;
#[cfg(not(loom))]
mod rendezvous;
#[cfg(not(loom))]
mod socket;
#[cfg(not(loom))]
mod watch;

pub use bell::{Bell, Drowsy, Ringer};
#[cfg(not(loom))]
pub use bell::{BellPage, PeerBells};
#[cfg(not(loom))]
pub use endpoint::{
    AttachError, Attached, Endpoint, EndpointOptions, LoanError, Published, Unpublished,
};
pub use error::{SegmentError, SegmentErrorKind, Violation};
pub use fan_out::{Guard, LinkId, Queued, Reaped, Refusal, SlotCounts};
#[cfg(not(loom))]
pub use header::SlotHeader;
pub use layout::{ABI_HASH, BELLS_PER_PAGE, PROTOCOL, SLOTS_MAX};
#[cfg(not(loom))]
pub use lease::{Lease, SubscriberLink, Taken};
pub use link::{DEPTH_MAX, LinkEnd, LinkGeometry, WhenFull};
#[cfg(not(loom))]
pub use loan::{Filled, Loan};
#[cfg(not(loom))]
pub use mapped::SegmentsHandle;
#[cfg(not(loom))]
pub use sealed::SealedBytes;
#[cfg(not(loom))]
pub use segment::{DataGeometry, DataSegment};
#[cfg(not(loom))]
pub use sys::monotonic_ns;
pub use waiter::Waiter;

#[cfg(not(loom))]
pub use directory::{
    Change, Changes, Directory, DirectoryError, DirectoryProblem, Domain, DomainError, Entry,
    OwnEntry, Removal,
};
#[cfg(not(loom))]
pub use fork::{ControlFd, Forked, Origin};
#[cfg(not(loom))]
pub use greeting::{
    Greeting, GreetingError, HANDSHAKE_LIMIT, HalfOpen, MeetingError, OnMeeting, Peer, Permit,
    Progress, Reception, visit,
};
#[cfg(not(loom))]
pub use handshake::{
    Accept, Agreed, Announce, Attach, DecodeError, Detach, DetachReason, EncodeError, FRAMES_KNOWN,
    Frame, Frames, Hello, MAGIC, Mismatch, Protocols, Refuse, RefuseReason, Retire, Segment,
    TopicType, Withdraw,
};
#[cfg(not(loom))]
pub use process::{
    BootId, Credentials, Identity, NodeId, NodeIdError, Process, ProcessError, is_stopped,
};
#[cfg(not(loom))]
pub use rendezvous::{JoinError, Rendezvous};
#[cfg(not(loom))]
pub use socket::{
    AcceptError, BindError, ConnectError, Connection, DESCRIPTORS_MAX, Listener, PACKET_BYTES_MAX,
    Packet, RecvError, SendError, Socket,
};
#[cfg(not(loom))]
pub use watch::{Event, Next, Source, Token, Watch, WatchEnded, WatchHandle};

// What one thread fills, takes or waits for, another may publish, drop or ring.
#[cfg(not(loom))]
const _: () = {
    const fn send<T: Send>() {}
    const fn sync<T: Sync>() {}
    send::<Endpoint>();
    send::<Loan>();
    send::<SubscriberLink>();
    send::<Bell>();
    send::<Waiter>();
    sync::<Ringer>();
    send::<Ringer>();
    send::<Lease>();
    sync::<Lease>();
    send::<Filled>();
    sync::<Filled>();
};
