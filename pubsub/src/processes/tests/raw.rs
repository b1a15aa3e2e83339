//! A peer that says what no node says, made of sockets and frames alone.

use super::*;
use mproc_shm::{
    ABI_HASH, Accept, Announce, Attach, BellPage, Detach, DetachReason, Directory, Domain,
    Endpoint, EndpointOptions, Frame, Frames, Hello, Identity, NodeId, PROTOCOL, Packet, Peer,
    Protocols, RecvError, Refuse, RefuseReason, Rendezvous, Retire, TopicType, Watch,
};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::channel;

/// What was received, without what it borrows.
#[derive(Debug)]
enum Said {
    Announce(u64),
    Attach(u32),
    Accept(Accept, Vec<OwnedFd>),
    Refuse(RefuseReason, String, String),
    Detach(u32, DetachReason, String),
    Retire(Retire),
    Other,
    Closed,
}

struct Raw {
    peer: Peer,
    bells: BellPage,
    _rendezvous: Rendezvous,
    _watch: Watch,
    packet: Packet,
    said: VecDeque<Said>,
}

fn raw(base: &Path) -> Raw {
    let watch = Watch::start("raw", |name, text| panic!("{name}: {text}")).unwrap();
    let directory = Directory::open_at(base, &Domain::new("lab").unwrap()).unwrap();
    // The smallest: it visits, and its own links have even numbers.
    let node = NodeId::from_bytes([0; 16]);
    let hello = Hello {
        protocols: Protocols {
            min: PROTOCOL as u16,
            max: PROTOCOL as u16,
        },
        features: 0,
        abi: ABI_HASH,
        identity: Identity::here(node).unwrap(),
    };
    let (tell, told) = channel();
    let on_meeting = Arc::new(move |met, _: &_| {
        let _ = tell.send(met);
    });
    let rendezvous = Rendezvous::join(&directory, hello, watch.handle(), on_meeting).unwrap();
    Raw {
        peer: told.recv_timeout(LONG).unwrap().unwrap(),
        bells: BellPage::create([0; 16]).unwrap(),
        _rendezvous: rendezvous,
        _watch: watch,
        packet: Packet::new(),
        said: VecDeque::new(),
    }
}

impl Raw {
    fn send(&self, frame: &Frame<'_>, descriptors: &[BorrowedFd<'_>]) {
        let mut bytes = Vec::new();
        frame.encode(descriptors.len() as u8, &mut bytes).unwrap();
        self.peer
            .connection
            .socket
            .send(&bytes, descriptors)
            .unwrap();
    }

    fn attach(&self, request: u32, change: impl FnOnce(&mut Attach<'_>)) {
        let mut attach = Attach {
            request,
            depth: 4,
            leases_max: 1,
            history: 0,
            bell: 1,
            when_full: 1,
            topic: topic(),
        };
        change(&mut attach);
        self.send(&Frame::Attach(attach), &[self.bells.as_fd()]);
    }

    fn receive(&mut self) {
        match self.peer.connection.socket.recv(&mut self.packet) {
            Ok(false) => return std::thread::yield_now(),
            Err(RecvError::Closed) => return self.said.push_back(Said::Closed),
            got => assert!(got.unwrap()),
        }
        let (bytes, descriptors) = self.packet.parts();
        let mut descriptors = std::mem::take(descriptors).into_iter();
        for frame in Frames::new(bytes, descriptors.len()) {
            let (frame, count) = frame.unwrap();
            let its = descriptors.by_ref().take(count).collect();
            self.said.push_back(match frame {
                Frame::Announce(announce) => Said::Announce(announce.topic.id),
                Frame::Attach(attach) => Said::Attach(attach.request),
                Frame::Accept(accept) => Said::Accept(accept, its),
                Frame::Refuse(Refuse {
                    reason,
                    publisher,
                    subscriber,
                    ..
                }) => Said::Refuse(reason, publisher.into(), subscriber.into()),
                Frame::Detach(Detach { link, reason, text }) => {
                    Said::Detach(link, reason, text.into())
                }
                Frame::Retire(retire) => Said::Retire(retire),
                _ => Said::Other,
            });
        }
    }

    /// What it says next that `is_it`; what is said before is dropped.
    fn wait_for<R>(&mut self, what: &str, mut is_it: impl FnMut(Said) -> Option<R>) -> R {
        let end = Instant::now() + LONG;
        loop {
            while let Some(said) = self.said.pop_front() {
                if let Some(found) = is_it(said) {
                    return found;
                }
            }
            assert!(Instant::now() < end, "waiting for {what}");
            self.receive();
        }
    }

    fn refusal(&mut self) -> (RefuseReason, String, String) {
        self.wait_for("a refusal", |said| match said {
            Said::Refuse(reason, publisher, subscriber) => Some((reason, publisher, subscriber)),
            _ => None,
        })
    }

    fn detach(&mut self) -> (u32, DetachReason, String) {
        self.wait_for("a detach", |said| match said {
            Said::Detach(link, reason, text) => Some((link, reason, text)),
            _ => None,
        })
    }

    fn closed(&mut self) {
        self.wait_for("the end", |said| matches!(said, Said::Closed).then_some(()));
    }
}

