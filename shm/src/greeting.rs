//! From a connection to a peer that can be believed: both say hello, and each judges what the other said.
//!
//! | state   | becomes                                                                            |
//! |---------|------------------------------------------------------------------------------------|
//! | said    | met, when the peer's `Hello` has come, alone in its packet, and fits ours            |
//! | said    | refused: the connection is closed, nothing was mapped                                |
//!
//! A greeting begins by saying ours, before the peer's is read: the peer needs it to name both values where they differ.
//!
//! Who accepts waits [`HANDSHAKE_LIMIT`] and for a bounded number of peers ([`HalfOpen`]), because anybody may connect.
//! Who connects chose the peer and may wait without a limit: a stopped process answers when it goes on, and one that
//! ends closes the connection.

use crate::directory::{Directory, Entry};
use crate::handshake::{Agreed, DecodeError, Frame, Frames, Hello, Mismatch};
use crate::process::{Identity, NodeId, Process};
use crate::socket::{
    AcceptError, ConnectError, Connection, Listener, Packet, RecvError, SendError,
};
use crate::watch::{Event, Next, Source, WatchEnded, WatchHandle};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long a peer that connects may take for its greeting.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(1);

/// How many connections a reception takes in one turn before others have theirs.
const ACCEPTS_PER_TURN: usize = 16;

/// How long a listener rests that is ready and cannot be served.
const STUCK_REST: Duration = Duration::from_millis(100);

/// Bounds the number of peers that have connected and not said hello.
#[derive(Clone, Debug)]
pub struct HalfOpen {
    /// How many more may come in.
    free: Arc<AtomicUsize>,
}

impl HalfOpen {
    /// At most `count_max` at a time.
    pub fn new(count_max: usize) -> Self {
        Self {
            free: Arc::new(AtomicUsize::new(count_max)),
        }
    }

    /// One more, if there is room.
    pub fn admit(&self) -> Option<Permit> {
        // Relaxed: the number guards no other memory.
        let taken = self
            .free
            .fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1));
        taken.ok().map(|_| Permit {
            free: Arc::clone(&self.free),
        })
    }
}

/// A place among the half-open ones, given back at drop.
#[derive(Debug)]
pub struct Permit {
    free: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.free.fetch_add(1, Relaxed);
    }
}

/// A process that has said hello, and fits.
#[derive(Debug)]
pub struct Peer {
    /// The connection to it.
    pub connection: Connection,
    /// Who it says it is.
    pub identity: Identity,
    /// What both sides have in common.
    pub agreed: Agreed,
}

/// Why there is no [`Peer`]. The connection is closed.
#[derive(Debug)]
#[non_exhaustive]
pub enum GreetingError {
    /// It did not say hello within the limit.
    Late,
    /// It closed the connection before it said hello: it has ended, has no room for us now, or found that we do not
    /// fit. Unless it has ended, try again later.
    Closed,
    /// It does not fit. A later attempt cannot succeed.
    Mismatch {
        /// Who it says it is.
        peer: Identity,
        /// Both sides' values.
        mismatch: Mismatch,
    },
    /// Another node answers at this name.
    OtherNode {
        /// The one in the name.
        expected: NodeId,
        /// The one that answered.
        found: NodeId,
    },
    /// It is not the process that it says it is.
    OtherProcess(Identity),
    /// What it sent are not frames.
    Decode(DecodeError),
    /// What it sent first is not a hello, or not only that.
    NotHello,
    /// Our hello could not be sent.
    Send(SendError),
    /// Its hello could not be received.
    Recv(RecvError),
}

impl fmt::Display for GreetingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => write!(f, "the peer did not say hello within {HANDSHAKE_LIMIT:?}"),
            Self::Closed => {
                f.write_str("the peer ended or closed the connection before it said hello")
            }
            Self::Mismatch { peer, mismatch } => write!(f, "cannot work with {peer}: {mismatch}"),
            Self::OtherNode { expected, found } => {
                write!(f, "node {found} answers at the socket of node {expected}")
            }
            Self::OtherProcess(identity) => write!(f, "the peer is not {identity}, as it says"),
            Self::Decode(error) => write!(f, "the peer's hello is not well-formed: {error}"),
            Self::NotHello => f.write_str("the peer's first packet is not a hello"),
            Self::Send(error) => write!(f, "{error}"),
            Self::Recv(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for GreetingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Mismatch { mismatch, .. } => Some(mismatch),
            Self::Decode(error) => Some(error),
            Self::Send(error) => Some(error),
            Self::Recv(error) => Some(error),
            _ => None,
        }
    }
}

