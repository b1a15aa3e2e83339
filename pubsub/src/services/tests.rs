//! What a peer that does not keep to the protocol of services can do to this node: frames by hand, over links that are none.

use super::frame::Frame;
use super::registry::Registry;
use super::slot::Slot;
use crate::transport::{
    Carried, Ending, Filled, Guard, Inlet, Lease, Listener, LoanRefusal, OutLink, OutLoan, Outlet,
    Remote, Stamp, Took,
};
use mproc_runtime::{Runtime, WhenFull};
use parking_lot::Mutex;
use std::any::Any;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Instant;

/// A peer, which says one frame after the other.
struct Says<F>(F);

struct Bytes(Vec<u8>, Stamp);

fn stamp() -> Stamp {
    Stamp {
        topic: super::links::Links::topic(),
        publisher: 0,
        sequence: 0,
        published: Instant::now(),
        has_parts: false,
    }
}

impl Lease for Bytes {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn copied(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn stamp(&self) -> &Stamp {
        &self.1
    }
}

impl<F: FnMut() -> Option<Vec<u8>> + Send> Inlet for Says<F> {
    fn has_news(&self) -> bool {
        true
    }

    fn take(&mut self) -> Took {
        match (self.0)() {
            Some(bytes) => Took::Sample {
                lease: Box::new(Bytes(bytes, stamp())),
                gap: 0,
            },
            None => Took::Nothing,
        }
    }

    fn queued(&self) -> usize {
        0
    }

    fn settle(&mut self) -> Option<Ending> {
        None
    }
}

/// A link to the peer, which takes nothing unless it is told to.
struct Link {
    remote: Remote,
    outlet: Arc<dyn Outlet>,
    takes: bool,
    taken: Mutex<Vec<Vec<u8>>>,
}

struct Heap;

struct OnHeap(Vec<u8>);

impl Outlet for Heap {
    fn loan(&self, bytes: usize) -> Result<Box<dyn OutLoan>, LoanRefusal> {
        Ok(Box::new(OnHeap(vec![0; bytes])))
    }

    fn poll_loan(&self, bytes: usize, _: &Waker) -> Result<Box<dyn OutLoan>, LoanRefusal> {
        self.loan(bytes)
    }
}

impl OutLoan for OnHeap {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn truncate(&mut self, bytes: usize) {
        self.0.truncate(bytes);
    }

