//! How the processes of a domain find each other, whatever the order in which they start.
//!
//! Each node binds its socket first, watches the directory next, and lists it last: of two that start together, at least
//! one sees the other. So that a pair gets one connection, **the node with the smaller id visits**; the other waits for
//! the visit. Both see each other, because both watch.
//!
//! | a node with a larger id is | becomes                                                                           |
//! |----------------------------|-----------------------------------------------------------------------------------|
//! | due at a time              | visited: we connect and greet                                                     |
//! | visited                    | met; or due again, later each time; or refused for good, if it does not fit; or   |
//! |                            | forgotten, if its socket is gone or stale (then it is removed)                    |
//! | met                        | due again, if [`Rendezvous::lost`] says so; forgotten when it is dead             |
//! | refused                    | forgotten when its socket is gone                                                 |
//!
//! A node with a smaller id is none of our business, except that its socket is removed if it is dead when we start.

use crate::directory::{Change, Changes, Directory, Entry, OwnEntry, Removal};
use crate::greeting::{GreetingError, MeetingError, OnMeeting, Reception, visit};
use crate::handshake::Hello;
use crate::process::{Identity, NodeId};
use crate::socket::{BindError, ConnectError};
use crate::watch::{Event, Next, Source, Token, WatchEnded, WatchHandle};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long after the first failed visit comes the next; each time it is doubled.
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// The longest time between two visits.
const RETRY_LAST: Duration = Duration::from_secs(10);

/// How many may have connected to us and not said hello.
const HALF_OPEN_MAX: usize = 32;

/// Why a node did not join its domain.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// It cannot listen.
    Bind(BindError),
    /// The directory cannot be watched or read.
    Directory(io::Error),
    /// There is no watch to wait by.
    Watch(WatchEnded),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot join the domain: ")?;
        match self {
            Self::Bind(error) => write!(f, "{error}"),
            Self::Directory(error) => write!(f, "{error}"),
            Self::Watch(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(error) => Some(error),
            Self::Directory(error) => Some(error),
            Self::Watch(error) => Some(error),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Due(Instant),
    Visited,
    Met,
    Refused,
}

#[derive(Debug)]
struct Neighbour {
    entry: Entry,
    state: State,
    /// Failed visits in a row.
    failures: u32,
}

impl Neighbour {
    fn retry(&mut self, now: Instant) {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures += 1;
        self.state = State::Due(now + RETRY_FIRST.saturating_mul(factor).min(RETRY_LAST));
    }
}

/// Those with larger ids. No code of others runs under its lock.
type Neighbours = Arc<Mutex<HashMap<NodeId, Neighbour>>>;

fn lock(neighbours: &Neighbours) -> MutexGuard<'_, HashMap<NodeId, Neighbour>> {
    neighbours.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node's membership in its domain. It leaves when this is dropped; the peers it has met stay with whoever has them.
pub struct Rendezvous {
    directory: Directory,
    own: OwnEntry,
    neighbours: Neighbours,
    watch: WatchHandle,
    tokens: [Token; 2],
}

impl Rendezvous {
    /// Joins as the node that `ours` names. `on_meeting` is told of everybody who is met, and of everybody who is not,
    /// on the watch's thread or during this call.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    pub fn join(
        directory: &Directory,
        ours: Hello,
        watch: &WatchHandle,
        on_meeting: OnMeeting,
    ) -> Result<Self, JoinError> {
        let node = ours.identity.node;
        let (listener, own) = directory.bind(node).map_err(JoinError::Bind)?;
        let changes = directory.changes().map_err(JoinError::Directory)?;
        let mut finder = Finder {
            directory: directory.clone(),
            changes: Some(changes),
            ours,
            neighbours: Neighbours::default(),
            on_meeting: Arc::clone(&on_meeting),
        };
        let neighbours = Arc::clone(&finder.neighbours);
        for entry in directory.list().map_err(JoinError::Directory)? {
            if entry.node < node {
                // If this fails, its socket stays until the next one starts.
                let _ = directory.remove_stale(&entry);
            }
            finder.appeared(entry, Instant::now());
        }
        let reception = Reception::new(listener, ours, HALF_OPEN_MAX, on_meeting);
        let reception = watch
            .add("reception", reception)
            .map_err(JoinError::Watch)?;
        let finder = watch.add("finder", finder).map_err(JoinError::Watch)?;
        Ok(Self {
            directory: directory.clone(),
            own,
            neighbours,
            watch: watch.clone(),
            tokens: [reception, finder],
        })
    }

    /// What others see in the directory.
    pub fn entry(&self) -> Entry {
        self.own.entry()
    }

    /// Who is in the directory now, but for this node: those that are met, those that will be, and what the dead have left.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn others(&self) -> io::Result<Vec<Entry>> {
        let mut entries = self.directory.list()?;
        entries.retain(|entry| *entry != self.own.entry());
        Ok(entries)
    }

    /// Removes the socket at `entry` if its process is gone. One that lives gets a connection that ends without a word.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn remove_stale(&self, entry: &Entry) -> io::Result<Removal> {
        self.directory.remove_stale(entry)
    }

    /// Visits at once whoever would be visited again later. On the watch's thread, or with a wake of it.
    pub fn hurry(&self) {
        let now = Instant::now();
        for neighbour in lock(&self.neighbours).values_mut() {
            if matches!(neighbour.state, State::Due(_)) {
                neighbour.state = State::Due(now);
            }
        }
    }

    /// The connection to `node` is over although its process lives. It will be visited again, if that is ours to do.
    pub fn lost(&self, node: NodeId) {
        if self.watch.ended().is_some() {
            return;
        }
        if let Some(neighbour) = lock(&self.neighbours).get_mut(&node)
            && matches!(neighbour.state, State::Met)
        {
            neighbour.retry(Instant::now());
        }
        self.watch.wake();
    }

    /// The process of a peer is gone: removes the socket that it may have left. If another process is removing
    /// something just now it is left to that one, and else to the next who starts.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn ended(&self, peer: &Identity) -> io::Result<Removal> {
        let entry = Entry {
            pid: peer.pid,
            node: peer.node,
        };
        self.remove_stale(&entry)
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        for token in self.tokens {
            // In a child, or after the end of the watch, there is nothing to remove.
            let _ = self.watch.remove(token);
        }
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rendezvous({})", self.own.entry())
    }
}