/// A connection on which not both sides have said hello.
#[derive(Debug)]
pub struct Greeting {
    connection: Connection,
    ours: Hello,
    /// Who should answer, where we know.
    expected: Option<NodeId>,
    deadline: Option<Instant>,
    /// Held by those who were accepted.
    _permit: Option<Permit>,
}

/// How far a [`Greeting`] is.
#[derive(Debug)]
pub enum Progress {
    /// Call again when the socket is ready.
    Waiting(Greeting),
    /// Both have said hello.
    Met(Peer),
}

impl Greeting {
    /// With one who connected to us, to end before `deadline`.
    ///
    /// # Errors
    ///
    /// Our hello could not be sent. The connection is closed.
    pub fn accepted(
        connection: Connection,
        ours: Hello,
        deadline: Instant,
        permit: Permit,
    ) -> Result<Self, GreetingError> {
        say_hello(&connection, ours)?;
        Ok(Self {
            connection,
            ours,
            expected: None,
            deadline: Some(deadline),
            _permit: Some(permit),
        })
    }

    /// With `expected`, to whom we connected.
    ///
    /// # Errors
    ///
    /// Our hello could not be sent. The connection is closed.
    pub fn connected(
        connection: Connection,
        ours: Hello,
        expected: NodeId,
    ) -> Result<Self, GreetingError> {
        say_hello(&connection, ours)?;
        Ok(Self {
            connection,
            ours,
            expected: Some(expected),
            deadline: None,
            _permit: None,
        })
    }

    /// When it has to be over.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The connection, to wait for.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Does what can be done now.
    ///
    /// # Errors
    ///
    /// [`GreetingError`]. The connection is closed.
    pub fn advance(self, now: Instant) -> Result<Progress, GreetingError> {
        let mut packet = Packet::new();
        match self.connection.socket.recv(&mut packet) {
            Ok(true) => self.judge(&mut packet).map(Progress::Met),
            Ok(false) if self.deadline.is_some_and(|at| at <= now) => Err(GreetingError::Late),
            // Somebody else may hold the other end open.
            Ok(false) if self.connection.process.has_ended() => Err(GreetingError::Closed),
            Ok(false) => Ok(Progress::Waiting(self)),
            Err(RecvError::Closed) => Err(GreetingError::Closed),
            Err(error) => Err(GreetingError::Recv(error)),
        }
    }

    fn judge(self, packet: &mut Packet) -> Result<Peer, GreetingError> {
        let (bytes, descriptors) = packet.parts();
        let mut frames = Frames::new(bytes, descriptors.len());
        let theirs = match frames.next() {
            Some(Ok((Frame::Hello(theirs), 0))) => theirs,
            Some(Err(error)) => return Err(GreetingError::Decode(error)),
            _ => return Err(GreetingError::NotHello),
        };
        match frames.next() {
            None => {}
            Some(Err(error)) => return Err(GreetingError::Decode(error)),
            Some(Ok(_)) => return Err(GreetingError::NotHello),
        }
        let identity = theirs.identity;
        let agreed = self
            .ours
            .agree(&theirs)
            .map_err(|mismatch| GreetingError::Mismatch {
                peer: identity,
                mismatch,
            })?;
        if let Some(expected) = self.expected.filter(|&expected| expected != identity.node) {
            let found = identity.node;
            return Err(GreetingError::OtherNode { expected, found });
        }
        if !self.connection.process.is(&identity) {
            return Err(GreetingError::OtherProcess(identity));
        }
        Ok(Peer {
            connection: self.connection,
            identity,
            agreed,
        })
    }
}

fn say_hello(connection: &Connection, ours: Hello) -> Result<(), GreetingError> {
    let mut hello = Vec::with_capacity(128);
    let encoded = Frame::Hello(ours).encode(0, &mut hello);
    encoded.expect("a hello has no texts and fits into a packet");
    match connection.socket.send(&hello, &[]) {
        // A peer that has closed may have said hello before; then that says more.
        Ok(()) | Err(SendError::Closed) => Ok(()),
        Err(error) => Err(GreetingError::Send(error)),
    }
}