    fn freeze(self: Box<Self>) -> Arc<dyn Filled> {
        Arc::new(*self)
    }
}

impl Filled for OnHeap {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn thaw(self: Arc<Self>) -> Result<Box<dyn OutLoan>, Arc<dyn Filled>> {
        Err(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl OutLink for Link {
    fn outlet(&self) -> &Arc<dyn Outlet> {
        &self.outlet
    }

    fn capacity(&self) -> usize {
        1
    }

    fn when_full(&self) -> WhenFull {
        WhenFull::Wait
    }

    fn is_tap(&self) -> bool {
        false
    }

    fn remote(&self) -> &Remote {
        &self.remote
    }

    fn set_listener(&self, _: Weak<dyn Listener>) {}

    fn push(&self, filled: &Arc<dyn Filled>, _: &Stamp, _: Guard) -> Carried {
        if !self.takes {
            return Carried::Full;
        }
        self.taken.lock().push(filled.bytes().to_vec());
        Carried::Queued { evicted: false }
    }

    fn queued(&self) -> usize {
        0
    }

    fn sweep(&self) {}

    fn watch(&self, _: bool) {}

    fn ring(&self) {}

    fn close(&self) {}
}

fn registry() -> Arc<Registry> {
    Registry::new(&Weak::new(), &Runtime::simulated(1), false)
}

/// Meets a peer that says what `says` gives.
fn meet(
    registry: &Registry,
    node: u8,
    takes: bool,
    says: impl FnMut() -> Option<Vec<u8>> + Send + 'static,
) -> Arc<Link> {
    let remote = Remote {
        node: [node; 16],
        label: format!("process {node}"),
    };
    let link = Arc::new(Link {
        remote: remote.clone(),
        outlet: Arc::new(Heap),
        takes,
        taken: Mutex::default(),
    });
    let joined: Arc<dyn OutLink> = link.clone();
    registry.joined(&joined).unwrap();
    assert!(registry.opened(&remote, Box::new(Says(says))));
    link
}

/// More turns than any peer here needs to say all, or to be left.
fn turns(registry: &Registry) {
    for _ in 0..2_000 {
        registry.turn();
    }
}

fn sessions(registry: &Registry) -> usize {
    registry.state.lock().sessions.len()
}

fn serve(server: u64, name: &str) -> Vec<u8> {
    let types = ("u32", 7);
    let frame = Frame::Serve {
        server,
        shared: true,
        name,
        request: types,
        reply: types,
    };
    frame.to_bytes()
}

#[test]
fn nonsense_ends_the_exchange_and_leaves_nothing() {
    let nonsense: [&[u8]; 5] = [
        &[],
        &[1, 2, 3],
        // A text that is longer than the frame.
        &[7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, b'x'],
        // More has been taken than was sent.
        &Frame::Taken {
            server: 1,
            count: 9,
        }
        .to_bytes(),
        &serve(2, "no name\n"),
    ];
    for bytes in nonsense {
        let registry = registry();
        let mut frames = vec![bytes.to_vec(), serve(1, "ghost")];
        meet(&registry, 1, true, move || frames.pop());
        turns(&registry);
        assert_eq!(sessions(&registry), 0, "{bytes:?}");
        assert_eq!(registry.servers("ghost"), 0, "{bytes:?}");
        assert!(registry.state.lock().services.is_empty(), "{bytes:?}");
    }
}

// Each number that no server has was counted for ever, and the answers to one who never takes them were kept.
#[test]
fn a_peer_that_asks_and_takes_no_answers_is_left() {
    let registry = registry();
    let mut call = 0;
    meet(&registry, 1, false, move || {
        call += 1;
        let frame = Frame::Request {
            call,
            server: call,
            body: &[],
        };
        Some(frame.to_bytes())
    });
    let session = registry.state.lock().sessions[0].clone();
    registry.turn();
    assert!(session.taken.lock().is_empty(), "it asked for nobody");
    assert!(session.has_backlog());
    turns(&registry);
    assert_eq!(sessions(&registry), 0);
    assert!(!session.has_backlog());
}

#[test]
fn a_peer_that_says_that_it_serves_everything_is_left() {
    let registry = registry();
    let mut server = 0;
    meet(&registry, 1, true, move || {
        server += 1;
        Some(serve(server, &format!("service-{server}")))
    });
    turns(&registry);
    assert_eq!(sessions(&registry), 0);
    assert!(registry.state.lock().services.is_empty());
}

// What served once and does not any more stayed in the list of services.
#[test]
fn services_of_others_that_end_are_forgotten() {
    let registry = registry();
    let mut server = 0;
    meet(&registry, 1, true, move || {
        server += 1;
        let number = server / 2;
        (number < 10_000).then(|| match server % 2 {
            0 => serve(number, &format!("service-{number}")),
            _ => Frame::Unserve { server: number }.to_bytes(),
        })
    });
    turns(&registry);
    assert_eq!(sessions(&registry), 1);
    assert!(registry.state.lock().services.is_empty());
}

// Frames of one peer were taken as long as there were any, so a peer that never stopped kept all others waiting.
#[test]
fn a_peer_that_never_stops_leaves_others_their_turns() {
    let registry = registry();
    meet(&registry, 1, true, || {
        Some(Frame::Cancel { call: 1 }.to_bytes())
    });
    let mut frames = vec![serve(1, "quiet")];
    meet(&registry, 2, true, move || frames.pop());
    registry.turn();
    assert_eq!(registry.servers("quiet"), 1);
    assert_eq!(sessions(&registry), 2);
}

// Only the end of the link from the other node ends a session. One to whom that link was never made was kept for ever.
#[test]
fn a_peer_that_leaves_before_it_has_said_anything_is_forgotten() {
    let registry = registry();
    for node in 0..3 {
        let link: Arc<dyn OutLink> = Arc::new(Link {
            remote: Remote {
                node: [node; 16],
                label: format!("process {node}"),
            },
            outlet: Arc::new(Heap),
            takes: true,
            taken: Mutex::default(),
        });
        let id = registry.joined(&link).unwrap();
        assert_eq!(sessions(&registry), 1);
        registry.left(id);
        assert_eq!(sessions(&registry), 0);
    }
}

// Whoever stood in line was woken when there was room, and sent its request itself: one that looked at the right moment overtook
// those before it.
#[test]
fn requests_that_stand_in_line_are_sent_in_order_whoever_looks() {
    let registry = registry();
    let frames = Arc::new(Mutex::new(vec![serve(1, "narrow")]));
    let says = Arc::clone(&frames);
    let link = meet(&registry, 1, true, move || says.lock().pop());
    registry.turn();
    let server = registry.state.lock().services["narrow"].servers[0].clone();
    let slots: Vec<Arc<Slot>> = (0..100).map(|_| Arc::default()).collect();
    let body = Arc::new(Vec::new());
    let send = |call: usize| {
        registry
            .send(&server, call as u64, &slots[call], &body, Waker::noop())
            .map(Result::unwrap)
    };
    let sent = || -> Vec<u64> {
        let taken = link.taken.lock();
        let calls = taken.iter().map(|bytes| match Frame::read(bytes) {
            Ok(Some(Frame::Request { call, .. })) => call,
            other => panic!("{other:?}"),
        });
        calls.collect()
    };
    for call in 0..70 {
        assert_eq!(send(call).is_some(), call < 64);
    }
    // One of those in line gives up.
    registry.leave_line(&server, 66);
    // Room for three: the first three have it, though nobody has asked again.
    let taken = Frame::Taken {
        server: 1,
        count: 3,
    };
    frames.lock().push(taken.to_bytes());
    registry.turn();
    assert_eq!(sent()[64..], [64, 65, 67]);
    assert_eq!((send(68), send(70), send(65)), (None, None, Some(())));
    let taken = Frame::Taken {
        server: 1,
        count: 40,
    };
    frames.lock().push(taken.to_bytes());
    registry.turn();
    assert_eq!(sent()[67..], [68, 69, 70]);
    assert_eq!(send(71), Some(()));
    // One that was sent from the line gives up: the server is told.
    registry.leave_line(&server, 69);
    let last = link.taken.lock().last().cloned();
    let last = last.as_deref().map(Frame::read);
    assert_eq!(last, Some(Ok(Some(Frame::Cancel { call: 69 }))));
}