/// Visits those who appear in the directory.
struct Finder {
    directory: Directory,
    /// None once the directory is gone.
    changes: Option<Changes>,
    ours: Hello,
    neighbours: Neighbours,
    on_meeting: OnMeeting,
}

impl Finder {
    fn appeared(&mut self, entry: Entry, now: Instant) {
        if entry.node <= self.ours.identity.node {
            return;
        }
        let mut neighbours = lock(&self.neighbours);
        neighbours.entry(entry.node).or_insert(Neighbour {
            entry,
            state: State::Due(now),
            failures: 0,
        });
    }

    fn read_changes(&mut self, now: Instant) -> io::Result<()> {
        let Some(changes) = &mut self.changes else {
            return Ok(());
        };
        for change in changes.read()? {
            match change {
                Change::Appeared(entry) => self.appeared(entry, now),
                Change::Gone(entry) => {
                    lock(&self.neighbours).remove(&entry.node);
                }
                Change::Overflow => {
                    let entries = self.directory.list()?;
                    lock(&self.neighbours)
                        .retain(|_, neighbour| entries.contains(&neighbour.entry));
                    for entry in entries {
                        self.appeared(entry, now);
                    }
                }
                Change::DirectoryGone => {
                    let text = format!("directory {:?} is gone", self.directory.path());
                    return Err(io::Error::new(io::ErrorKind::NotFound, text));
                }
            }
        }
        Ok(())
    }

    fn visit_those_due(&self, now: Instant, watch: &WatchHandle) {
        let mut due = Vec::new();
        for neighbour in lock(&self.neighbours).values_mut() {
            if matches!(neighbour.state, State::Due(at) if at <= now) {
                neighbour.state = State::Visited;
                due.push(neighbour.entry);
            }
        }
        for entry in due {
            let neighbours = Arc::clone(&self.neighbours);
            let directory = self.directory.clone();
            let on_meeting = Arc::clone(&self.on_meeting);
            let tell: OnMeeting = Arc::new(move |met, watch| {
                let after = match &met {
                    Ok(_) => After::Met,
                    Err(error) => after(error, &directory, &entry),
                };
                note(&neighbours, &entry, after);
                on_meeting(met, watch);
            });
            visit(&self.directory, entry, self.ours, &tell, watch);
        }
    }
}

/// What a visit leads to.
enum After {
    Met,
    Retry,
    Refuse,
    Forget,
}

fn after(error: &MeetingError, directory: &Directory, entry: &Entry) -> After {
    match error {
        MeetingError::Connect {
            error: ConnectError::Stale,
            ..
        } => match directory.remove_stale(entry) {
            Ok(Removal::Removed) => After::Forget,
            Ok(Removal::Alive | Removal::Busy) | Err(_) => After::Retry,
        },
        MeetingError::Connect {
            error: ConnectError::Gone,
            ..
        } => After::Forget,
        MeetingError::Connect {
            error: ConnectError::OtherUser { .. },
            ..
        } => After::Refuse,
        MeetingError::Greeting { error, .. } => match error {
            GreetingError::Closed
            | GreetingError::Late
            | GreetingError::Send(_)
            | GreetingError::Recv(_) => After::Retry,
            _ => After::Refuse,
        },
        _ => After::Retry,
    }
}

fn note(neighbours: &Neighbours, entry: &Entry, after: After) {
    let mut neighbours = lock(neighbours);
    // It may be gone meanwhile.
    let Some(neighbour) = neighbours.get_mut(&entry.node) else {
        return;
    };
    match after {
        After::Met => {
            neighbour.state = State::Met;
            neighbour.failures = 0;
        }
        After::Retry => neighbour.retry(Instant::now()),
        After::Refuse => neighbour.state = State::Refused,
        After::Forget => {
            neighbours.remove(&entry.node);
        }
    }
}

impl Source for Finder {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(AsFd::as_fd)
    }

    fn deadline(&self) -> Option<Instant> {
        let neighbours = lock(&self.neighbours);
        let due = neighbours
            .values()
            .filter_map(|neighbour| match neighbour.state {
                State::Due(at) => Some(at),
                _ => None,
            });
        due.min()
    }

    fn on_event(&mut self, event: Event, now: Instant, watch: &WatchHandle) -> Next {
        if event == Event::Ready
            && let Err(error) = self.read_changes(now)
        {
            self.changes = None;
            (self.on_meeting)(Err(MeetingError::Directory(error)), watch);
        }
        self.visit_those_due(now, watch);
        Next::Keep
    }
}
