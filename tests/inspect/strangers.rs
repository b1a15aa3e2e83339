//! Members of the domain that do not say what a node says: made of sockets and frames alone. And what the dead have left.

use super::*;
use mproc_shm::{
    ABI_HASH, Directory, Domain, Frame, Frames, Hello, Identity, MeetingError, NodeId, PROTOCOL,
    Packet, Peer, Protocols, Rendezvous, SealedBytes, SendError, Watch,
};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

const INSPECT: u16 = 0x100;
const REPORT: u16 = 0x101;

/// The smallest id: it visits whoever it sees.
const SMALL: [u8; 16] = [0; 16];

struct Stranger {
    met: Receiver<Result<Peer, MeetingError>>,
    peer: Option<Peer>,
    packet: Packet,
    is_over: bool,
    _rendezvous: Rendezvous,
    _watch: Watch,
}

impl Stranger {
    fn join(base: &Path, change: impl FnOnce(&mut Hello)) -> Self {
        let watch = Watch::start("stranger", |name, text| panic!("{name}: {text}")).unwrap();
        let directory = Directory::open_at(base, &Domain::new(DOMAIN).unwrap()).unwrap();
        let protocol = PROTOCOL as u16;
        let mut hello = Hello {
            protocols: Protocols {
                min: protocol,
                max: protocol,
            },
            features: 1,
            abi: ABI_HASH,
            identity: Identity::here(NodeId::from_bytes(SMALL)).unwrap(),
        };
        change(&mut hello);
        let (tell, met) = channel();
        let on_meeting = Arc::new(move |met, _: &_| {
            let _ended = tell.send(met);
        });
        let rendezvous = Rendezvous::join(&directory, hello, watch.handle(), on_meeting).unwrap();
        Self {
            met,
            peer: None,
            packet: Packet::new(),
            is_over: false,
            _rendezvous: rendezvous,
            _watch: watch,
        }
    }

    /// Meets the one node that there is.
    fn meet(mut self) -> Self {
        self.peer = Some(self.met.recv_timeout(LONG).unwrap().unwrap());
        self
    }

    fn send(&self, kind: u16, body: &[u8], descriptors: &[BorrowedFd<'_>]) {
        assert!(self.try_send(kind, body, descriptors), "there is room");
    }

    /// False if the other side has not read enough of what was sent before.
    fn try_send(&self, kind: u16, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
        let mut packet = Vec::new();
        let frame = Frame::Other { kind, body };
        frame.encode(descriptors.len() as u8, &mut packet).unwrap();
        let peer = self.peer.as_ref().unwrap();
        match peer.connection.socket.send(&packet, descriptors) {
            Err(SendError::Full) => false,
            sent => sent.map(|()| true).unwrap(),
        }
    }

    /// The bodies of the frames of this kind in the next packet; nothing if none has come.
    fn look(&mut self, wanted: u16) -> Vec<Vec<u8>> {
        let peer = self.peer.as_ref().unwrap();
        match peer.connection.socket.recv(&mut self.packet) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(_) => {
                self.is_over = true;
                return Vec::new();
            }
        }
        let (bytes, descriptors) = self.packet.parts();
        let frames = Frames::new(bytes, std::mem::take(descriptors).len());
        let bodies = frames.filter_map(|frame| match frame.unwrap().0 {
            Frame::Other { kind, body } if kind == wanted => Some(body.to_vec()),
            _ => None,
        });
        bodies.collect()
    }

    /// The next question for a report.
    fn asked(&mut self) -> Vec<u8> {
        let mut found = None;
        until("it is asked", || {
            found = self.look(INSPECT).pop();
            found.is_some()
        });
        found.unwrap()
    }

    /// The number of the next question for a report.
    fn question(&mut self) -> u64 {
        u64::from_le_bytes(self.asked().try_into().unwrap())
    }

    fn is_closed(&mut self) {
        until("the connection is closed", || {
            let _frames = self.look(0);
            self.is_over
        });
    }
}

fn body(request: u64, bytes: u64, text: &[u8]) -> Vec<u8> {
    [&request.to_le_bytes(), &bytes.to_le_bytes(), text].concat()
}