fn topic() -> TopicType<'static> {
    TopicType {
        id: TopicId::from_name("numbers").get(),
        name: "numbers",
        type_hash: 64,
        type_name: "u64",
        codec: 2,
    }
}

/// A raw peer, and a node that publishes.
fn publisher() -> (tempfile::TempDir, Arc<Processes>, Arc<FakeTopic>, Raw) {
    publisher_with(|_| {})
}

fn publisher_with(
    change: impl FnOnce(&mut ProcessesOptions),
) -> (tempfile::TempDir, Arc<Processes>, Arc<FakeTopic>, Raw) {
    let base = tempfile::tempdir().unwrap();
    let node = node_with(base.path(), change);
    let topic = FakeTopic::new(key("numbers"));
    node.offer(topic.clone());
    let mut raw = raw(base.path());
    let id = topic.key.id.get();
    raw.wait_for("the topic", |said| {
        matches!(said, Said::Announce(it) if it == id).then_some(())
    });
    (base, node, topic, raw)
}

#[test]
fn request_that_does_not_fit_is_refused_with_both_values() {
    let (_base, node, _topic, mut raw) = publisher();
    raw.attach(0, |attach| {
        (attach.topic.type_hash, attach.topic.type_name) = (65, "i64")
    });
    let (reason, publisher, subscriber) = raw.refusal();
    assert_eq!(reason, RefuseReason::TYPE);
    assert!(publisher.starts_with("u64 (schema") && subscriber.starts_with("i64 (schema"));
    raw.attach(1, |attach| attach.topic.codec = 1);
    assert_eq!(
        raw.refusal(),
        (
            RefuseReason::CODEC,
            "codec Plain".into(),
            "codec Serde".into()
        )
    );
    raw.attach(2, |attach| attach.topic.name = "letters");
    let clash = (
        RefuseReason::CLASH,
        "\"numbers\"".into(),
        "\"letters\"".into(),
    );
    assert_eq!(raw.refusal(), clash);
    raw.attach(3, |attach| attach.when_full = 77);
    let policy = (
        RefuseReason::WHEN_FULL,
        "policies 1 to 5".into(),
        "policy 77".into(),
    );
    assert_eq!(raw.refusal(), policy);
    raw.attach(4, |attach| attach.depth = 0);
    let depth = (
        RefuseReason::DEPTH,
        "1 to 1048576 places".into(),
        "0 places".into(),
    );
    assert_eq!(raw.refusal(), depth);
    raw.attach(5, |attach| attach.leases_max = 0);
    assert_eq!(raw.refusal().0, RefuseReason::LEASES);
    raw.attach(6, |attach| attach.bell = 15);
    assert!(raw.refusal().1.contains("index of the bell"));
    raw.attach(7, |attach| attach.topic.id = 5);
    assert_eq!(raw.refusal().0, RefuseReason::NO_TOPIC);
    assert_eq!(node.snapshot().links, 0);
    // And what fits is given.
    raw.attach(8, |_| {});
    raw.wait_for("a link", |said| match said {
        Said::Accept(accept, its) if accept.request == 8 => Some(its.len()),
        _ => None,
    });
}

