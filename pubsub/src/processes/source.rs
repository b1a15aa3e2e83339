//! A peer's connection, as the watch sees it: what it sends, its end, and the end of its process.

use super::core::Core;
use super::line::Line;
use mproc_shm::{Event, Frames, Next, Packet, Process, RecvError, Socket, Source, WatchHandle};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// How many packets are read before others have their turn.
const PACKETS_IN_A_TURN: usize = 64;

pub(super) struct PeerSource {
    core: Arc<Core>,
    connection: u64,
    /// None once the connection is over.
    socket: Option<Arc<Socket>>,
    process: Process,
    line: Arc<Line>,
    packet: Packet,
    /// Some time that has passed.
    made: Instant,
}

impl PeerSource {
    pub(super) fn new(
        core: &Arc<Core>,
        connection: u64,
        socket: Arc<Socket>,
        process: Process,
        line: &Arc<Line>,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            connection,
            socket: Some(socket),
            process,
            line: Arc::clone(line),
            packet: Packet::new(),
            made: Instant::now(),
        }
    }

    /// Reads what has come. The error: the connection is over, and why if it is not that the other end was closed.
    fn read(&mut self, packets: usize) -> Result<(), Option<String>> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let mut is_reset = false;
        for _ in 0..packets {
            match socket.recv(&mut self.packet) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // A peer that closes before it has read everything is told of first, and what it sent last after that.
                Err(RecvError::Closed) if !is_reset => {
                    is_reset = true;
                    continue;
                }
                Err(RecvError::Closed) => return Err(None),
                Err(error) => return Err(Some(error.to_string())),
            }
            let (bytes, descriptors) = self.packet.parts();
            let mut descriptors = std::mem::take(descriptors).into_iter();
            for frame in Frames::new(bytes, descriptors.len()) {
                let (frame, count) = frame.map_err(|error| {
                    self.core.reports.violations.fetch_add(1, Relaxed);
                    Some(error.to_string())
                })?;
                let its = descriptors.by_ref().take(count).collect();
                let connection = self.connection;
                let done = self
                    .core
                    .with_control(|control| control.frame(connection, frame, its));
                done.unwrap_or(Err("it cannot be worked with here".into()))
                    .map_err(Some)?;
            }
        }
        Ok(())
    }

    /// The connection is over. True if the process has to be waited for.
    fn over(&mut self, why: Option<String>) -> bool {
        self.socket = None;
        let connection = self.connection;
        let over = |control: &mut super::control::Control| control.connection_over(connection, why);
        self.core.with_control(over).unwrap_or(false)
    }
}

impl Source for PeerSource {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn wants_to_write(&self) -> bool {
        self.line.has_waiting()
    }

    fn deadline(&self) -> Option<Instant> {
        let is_over = self.line.is_broken() || self.line.is_closed();
        let is_news = self.line.is_forgotten() || self.socket.is_some() && is_over;
        is_news.then_some(self.made)
    }

    fn on_event(&mut self, event: Event, _: Instant, _: &WatchHandle) -> Next {
        let over = match event {
            Event::Ready => {
                self.line.flush();
                self.read(PACKETS_IN_A_TURN).err()
            }
            Event::Late => Some(self.line.take_broken()),
            Event::Ended => {
                // What it sent before its end comes before its end.
                let _ = self.read(usize::MAX);
                self.socket = None;
                let connection = self.connection;
                self.core
                    .with_control(|control| control.process_ended(connection));
                return Next::Drop;
            }
        };
        let Some(why) = over else {
            return Next::Keep;
        };
        if self.over(why) {
            Next::Keep
        } else {
            Next::Drop
        }
    }
}