/// What a survey says of a stranger that answers like this.
fn why(answer: impl FnOnce(&mut Stranger, u64)) -> String {
    let place = Place::new();
    let node = place.node();
    let mut stranger = Stranger::join(place.path(), |_| {}).meet();
    let other = place.node();
    until("both have met", || {
        node.snapshot().domain.unwrap().peers == 2
    });
    let ticket = node.survey(LONG).start();
    let request = stranger.question();
    answer(&mut stranger, request);
    let seen = ticket.wait().unwrap();
    assert_eq!(seen.reports.len(), 1, "the other one answers all the same");
    let silent = only_silent(&seen);
    assert_eq!(silent.id, "0".repeat(32));
    let why = silent.why.clone();
    drop(stranger);
    end(other);
    end(node);
    println!("{why}");
    why
}

#[test]
fn an_answer_that_is_no_report_is_told_and_closes_the_connection() {
    let short = |stranger: &mut Stranger, request: u64| {
        stranger.send(REPORT, &request.to_le_bytes(), &[]);
        stranger.is_closed();
    };
    assert!(why(short).contains("its connection was closed: its report is not written as"));
    let no_text = |stranger: &mut Stranger, request| {
        stranger.send(REPORT, &body(request, 0, &[0xff, 0xfe]), &[]);
        stranger.is_closed();
    };
    assert!(why(no_text).contains("its connection was closed"));
    let long_text = |stranger: &mut Stranger, request| {
        stranger.send(REPORT, &body(request, 0, &[b'x'; 1025]), &[]);
        stranger.is_closed();
    };
    assert!(why(long_text).contains("its connection was closed"));
    let no_memory = |stranger: &mut Stranger, request| {
        stranger.send(REPORT, &body(request, 9, b""), &[]);
        stranger.is_closed();
    };
    assert!(why(no_memory).contains("makes no sense"));
    let two = |stranger: &mut Stranger, request| {
        let sealed = SealedBytes::new(b"report").unwrap();
        let both = [sealed.as_fd(), sealed.as_fd()];
        stranger.send(REPORT, &body(request, 6, b""), &both);
        stranger.is_closed();
    };
    assert!(why(two).contains("makes no sense"));
    let not_asked = |stranger: &mut Stranger, request| {
        stranger.send(REPORT, &body(request + 1, 0, b"why not"), &[]);
        stranger.is_closed();
    };
    assert!(why(not_asked).contains("nobody asked"));
}

#[test]
fn memory_that_is_no_report_is_told_and_touches_nothing_else() {
    let sends = |bytes: u64, memory: Vec<u8>| {
        why(move |stranger, request| {
            let sealed = SealedBytes::new(&memory).unwrap();
            stranger.send(REPORT, &body(request, bytes, b""), &[sealed.as_fd()]);
        })
    };
    let unreadable = |why: &str| assert!(why.starts_with("its report cannot be read: "), "{why}");
    // Longer than the file, shorter, and the longest that is read.
    for bytes in [7, 5, 512 << 20] {
        unreadable(&sends(bytes, b"report".to_vec()));
    }
    // One that would fit into the memory of most machines is refused before it is looked at.
    for bytes in [(512 << 20) + 1, 1 << 40, u64::MAX] {
        let why = sends(bytes, b"report".to_vec());
        let wanted = format!("it has {bytes} bytes, and at most 536870912 are read");
        assert!(why.contains(&wanted), "{why}");
    }
    // No MessagePack; some that is no report; a list that claims four thousand million entries; maps in maps in maps.
    let deep = vec![0x81; 100_000];
    let deep_list = [&[0x81, 0xa4][..], b"deep", &[0x91; 100_000]].concat();
    let list = [
        &[0x81, 0xa6][..],
        b"topics",
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    for memory in [
        b"\xc1".to_vec(),
        b"\x2a".to_vec(),
        b"\x80".to_vec(),
        list,
        deep,
        deep_list,
    ] {
        unreadable(&sends(memory.len() as u64, memory));
    }
    // Files that are not sealed.
    let null = why(|stranger, request| {
        let null = std::fs::File::open("/dev/null").unwrap();
        stranger.send(REPORT, &body(request, 6, b""), &[null.as_fd()]);
    });
    unreadable(&null);
    let file = why(|stranger, request| {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"report").unwrap();
        stranger.send(REPORT, &body(request, 6, b""), &[file.as_fd()]);
    });
    assert!(file.contains("not sealed"), "{file}");
}