#[test]
fn nonsense_on_the_socket_closes_the_connection() {
    for nonsense in 0..5 {
        let (_base, node, topic, mut raw) = publisher();
        raw.attach(0, |_| {});
        topic.link(0);
        let accept = Frame::Accept(Accept {
            request: 9,
            link: 0,
            slots: 1,
            depth: 1,
            leases_max: 1,
            bell: 0,
            history: 0,
            publisher: 0,
        });
        let page = raw.bells.as_fd();
        match nonsense {
            // What was not asked for.
            0 => raw.send(&accept, &[page, page]),
            // Descriptors are missing.
            1 => raw.send(&accept, &[]),
            2 => raw.peer.connection.socket.send(b"no frame", &[]).unwrap(),
            3 => raw.send(
                &Frame::Refuse(Refuse {
                    request: 3,
                    reason: RefuseReason::TYPE,
                    publisher: "",
                    subscriber: "",
                }),
                &[],
            ),
            _ => raw.send(
                &Frame::Segment(mproc_shm::Segment {
                    link: 1,
                    segment: 0,
                    first_slot: 0,
                    slots: 1,
                    payload_bytes: 1,
                }),
                &[page],
            ),
        }
        raw.closed();
        topic.wait_until_left(0);
        until("it is counted", || {
            let counts = node.snapshot();
            (counts.violations, counts.lost_connections, counts.peers) == (1, 1, 0)
        });
    }
}

#[test]
fn subscriber_that_writes_nonsense_loses_its_link_and_the_others_go_on() {
    let (base, node, topic, mut raw) = publisher();
    raw.attach(0, |_| {});
    let (accept, mut its) = raw.wait_for("a link", |said| match said {
        Said::Accept(accept, its) => Some((accept, its)),
        _ => None,
    });
    assert_eq!(accept.link & 1, 1, "the node's own numbers are odd");
    let bad = topic.link(0);
    let other = super::node(base.path());
    let subscription = FakeSubscription::new(key("numbers"), 4, WhenFull::Wait, 1);
    other.seek(subscription.clone());
    let good = topic.link(1);
    let guard: Guard = Arc::new(());
    push(&bad, b"0", &stamp(0), guard.clone());
    let words = File::from(its.swap_remove(0));
    let bytes = words.metadata().unwrap().len();
    words.write_all_at(&vec![0xFF; bytes as usize], 0).unwrap();
    until("it is seen", || {
        push(&bad, b"1", &stamp(1), guard.clone()) == Carried::Gone
    });
    let (link, reason, _) = raw.detach();
    assert_eq!((link, reason), (accept.link, DetachReason::NONSENSE));
    topic.wait_until_left(0);
    until("it is counted", || node.snapshot().violations == 1);
    // What it had stays with it, for it may still read.
    bad.sweep();
    assert!(Arc::strong_count(&guard) > 1);
    publish(&good, b"well", 0);
    assert_eq!(subscription.sample().0.bytes(), b"well");
}

#[test]
fn publisher_that_writes_nonsense_loses_its_link() {
    let base = tempfile::tempdir().unwrap();
    let node = node(base.path());
    let subscription = FakeSubscription::new(key("numbers"), 4, WhenFull::Wait, 1);
    node.seek(subscription.clone());
    let mut raw = raw(base.path());
    let announce = Announce {
        roles: Announce::PUBLISHES,
        topic: topic(),
    };
    raw.send(&Frame::Announce(announce), &[]);
    let request = raw.wait_for("a request", |said| match said {
        Said::Attach(request) => Some(request),
        _ => None,
    });
    let mut endpoint = Endpoint::new(EndpointOptions {
        bytes_max: 1 << 20,
        slots_max: 64,
        history: 0,
        node: [0; 16],
    });
    let attached = endpoint
        .attach(4, 1, mproc_shm::WhenFull::Wait, None)
        .unwrap();
    let accept = Accept {
        request,
        link: 0,
        slots: 64,
        depth: 4,
        leases_max: 1,
        bell: 0,
        history: 0,
        publisher: 0,
    };
    let page = raw.bells.as_fd();
    raw.send(&Frame::Accept(accept), &[attached.fd.as_fd(), page]);
    subscription.inlets(1);
    let words = File::from(attached.fd);
    let bytes = words.metadata().unwrap().len();
    words.write_all_at(&vec![0xFF; bytes as usize], 0).unwrap();
    // Nobody has rung.
    subscription.look();
    let why = subscription
        .scene
        .change(|state| match state.inlets[0].take() {
            Took::Ended(why) => text(why),
            _ => panic!("it is nonsense"),
        });
    assert!(why.contains("does not keep to the protocol"), "{why}");
    let (link, reason, text) = raw.detach();
    assert_eq!((link, reason), (0, DetachReason::NONSENSE));
    assert!(!text.is_empty());
    until("it is counted", || node.snapshot().violations == 1);
    assert_eq!(node.snapshot().peers, 1);
}