/// Why somebody did not become a [`Peer`].
#[derive(Debug)]
#[non_exhaustive]
pub enum MeetingError {
    /// It could not be accepted.
    Accept(AcceptError),
    /// Too many others have connected and not said hello; the connection was closed. The peer tries again later.
    Crowded,
    /// We could not connect to it.
    Connect {
        /// To whom.
        entry: Entry,
        /// Why.
        error: ConnectError,
    },
    /// It did not greet as it should.
    Greeting {
        /// To whom we connected; none if it connected to us.
        entry: Option<Entry>,
        /// Why.
        error: GreetingError,
    },
    /// There is no watch to wait by.
    Watch(WatchEnded),
    /// The directory was removed or cannot be read: those who start now are not found. Living peers stay.
    Directory(io::Error),
}

impl fmt::Display for MeetingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(error) => write!(f, "{error}"),
            Self::Crowded => f.write_str("too many peers have connected and not said hello"),
            Self::Connect { entry, error } => write!(f, "{entry}: {error}"),
            Self::Greeting {
                entry: Some(entry),
                error,
            } => write!(f, "{entry}: {error}"),
            Self::Greeting { entry: None, error } => write!(f, "{error}"),
            Self::Watch(error) => write!(f, "{error}"),
            Self::Directory(error) => write!(f, "cannot find new peers: {error}"),
        }
    }
}

impl std::error::Error for MeetingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Accept(error) => Some(error),
            Self::Crowded => None,
            Self::Connect { error, .. } => Some(error),
            Self::Greeting { error, .. } => Some(error),
            Self::Watch(error) => Some(error),
            Self::Directory(error) => Some(error),
        }
    }
}

/// Told of everybody who was met and of everybody who was not: on the watch's thread, or on the one that calls [`visit`].
/// Not told of those who connect and close without a word.
pub type OnMeeting = Arc<dyn Fn(Result<Peer, MeetingError>, &WatchHandle) + Send + Sync>;

/// A greeting that a watch carries on.
struct Meeting {
    /// None once it is over.
    greeting: Option<Greeting>,
    /// To whom we connected; none if it connected to us.
    entry: Option<Entry>,
    on_meeting: OnMeeting,
}

impl Source for Meeting {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let greeting = self.greeting.as_ref()?;
        Some(greeting.connection.socket.as_fd())
    }

    fn process(&self) -> Option<&Process> {
        let greeting = self.greeting.as_ref()?;
        Some(&greeting.connection.process)
    }

    fn deadline(&self) -> Option<Instant> {
        self.greeting.as_ref().and_then(Greeting::deadline)
    }

    fn on_event(&mut self, _: Event, now: Instant, watch: &WatchHandle) -> Next {
        let Some(greeting) = self.greeting.take() else {
            return Next::Drop;
        };
        let met = match greeting.advance(now) {
            Ok(Progress::Waiting(greeting)) => {
                self.greeting = Some(greeting);
                return Next::Keep;
            }
            Ok(Progress::Met(peer)) => Ok(peer),
            Err(error) => Err(MeetingError::Greeting {
                entry: self.entry,
                error,
            }),
        };
        tell(met, &self.on_meeting, watch);
        Next::Drop
    }
}

fn tell(met: Result<Peer, MeetingError>, on_meeting: &OnMeeting, watch: &WatchHandle) {
    // Whoever connects and closes without a word wanted to know whether we live (`Directory::remove_stale`).
    let is_probe = matches!(
        met,
        Err(MeetingError::Greeting {
            entry: None,
            error: GreetingError::Closed
        })
    );
    if !is_probe {
        on_meeting(met, watch);
    }
}

/// Begins a greeting at once, and leaves the rest to `watch`.
fn meet(
    greeting: Result<Greeting, GreetingError>,
    entry: Option<Entry>,
    on_meeting: &OnMeeting,
    watch: &WatchHandle,
) {
    let met = match greeting.and_then(|greeting| greeting.advance(Instant::now())) {
        Ok(Progress::Waiting(greeting)) => {
            let meeting = Meeting {
                greeting: Some(greeting),
                entry,
                on_meeting: Arc::clone(on_meeting),
            };
            match watch.add("greeting", meeting) {
                Ok(_) => return,
                Err(ended) => Err(MeetingError::Watch(ended)),
            }
        }
        Ok(Progress::Met(peer)) => Ok(peer),
        Err(error) => Err(MeetingError::Greeting { entry, error }),
    };
    tell(met, on_meeting, watch);
}

