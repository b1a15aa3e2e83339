//! What is sent to one peer. Nobody waits for it: what its socket does not take now is kept, and sent by the watch's thread
//! when it does.

use mproc_shm::{Frame, SendError, Socket, WatchHandle};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How many packets wait for a peer that does not read. One that is stopped for long enough is given up.
pub(super) const PACKETS_MAX: usize = 4096;

/// A descriptor that goes along, kept open until it was sent.
pub(super) type Descriptor = Arc<dyn AsFd + Send + Sync>;

struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<Descriptor>,
}

struct Outbound {
    /// None once the connection is over.
    socket: Option<Arc<Socket>>,
    waiting: VecDeque<Packet>,
    packets_max: usize,
    broken: Option<String>,
}

/// The sending side of a connection.
pub(super) struct Line {
    outbound: Mutex<Outbound>,
    has_waiting: AtomicBool,
    is_broken: AtomicBool,
    is_closed: AtomicBool,
    is_forgotten: AtomicBool,
    watch: WatchHandle,
}

impl Line {
    pub(super) fn new(socket: Arc<Socket>, watch: WatchHandle) -> Self {
        Self {
            outbound: Mutex::new(Outbound {
                socket: Some(socket),
                waiting: VecDeque::new(),
                packets_max: PACKETS_MAX,
                broken: None,
            }),
            has_waiting: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            is_forgotten: AtomicBool::new(false),
            watch,
        }
    }

    /// Sends a frame, or keeps it to be sent. Frames come in the order of these calls. Nothing if the connection is over.
    ///
    /// The error is for people: it cannot be encoded, because a name is too long.
    pub(super) fn send(&self, frame: &Frame<'_>, descriptors: &[Descriptor]) -> Result<(), String> {
        let mut bytes = Vec::new();
        frame
            .encode(descriptors.len() as u8, &mut bytes)
            .map_err(|error| error.to_string())?;
        let mut outbound = self.outbound.lock();
        if outbound.socket.is_none() || outbound.broken.is_some() {
            return Ok(());
        }
        outbound.waiting.push_back(Packet {
            bytes,
            descriptors: descriptors.to_vec(),
        });
        // Those that wait already are first; the watch's thread is told when the socket takes more.
        if outbound.waiting.len() == 1 {
            outbound.send_waiting();
        }
        let over = outbound.packets_max;
        if outbound.waiting.len() > over && outbound.broken.is_none() {
            outbound.broken = Some(format!("it has not read {over} packets that wait for it"));
        }
        self.note(outbound.waiting.is_empty(), outbound.broken.is_some());
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&self) {
        let mut outbound = self.outbound.lock();
        outbound.send_waiting();
        self.note(outbound.waiting.is_empty(), outbound.broken.is_some());
    }

    fn note(&self, is_empty: bool, is_broken: bool) {
        let had_waiting = self.has_waiting.swap(!is_empty, Relaxed);
        let was_broken = self.is_broken.swap(is_broken, Relaxed);
        if (!is_empty && !had_waiting) || (is_broken && !was_broken) {
            self.watch.wake();
        }
    }

    /// How many packets that have descriptors wait until the socket takes them.
    pub(super) fn descriptors_waiting(&self) -> usize {
        let outbound = self.outbound.lock();
        let waiting = outbound.waiting.iter();
        waiting
            .filter(|packet| !packet.descriptors.is_empty())
            .count()
    }

    /// True while it waits until the socket takes more.
    pub(super) fn has_waiting(&self) -> bool {
        self.has_waiting.load(Relaxed)
    }

    /// True once [`take_broken`](Self::take_broken) has something.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Relaxed)
    }

    /// Why nothing can be sent any more, once.
    pub(super) fn take_broken(&self) -> Option<String> {
        self.is_broken.store(false, Relaxed);
        self.outbound.lock().broken.take()
    }

    /// Sends nothing any more, and lets go of the socket.
    pub(super) fn close(&self) {
        let mut outbound = self.outbound.lock();
        let gone = (
            outbound.socket.take(),
            std::mem::take(&mut outbound.waiting),
        );
        self.has_waiting.store(false, Relaxed);
        self.is_closed.store(true, Relaxed);
        drop(outbound);
        drop(gone);
        self.watch.wake();
    }

    /// Nobody waits for the end of the process by this connection any more.
    pub(super) fn forget(&self) {
        self.is_forgotten.store(true, Relaxed);
        self.watch.wake();
    }

    /// True once [`forget`](Self::forget) was called.
    pub(super) fn is_forgotten(&self) -> bool {
        self.is_forgotten.load(Relaxed)
    }

    /// True once the connection is over.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    #[cfg(test)]
    pub(super) fn shut_down(&self) {
        if let Some(socket) = &self.outbound.lock().socket {
            rustix::net::shutdown(&**socket, rustix::net::Shutdown::Both).unwrap();
        }
    }

    #[cfg(test)]
    pub(super) fn set_packets_max(&self, packets_max: usize) {
        self.outbound.lock().packets_max = packets_max;
    }
}

impl Outbound {
    fn send_waiting(&mut self) {
        let Some(socket) = &self.socket else {
            return;
        };
        while let Some(packet) = self.waiting.front() {
            let descriptors: Vec<BorrowedFd<'_>> =
                packet.descriptors.iter().map(|fd| fd.as_fd()).collect();
            match socket.send(&packet.bytes, &descriptors) {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(SendError::Full) => return,
                // The end of the connection is seen by whoever reads it.
                Err(SendError::Closed | SendError::Forked) => {
                    self.waiting.clear();
                    return;
                }
                Err(error) => {
                    self.waiting.clear();
                    self.broken = Some(error.to_string());
                    return;
                }
            }
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}
