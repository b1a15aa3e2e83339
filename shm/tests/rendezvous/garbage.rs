//! Nonsense on the socket.

use crate::acting::hello;
use crate::actor::{base, files, joined, start};
use crate::lab;
use mproc_shm::{ConnectError, Frame, SendError};
use std::fs::File;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn garbage_on_the_socket_does_no_harm() {
    let base = base();
    let mut target = start("node", base.path(), 2, &[("RENDEZVOUS_QUIET", "1")]);
    target.wait_for("joined");
    let friend = joined(&base, 1);
    target.wait_for("met");
    friend.leave();
    target.wait_for("gone");
    let before = target.ask("count", "count");
    let directory = lab(base.path());
    let entry = directory.list().unwrap()[0];
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let end = Instant::now() + Duration::from_secs(3);
    let mut silent = Vec::new();
    let mut packets = 0_u64;
    // On a slow machine until there were some.
    while Instant::now() < end || (packets <= 100 && Instant::now() < end + Duration::from_secs(60))
    {
        let connection = match directory.connect(&entry) {
            Ok(connection) => connection,
            // Its queue is full: let it go on.
            Err(ConnectError::Busy) => {
                thread::yield_now();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let mut greeted = false;
        for _ in 0..chance.below(6) {
            let (bytes, descriptors) = chance.packet(&mut greeted);
            let file = File::open("/dev/null").unwrap();
            let copies = vec![file.as_fd(); descriptors];
            match connection.socket.send(&bytes, &copies) {
                Ok(()) => packets += 1,
                Err(SendError::Full | SendError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        // Some are closed at once, and some stay open.
        if chance.below(8) == 0 && silent.len() < 100 {
            silent.push(connection);
        }
    }
    assert!(packets > 100, "{packets} packets");
    drop(silent);
    let mut friend = joined(&base, 1);
    friend.wait_for("met");
    friend.ask("send well-formed", "sent");
    assert_eq!(target.wait_for("got"), "well-formed");
    friend.leave();
    // What was accepted before is over before, except what keeps to the limit of a second.
    target.wait_for("gone 1");
    let after = target.ask("count", "count");
    assert_eq!(after, before, "descriptors");
    assert!(!target.has_seen("fault"), "{:#?}", target.seen);
    target.leave();
    assert_eq!(files(&base), 0);
}

/// Numbers from a seed: xorshift (Marsaglia, 2003).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn packet(&mut self, greeted: &mut bool) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        // Some greet well, to be let in.
        if !*greeted && self.below(3) == 0 {
            *greeted = true;
            Frame::Hello(hello(77)).encode(0, &mut bytes).unwrap();
            return (bytes, 0);
        }
        let length = match self.below(4) {
            0 => 1 + self.below(16),
            1 => 1 + self.below(65536),
            _ => 1 + self.below(300),
        };
        bytes.resize_with(length, || self.next() as u8);
        if self.below(2) == 0 && length > 8 {
            // A header that promises what is there, or nearly.
            let body = (length - 8 + self.below(2)) as u32;
            bytes[..4].copy_from_slice(&body.to_le_bytes());
            bytes[4..8].copy_from_slice(&[self.below(10) as u8, 0, self.below(3) as u8, 0]);
        }
        (bytes, [0, 0, 1, 8][self.below(4)])
    }
}