/// Connects to the one who listens at `entry` and greets it. `on_meeting` is told once, perhaps before this returns.
pub fn visit(
    directory: &Directory,
    entry: Entry,
    ours: Hello,
    on_meeting: &OnMeeting,
    watch: &WatchHandle,
) {
    match directory.connect(&entry) {
        Ok(connection) => {
            let greeting = Greeting::connected(connection, ours, entry.node);
            meet(greeting, Some(entry), on_meeting, watch);
        }
        Err(error) => on_meeting(Err(MeetingError::Connect { entry, error }), watch),
    }
}

/// Accepts and greets whoever connects: a source for a [`Watch`](crate::Watch).
pub struct Reception {
    listener: Listener,
    ours: Hello,
    half_open: HalfOpen,
    on_meeting: OnMeeting,
}

impl Reception {
    /// At `listener`, for at most `half_open_max` at a time who have not said hello.
    pub fn new(
        listener: Listener,
        ours: Hello,
        half_open_max: usize,
        on_meeting: OnMeeting,
    ) -> Self {
        Self {
            listener,
            ours,
            half_open: HalfOpen::new(half_open_max),
            on_meeting,
        }
    }
}

impl fmt::Debug for Reception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reception({:?})", self.listener)
    }
}

impl Source for Reception {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.listener.as_fd())
    }

    fn on_event(&mut self, _: Event, now: Instant, watch: &WatchHandle) -> Next {
        for _ in 0..ACCEPTS_PER_TURN {
            let connection = match self.listener.accept() {
                Ok(Some(connection)) => connection,
                Ok(None) => break,
                Err(error) => {
                    let rests = matches!(
                        error,
                        AcceptError::NoDescriptor { is_stuck: true, .. } | AcceptError::Io(_)
                    );
                    (self.on_meeting)(Err(MeetingError::Accept(error)), watch);
                    if rests {
                        return Next::RestUntil(now + STUCK_REST);
                    }
                    continue;
                }
            };
            match self.half_open.admit() {
                Some(permit) => {
                    let greeting =
                        Greeting::accepted(connection, self.ours, now + HANDSHAKE_LIMIT, permit);
                    meet(greeting, None, &self.on_meeting, watch);
                }
                None => (self.on_meeting)(Err(MeetingError::Crowded), watch),
            }
        }
        Next::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Domain;
    use crate::handshake::Protocols;
    use crate::watch::Watch;
    use std::sync::mpsc::channel;

    fn hello(node: u8) -> Hello {
        Hello {
            protocols: Protocols { min: 1, max: 1 },
            features: 0,
            abi: 5,
            identity: Identity::here(NodeId::from_bytes([node; 16])).unwrap(),
        }
    }

    fn pair() -> (Connection, Connection) {
        let (a, b) = crate::sys::pair().unwrap();
        (Connection::new(a).unwrap(), Connection::new(b).unwrap())
    }

    /// A greeting of node 1 with one who accepted, and the end of the latter.
    fn greeting(deadline: Instant) -> (Greeting, Connection) {
        let (ours, theirs) = pair();
        let permit = HalfOpen::new(1).admit().unwrap();
        let greeting = Greeting::accepted(ours, hello(1), deadline, permit);
        (greeting.unwrap(), theirs)
    }

    fn packet(frames: &[Frame<'_>]) -> Vec<u8> {
        let mut packet = Vec::new();
        for frame in frames {
            frame.encode(0, &mut packet).unwrap();
        }
        packet
    }

    /// What is said to one whose first packet is this.
    fn answer(first: &[u8]) -> GreetingError {
        let now = Instant::now();
        let (greeting, theirs) = greeting(now + HANDSHAKE_LIMIT);
        theirs.socket.send(first, &[]).unwrap();
        greeting.advance(now).unwrap_err()
    }

    #[test]
    fn two_that_fit_meet() {
        let (ours, theirs) = pair();
        let node = |node| NodeId::from_bytes([node; 16]);
        let ours = Greeting::connected(ours, hello(1), node(2)).unwrap();
        let now = Instant::now();
        let Progress::Waiting(ours) = ours.advance(now).unwrap() else {
            panic!("the other has not said hello");
        };
        let theirs = Greeting::connected(theirs, hello(2), node(1)).unwrap();
        for (greeting, met) in [(ours, 2), (theirs, 1)] {
            let Progress::Met(peer) = greeting.advance(now).unwrap() else {
                panic!("both have said hello");
            };
            assert_eq!(peer.identity.node, node(met));
            assert_eq!(peer.agreed.protocol, 1);
        }
    }

    #[test]
    fn silent_peer_is_refused_at_the_limit_and_not_before() {
        let start = Instant::now();
        let (greeting, _theirs) = greeting(start + HANDSHAKE_LIMIT);
        let Ok(Progress::Waiting(greeting)) = greeting.advance(start + HANDSHAKE_LIMIT / 2) else {
            panic!("there is time left");
        };
        let error = greeting.advance(start + HANDSHAKE_LIMIT).unwrap_err();
        assert_eq!(error.to_string(), "the peer did not say hello within 1s");
    }

    #[test]
    fn peer_that_says_anything_else_first_is_refused() {
        let detach = Frame::Other {
            kind: 0x100,
            body: b"a call",
        };
        assert!(matches!(
            answer(&packet(&[detach])),
            GreetingError::NotHello
        ));
        let two = packet(&[Frame::Hello(hello(2)), detach]);
        assert!(matches!(answer(&two), GreetingError::NotHello));
        assert!(matches!(
            answer(b"GET / HTTP/1.1"),
            GreetingError::Decode(_)
        ));
        let (greeting, theirs) = greeting(Instant::now() + HANDSHAKE_LIMIT);
        drop(theirs);
        assert!(matches!(
            greeting.advance(Instant::now()),
            Err(GreetingError::Closed)
        ));
    }

    #[test]
    fn peer_that_is_another_than_expected_is_refused() {
        let (ours, theirs) = pair();
        let expected = NodeId::from_bytes([3; 16]);
        let greeting = Greeting::connected(ours, hello(1), expected).unwrap();
        theirs
            .socket
            .send(&packet(&[Frame::Hello(hello(2))]), &[])
            .unwrap();
        let error = greeting.advance(Instant::now()).unwrap_err();
        let found = NodeId::from_bytes([2; 16]);
        let text = format!("node {found} answers at the socket of node {expected}");
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn places_of_the_half_open_are_bounded_and_come_back() {
        let half_open = HalfOpen::new(2);
        let first = half_open.admit().unwrap();
        let _second = half_open.admit().unwrap();
        assert!(half_open.admit().is_none());
        drop(first);
        assert!(half_open.admit().is_some());
    }

    #[test]
    fn reception_refuses_a_crowd_and_then_the_silent() {
        let base = tempfile::tempdir().unwrap();
        let directory = Directory::open_at(base.path(), &Domain::new("lab").unwrap()).unwrap();
        let (listener, own) = directory.bind(NodeId::from_bytes([1; 16])).unwrap();
        let watch = Watch::start("watch", |name, text| panic!("{name}: {text}")).unwrap();
        let (tell, told) = channel();
        let on_meeting: OnMeeting =
            Arc::new(move |met, _| tell.send(met.map(|_| ()).unwrap_err()).unwrap());
        let silent = directory.connect(&own.entry()).unwrap();
        let crowd = directory.connect(&own.entry()).unwrap();
        let reception = Reception::new(listener, hello(1), 1, on_meeting);
        watch.handle().add("reception", reception).unwrap();
        assert!(matches!(told.recv().unwrap(), MeetingError::Crowded));
        let late = told.recv().unwrap();
        let is_late = matches!(
            late,
            MeetingError::Greeting {
                error: GreetingError::Late,
                ..
            }
        );
        assert!(is_late, "{late}");
        // Both were closed. The first had been greeted.
        assert!(crowd.socket.is_closed());
        let mut packet = Packet::new();
        assert!(silent.socket.recv(&mut packet).unwrap());
    }
}