#[test]
fn any_bytes_for_a_report_end_in_words_and_never_in_a_panic() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = move || {
        // xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let place = Place::new();
    let node = place.node();
    let mut stranger = Stranger::join(place.path(), |_| {}).meet();
    for _ in 0..300 {
        let count = 1 + next() % 200;
        let memory: Vec<u8> = (0..count).map(|_| next() as u8).collect();
        let ticket = node.survey(LONG).start();
        let request = stranger.question();
        let sealed = SealedBytes::new(&memory).unwrap();
        stranger.send(REPORT, &body(request, count, b""), &[sealed.as_fd()]);
        let seen = ticket.wait().unwrap();
        let why = &only_silent(&seen).why;
        assert!(
            why.starts_with("its report cannot be read: "),
            "{memory:?}: {why}"
        );
        assert!(!why.contains("panicked"), "{memory:?}");
    }
    end(node);
}

#[test]
fn a_node_that_will_not_report_says_why_and_one_that_cannot_is_told_from_it() {
    let refuses = why(|stranger, request| {
        stranger.send(REPORT, &body(request, 0, b"it is shy"), &[]);
    });
    assert_eq!(refuses, "it gives no report: it is shy");

    let place = Place::new();
    let node = place.node();
    let old = Stranger::join(place.path(), |hello| hello.features = 0).meet();
    until("they have met", || {
        node.snapshot().domain.unwrap().peers == 1
    });
    let seen = node.survey(LONG).wait().unwrap();
    let why = &only_silent(&seen).why;
    assert!(
        why.contains("a version of mproc that gives no reports"),
        "{why}"
    );
    drop(old);
    end(node);
}

#[test]
fn a_question_that_makes_no_sense_closes_the_connection_and_others_are_answered() {
    let place = Place::new();
    let node = place.node();
    let sealed = SealedBytes::new(b"report").unwrap();
    for (body, descriptors) in [
        (&b""[..], &[][..]),
        (&[0; 7], &[]),
        (&[0; 9], &[]),
        (&[0; 15], &[]),
        (&[0; 17], &[]),
        (&[0; 8], &[sealed.as_fd()]),
    ] {
        let mut stranger = Stranger::join(place.path(), |_| {}).meet();
        stranger.send(INSPECT, body, descriptors);
        stranger.is_closed();
    }
    assert_eq!(node.snapshot().domain.unwrap().violations, 6);
    let other = place.node();
    let seen = other.survey(LONG).wait().unwrap();
    assert_eq!(seen.reports.len(), 1);
    end(other);
    end(node);
}

/// How it asks for a report with what is sent meanwhile.
fn with_watch(request: u64, watch_ns: u64) -> Vec<u8> {
    [request.to_le_bytes(), watch_ns.to_le_bytes()].concat()
}

#[test]
fn only_whoever_knows_of_it_is_asked_to_watch() {
    for (features, wanted) in [
        (1, 0_u64.to_le_bytes().to_vec()),
        (3, with_watch(0, 7_000_000_000)),
    ] {
        let place = Place::new();
        let node = place.node();
        let mut stranger = Stranger::join(place.path(), |hello| hello.features = features).meet();
        until("both have met", || {
            node.snapshot().domain.unwrap().peers == 1
        });
        let watch = mproc::SurveyOptions::new().watch_sends(Duration::from_secs(7));
        let ticket = node.survey_with(watch).start();
        assert_eq!(stranger.asked(), wanted);
        drop(ticket);
        drop(stranger);
        end(node);
    }
}

