//! A peer made of sockets and frames, which says what no node says.

use super::*;
use mproc_shm::{
    ABI_HASH, Directory, Domain, Frame, Frames, Hello, Identity, MeetingError, NodeId, PROTOCOL,
    Packet, Peer, Protocols, Rendezvous, SendError, TopicType, Watch,
};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// Numbers from a seed: xorshift (Marsaglia, 2003).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// A member of the domain that only greets by itself.
pub(crate) struct Raw {
    rendezvous: Rendezvous,
    met: Receiver<Result<Peer, MeetingError>>,
    _watch: Watch,
    /// Others than the one that it looks for; they are left alone.
    others: Vec<Peer>,
}

impl Raw {
    pub(crate) fn join(base: &Path) -> Self {
        let watch = Watch::start("raw", |name, text| panic!("{name}: {text}")).unwrap();
        let directory = Directory::open_at(base, &Domain::new(DOMAIN).unwrap()).unwrap();
        let hello = Hello {
            protocols: Protocols {
                min: PROTOCOL as u16,
                max: PROTOCOL as u16,
            },
            features: 0,
            abi: ABI_HASH,
            // The smallest: it visits, and so it can come again whenever it wants.
            identity: Identity::here(NodeId::from_bytes([0; 16])).unwrap(),
        };
        let (tell, met) = channel();
        let on_meeting = Arc::new(move |met, _: &_| {
            let _ = tell.send(met);
        });
        let rendezvous = Rendezvous::join(&directory, hello, watch.handle(), on_meeting).unwrap();
        Self {
            rendezvous,
            met,
            _watch: watch,
            others: Vec::new(),
        }
    }

    /// Meets this process, perhaps again.
    pub(crate) fn meet(&mut self, pid: u32) -> Line {
        loop {
            match self.met.recv_timeout(LONG) {
                Ok(Ok(peer)) if peer.identity.pid == pid => return Line::new(peer),
                Ok(Ok(peer)) => self.others.push(peer),
                // It is tried again.
                Ok(Err(_)) => {}
                Err(error) => panic!("process {pid} is not met: {error}"),
            }
        }
    }

    /// Closes a connection, so that the peer can be met again.
    pub(crate) fn hang_up(&mut self, line: Line) {
        let node = line.peer.identity.node;
        drop(line);
        self.rendezvous.lost(node);
    }
}

/// A connection.
pub(crate) struct Line {
    peer: Peer,
    packet: Packet,
    pub(crate) is_over: bool,
}

impl Line {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            packet: Packet::new(),
            is_over: false,
        }
    }

    pub(crate) fn send(&mut self, frame: &Frame<'_>, descriptors: &[BorrowedFd<'_>]) {
        let mut bytes = Vec::new();
        frame.encode(descriptors.len() as u8, &mut bytes).unwrap();
        self.send_bytes(&bytes, descriptors);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        match self.peer.connection.socket.send(bytes, descriptors) {
            // What it does not read now it does not get.
            Ok(()) | Err(SendError::Full) => {}
            Err(_) => self.is_over = true,
        }
    }

    /// What has come; nothing if nothing has.
    pub(crate) fn receive(&mut self, mut on_frame: impl FnMut(&mut Said, Vec<OwnedFd>)) {
        match self.peer.connection.socket.recv(&mut self.packet) {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => return self.is_over = true,
        }
        let (bytes, descriptors) = self.packet.parts();
        let mut descriptors = std::mem::take(descriptors).into_iter();
        for frame in Frames::new(bytes, descriptors.len()) {
            let (frame, count) = frame.unwrap();
            let its = descriptors.by_ref().take(count).collect();
            on_frame(&mut Said::of(&frame), its);
        }
    }
}

/// A topic as its owner describes it.
#[derive(Clone, Debug)]
pub(crate) struct OwnTopic {
    pub(crate) id: u64,
    pub(crate) name: String,
    type_hash: u64,
    type_name: String,
    codec: u8,
}

impl OwnTopic {
    /// Another topic of the same type.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        Self {
            id: TopicId::from_name(name).get(),
            name: name.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn borrow(&self) -> TopicType<'_> {
        TopicType {
            id: self.id,
            name: &self.name,
            type_hash: self.type_hash,
            type_name: &self.type_name,
            codec: self.codec,
        }
    }
}

/// What was received, without what it borrows.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Announce(OwnTopic),
    Attach {
        request: u32,
        depth: u32,
        leases_max: u32,
        when_full: u8,
        topic: u64,
    },
    Accept,
    Detach {
        is_nonsense: bool,
    },
    Other,
}

impl Said {
    fn of(frame: &Frame<'_>) -> Self {
        match frame {
            Frame::Announce(announce) => {
                let topic = announce.topic;
                Self::Announce(OwnTopic {
                    id: topic.id,
                    name: topic.name.into(),
                    type_hash: topic.type_hash,
                    type_name: topic.type_name.into(),
                    codec: topic.codec,
                })
            }
            Frame::Attach(attach) => Self::Attach {
                request: attach.request,
                depth: attach.depth,
                leases_max: attach.leases_max,
                when_full: attach.when_full,
                topic: attach.topic.id,
            },
            Frame::Accept(_) => Self::Accept,
            Frame::Detach(detach) => Self::Detach {
                is_nonsense: detach.reason == mproc_shm::DetachReason::NONSENSE,
            },
            _ => Self::Other,
        }
    }
}