/// A peer that was stopped does not make a publisher wait, and is given up when too much waits for it.
#[test]
fn peer_that_does_not_read_is_given_up() {
    let (_base, node, topic, mut raw) = publisher();
    raw.attach(0, |_| {});
    topic.link(0);
    let bound = |control: &mut crate::processes::control::Control| {
        control
            .peers
            .values()
            .for_each(|peer| peer.line.set_packets_max(16));
    };
    until("it is bounded", || node.core.with_control(bound).is_some());
    let mut n = 0;
    until("it is given up", || {
        n += 1;
        node.offer(FakeTopic::new(key(&format!("topic {n}"))));
        node.snapshot().lost_connections == 1
    });
    topic.wait_until_left(0);
    raw.closed();
}

/// One of two links answers when its memory is wanted for other sizes, and the other, the raw peer's, not yet.
#[test]
fn memory_is_short_until_the_last_link_has_answered_or_ended() {
    for end in 0..4 {
        let (base, node, topic, mut raw) = publisher_with(|o| o.bytes_max = LARGE_BYTES);
        raw.attach(0, |attach| attach.depth = 4);
        let link = topic.link(0);
        let other = super::node(base.path());
        let subscription = FakeSubscription::new(key("numbers"), 4, WhenFull::Wait, 1);
        other.seek(subscription.clone());
        topic.link(1);
        subscription.inlets(1);
        fill_with_small(&link);
        assert!(is_short(&link, LARGE));
        let mut asked = vec![raw.wait_for("to be asked", |said| match said {
            Said::Retire(retire) => Some(retire),
            _ => None,
        })];
        // More than one, if it takes more; they came in one go.
        while raw.peer.connection.socket.recv(&mut raw.packet).unwrap() {
            for frame in Frames::new(raw.packet.parts().0, 0) {
                if let (Frame::Retire(retire), _) = frame.unwrap() {
                    asked.push(retire);
                }
            }
        }
        assert!(is_short(&link, LARGE));
        let (woken, waker) = Woken::waker();
        let short = link.outlet().poll_loan(LARGE, &waker);
        assert!(matches!(short, Err(LoanRefusal::Short)));
        match end {
            0 => asked
                .iter()
                .for_each(|retire| raw.send(&Frame::Retired(*retire), &[])),
            1 => raw.send(
                &Frame::Detach(Detach {
                    link: asked[0].link,
                    reason: DetachReason::SUBSCRIPTION_ENDED,
                    text: "",
                }),
                &[],
            ),
            // What it was not asked for closes the connection.
            2 => raw.send(
                &Frame::Retired(Retire {
                    link: asked[0].link,
                    first_slot: 4000,
                }),
                &[],
            ),
            // It was lost.
            _ => drop(raw),
        }
        until("the waker is woken", || woken.count() > 0);
        let link = topic.link(1);
        let mut loan = wait_for(&link, LARGE);
        loan.bytes_mut().fill(end);
        let carried = link.push(&loan.freeze(), &stamp(0), Arc::new(()));
        assert_eq!(carried, Carried::Queued { evicted: false });
        link.ring();
        assert_eq!(subscription.sample().0.bytes(), [end; LARGE]);
        assert_eq!(node.snapshot().violations, u64::from(end == 2));
    }
}

#[test]
fn publisher_that_wants_back_what_it_never_gave_is_left() {
    let base = tempfile::tempdir().unwrap();
    let node = node(base.path());
    let subscription = FakeSubscription::new(key("numbers"), 4, WhenFull::Wait, 1);
    node.seek(subscription.clone());
    let mut raw = raw(base.path());
    let announce = Announce {
        roles: Announce::PUBLISHES,
        topic: topic(),
    };
    raw.send(&Frame::Announce(announce), &[]);
    let request = raw.wait_for("a request", |said| match said {
        Said::Attach(request) => Some(request),
        _ => None,
    });
    let mut endpoint = Endpoint::new(EndpointOptions {
        bytes_max: 1 << 20,
        slots_max: 64,
        history: 0,
        node: [0; 16],
    });
    let attached = endpoint
        .attach(4, 1, mproc_shm::WhenFull::Wait, None)
        .unwrap();
    let accept = Accept {
        request,
        link: 0,
        slots: 64,
        depth: 4,
        leases_max: 1,
        bell: 0,
        history: 0,
        publisher: 0,
    };
    let page = raw.bells.as_fd();
    raw.send(&Frame::Accept(accept), &[attached.fd.as_fd(), page]);
    let first_slot = 3;
    raw.send(
        &Frame::Retire(Retire {
            link: 0,
            first_slot,
        }),
        &[],
    );
    raw.closed();
    let why = subscription.end();
    assert!(why.contains("was lost"), "{why}");
    until("it is counted", || node.snapshot().violations == 1);
}