/// What a stranger asks for is bounded, and over when it is gone.
#[test]
fn a_watch_ends_with_whoever_asked_and_there_are_only_so_many() {
    let place = Place::new();
    let node = place.node();
    let start = Instant::now();
    let mut stranger = Stranger::join(place.path(), |_| {}).meet();
    for request in 0..3 {
        stranger.send(INSPECT, &with_watch(request, u64::MAX), &[]);
    }
    let mut answered = Vec::new();
    until("the last is answered", || {
        answered.extend(stranger.look(REPORT));
        !answered.is_empty()
    });
    // Two watch, and the third got its report at once.
    assert_eq!(answered.len(), 1);
    assert_eq!(answered[0][..8], 2_u64.to_le_bytes());
    drop(stranger);
    let asks = place.node();
    let watch = mproc::SurveyOptions::new().watch_sends(Duration::from_millis(1));
    until("it watches again", || {
        let seen = asks.survey_with(watch.clone()).wait().unwrap();
        let mut reports = seen.reports.iter();
        reports.any(|report| report.snapshot.sends.is_some())
    });
    // Else they would have been free only after a minute.
    assert!(start.elapsed() < Duration::from_secs(60));
    end(asks);
    end(node);
}

/// Whoever asks for more than can be made is told so, and costs no more than a bounded number of questions.
#[test]
fn every_question_of_a_flood_is_answered_with_a_report_or_with_why_there_is_none() {
    let place = Place::new();
    let node = place.node();
    let mut stranger = Stranger::join(place.path(), |_| {}).meet();
    let (mut asked, mut reports, mut busy) = (0_u64, 0, 0);
    while reports + busy < 5000 {
        // It reads as fast as it asks: a node gives up a peer that does not read.
        if asked < 5000 && asked - reports - busy < 1000 {
            let was_sent = stranger.try_send(INSPECT, &asked.to_le_bytes(), &[]);
            asked += u64::from(was_sent);
        }
        for body in stranger.look(REPORT) {
            if u64::from_le_bytes(body[8..16].try_into().unwrap()) > 0 {
                reports += 1;
            } else {
                let text = String::from_utf8_lossy(&body[16..]).into_owned();
                assert!(text.contains("busy"), "{text}");
                busy += 1;
            }
        }
        assert!(!stranger.is_over, "{reports} reports, {busy} times busy");
    }
    println!("{reports} reports, {busy} times busy");
    assert!(reports > 0);
    end(node);
}

#[test]
fn a_node_of_another_version_is_named_with_both_versions() {
    let place = Place::new();
    let node = place.node();
    for id in [SMALL, [0xff; 16]] {
        let skewed = Stranger::join(place.path(), |hello| {
            let version = PROTOCOL as u16 + 600;
            hello.protocols = Protocols {
                min: version,
                max: version,
            };
            hello.identity = Identity::here(NodeId::from_bytes(id)).unwrap();
        });
        // Whether they have tried before it is asked, or not.
        for _ in 0..2 {
            let seen = node.survey(LONG).wait().unwrap();
            let why = &only_silent(&seen).why;
            let versions = [PROTOCOL + 600, PROTOCOL].map(|version| version.to_string());
            assert!(
                versions.iter().all(|version| why.contains(version)),
                "{why}"
            );
        }
        drop(skewed);
    }
    assert_eq!(survey(&node), Survey::default());
    end(node);
}

#[test]
fn a_socket_that_nobody_listens_at_is_told_and_removed() {
    let place = Place::new();
    let node = place.node();
    // What a node that is visited leaves, and what one that would visit.
    for id in [SMALL, [0xff; 16]] {
        let name = format!("4194304-{}.sock", NodeId::from_bytes(id));
        let path = place.path().join("mproc").join(DOMAIN).join(name);
        let listener = UnixListener::bind(&path).unwrap();
        drop(listener);
        let seen = node.survey(LONG).wait().unwrap();
        if id == SMALL {
            let silent = only_silent(&seen);
            assert_eq!((silent.pid, &*silent.id), (4_194_304, &*"0".repeat(32)));
            assert!(
                silent.why.contains("has ended and left its socket"),
                "{silent:?}"
            );
        }
        assert_eq!(seen.reports.len(), 0);
        until("it is removed", || !path.exists());
    }
    assert_eq!(survey(&node), Survey::default());
    end(node);
}
