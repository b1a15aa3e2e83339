//! Processes that find each other, and what happens when one is killed, stopped, forked, too old, or talks nonsense.
//!
//! This binary runs itself as the other processes: `role` is a test that does nothing unless it is told its role by the
//! environment. The parent and its children speak in lines. Nothing sleeps: the parent waits for a line, a child for a
//! line or for its watch.

use mproc_shm::{
    BindError, ConnectError, ControlFd, Directory, Domain, Entry, Event, Frame, Frames, Hello,
    Identity, MeetingError, Next, NodeId, Packet, Peer, Process, Protocols, RecvError, Rendezvous,
    SendError, Source, Watch, WatchEnded, WatchHandle,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, setrlimit, waitpid,
};
use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

unsafe extern "C" {
    /// POSIX. A child of 0 is the child itself.
    fn fork() -> i32;
    /// POSIX. Ends the process at once.
    fn _exit(code: i32) -> !;
}

// ---------------------------------------------------------------------------------------------- the parent's side

/// A process that plays a role.
struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// All that have come.
    seen: Vec<String>,
    /// Those that nobody has waited for.
    untaken: Vec<String>,
}

fn start(role: &str, base: &Path, node: u8, more: &[(&str, &str)]) -> Actor {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env("RENDEZVOUS_ROLE", role)
        .env("RENDEZVOUS_BASE", base)
        .env("RENDEZVOUS_NODE", node.to_string())
        .envs(more.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take();
    let output = child.stdout.take().unwrap();
    let (tell, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // The harness writes lines of its own, and may begin one of ours.
            if let Some((_, ours)) = line.split_once("@ ")
                && tell.send(ours.to_owned()).is_err()
            {
                return;
            }
        }
    });
    Actor {
        child,
        input,
        lines,
        seen: Vec::new(),
        untaken: Vec::new(),
    }
}

impl Actor {
    /// Waits for a line that begins with `start`, takes it, and returns the rest of it. Lines that come before it can
    /// still be taken.
    fn wait_for(&mut self, start: &str) -> String {
        let mut passed = 0;
        loop {
            if let Some(line) = self.untaken.get(passed) {
                if let Some(rest) = line.strip_prefix(start) {
                    let rest = rest.trim().to_owned();
                    self.untaken.remove(passed);
                    return rest;
                }
                passed += 1;
                continue;
            }
            match self.lines.recv_timeout(LONG) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    self.untaken.push(line);
                }
                Err(error) => panic!("waiting for {start:?}: {error}, after {:#?}", self.seen),
            }
        }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn ask(&mut self, line: &str, answer: &str) -> String {
        self.tell(line);
        self.wait_for(answer)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the kernel says that it is stopped.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap();
        assert!(status.stopped());
    }

    fn leave(mut self) {
        self.tell("leave");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}, after {:#?}", self.seen);
    }

    fn has_seen(&self, start: &str) -> bool {
        self.seen.iter().any(|line| line.starts_with(start))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn base() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn lab(base: &Path) -> Directory {
    Directory::open_at(base, &Domain::new("lab").unwrap()).unwrap()
}

fn joined(base: &TempDir, node: u8) -> Actor {
    let mut actor = start("node", base.path(), node, &[]);
    actor.wait_for("joined");
    actor
}

fn files(base: &TempDir) -> usize {
    fs::read_dir(lab(base.path()).path()).unwrap().count()
}

/// Of nodes 1 and 2 it is 1 that visits.
#[test]
fn peers_meet_in_whatever_order_they_start() {
    for (first, second) in [(1, 2), (2, 1)] {
        let base = base();
        let mut a = joined(&base, first);
        let mut b = joined(&base, second);
        assert_eq!(a.wait_for("met"), second.to_string());
        assert_eq!(b.wait_for("met"), first.to_string());
        assert_eq!(a.ask("send over", "sent"), "");
        assert_eq!(b.wait_for("got"), "over");
        assert_eq!(b.ask("send back", "sent"), "");
        assert_eq!(a.wait_for("got"), "back");
        b.leave();
        assert_eq!(a.wait_for("closed"), second.to_string());
        assert_eq!(a.wait_for("ended"), second.to_string());
        a.leave();
        assert_eq!(files(&base), 0);
    }
}

#[test]
fn peers_that_start_together_meet_once_each() {
    let base = base();
    let mut actors: Vec<_> = (1..=4)
        .map(|node| start("node", base.path(), node, &[]))
        .collect();
    for (i, actor) in actors.iter_mut().enumerate() {
        let mut met: Vec<_> = (0..3)
            .map(|_| actor.wait_for("met").parse::<usize>().unwrap())
            .collect();
        met.sort_unstable();
        let others: Vec<_> = (1..=4).filter(|&node| node != i + 1).collect();
        assert_eq!(met, others);
    }
    for mut actor in actors {
        // The answer comes after all that happened before.
        actor.ask("alive", "alive");
        let count = actor
            .seen
            .iter()
            .filter(|line| line.starts_with("met"))
            .count();
        assert_eq!(count, 3, "{:#?}", actor.seen);
    }
}

#[test]
fn kill_of_either_side_is_seen_and_its_socket_removed() {
    for (killed, survivor) in [(1, 2), (2, 1)] {
        let base = base();
        let mut survivor = joined(&base, survivor);
        let mut victim = joined(&base, killed);
        survivor.wait_for("met");
        victim.wait_for("met");
        assert_eq!(files(&base), 2);
        victim.kill();
        assert_eq!(survivor.wait_for("ended"), killed.to_string());
        assert_eq!(survivor.wait_for("removed"), "Ok(Removed)");
        assert_eq!(files(&base), 1);
        // And another can take the place.
        let mut next = joined(&base, killed);
        assert_eq!(survivor.wait_for("met"), killed.to_string());
        next.wait_for("met");
    }
}

#[test]
fn stopped_peer_is_not_dead_and_goes_on() {
    let base = base();
    let mut a = joined(&base, 1);
    let mut b = joined(&base, 2);
    a.wait_for("met");
    b.wait_for("met");
    b.stop();
    assert_eq!(a.ask("alive", "alive"), "true");
    a.ask("send while stopped", "sent");
    b.signal(Signal::CONT);
    assert_eq!(b.wait_for("got"), "while stopped");
    assert_eq!(b.ask("send awake", "sent"), "");
    assert_eq!(a.wait_for("got"), "awake");
    assert!(
        !a.has_seen("ended") && !a.has_seen("closed"),
        "{:#?}",
        a.seen
    );
}

/// Who visits a stopped process waits for it, since it will answer when it goes on.
#[test]
fn peer_that_is_stopped_before_it_is_met_is_met_when_it_goes_on() {
    let base = base();
    let mut b = joined(&base, 2);
    b.stop();
    let mut a = joined(&base, 1);
    a.ask("alive", "alive");
    b.signal(Signal::CONT);
    a.wait_for("met");
    b.wait_for("met");
}

#[test]
fn connection_that_was_lost_is_made_again() {
    let base = base();
    let returns = [("RENDEZVOUS_RETURN", "1")];
    let mut a = start("node", base.path(), 1, &returns);
    let mut b = start("node", base.path(), 2, &returns);
    for actor in [&mut a, &mut b] {
        actor.wait_for("met");
    }
    a.ask("shut", "shut");
    for actor in [&mut a, &mut b] {
        actor.wait_for("met");
    }
    a.ask("send again", "sent");
    assert_eq!(b.wait_for("got"), "again");
}

#[test]
fn sockets_of_the_dead_are_removed_by_the_next_who_starts() {
    for (killed, next) in [(1, 2), (2, 1)] {
        let base = base();
        let mut victim = joined(&base, killed);
        victim.kill();
        assert_eq!(files(&base), 1);
        let mut next_actor = start("node", base.path(), next, &[]);
        next_actor.wait_for("joined");
        if next < killed {
            // It is for the smaller one to visit, and so it finds out.
            let text = next_actor.wait_for("not met");
            assert!(text.contains("left its socket behind"), "{text}");
        }
        assert_eq!(files(&base), 1);
        let entry = lab(base.path()).list().unwrap()[0];
        assert_eq!(entry.node, NodeId::from_bytes([next; 16]));
    }
}

#[test]
fn descriptor_that_a_grandchild_keeps_does_not_hide_the_death() {
    let base = base();
    let mut survivor = joined(&base, 1);
    let mut victim = start("node", base.path(), 2, &[("RENDEZVOUS_KEEP", "1")]);
    survivor.wait_for("met");
    victim.wait_for("met");
    victim.ask("fork", "forked");
    victim.kill();
    assert_eq!(survivor.wait_for("ended"), "2");
    assert!(
        !survivor.has_seen("closed"),
        "the grandchild holds the connection open"
    );
    // The grandchild ends when its input does.
    victim.input = None;
    assert_eq!(survivor.wait_for("closed"), "2");
}

#[test]
fn forked_child_does_not_keep_connections_open() {
    let base = base();
    let mut survivor = joined(&base, 1);
    let mut parent = joined(&base, 2);
    survivor.wait_for("met");
    parent.wait_for("met");
    parent.ask("fork", "forked");
    parent.ask("hang up", "hung up");
    // The child lives and its parent too, and yet the connection is closed.
    assert_eq!(survivor.wait_for("closed"), "2");
    assert!(!survivor.has_seen("ended"));
    assert_eq!(survivor.ask("alive", "alive"), "true");
}

#[test]
fn handles_in_a_forked_child_answer_forked_and_their_drops_do_nothing() {
    let base = base();
    let mut other = joined(&base, 1);
    let mut parent = start("forker", base.path(), 2, &[]);
    other.wait_for("met");
    parent.wait_for("met");
    assert_eq!(parent.ask("fork", "child"), "status 0");
    // The parent is as before: listed, connected, listening.
    assert_eq!(files(&base), 2);
    assert_eq!(other.ask("send still there", "sent"), "");
    assert_eq!(parent.wait_for("got"), "still there");
    let mut third = joined(&base, 3);
    parent.wait_for("met");
    third.wait_for("met");
    assert!(
        !other.has_seen("closed") && !other.has_seen("ended"),
        "{:#?}",
        other.seen
    );
}

#[test]
fn version_skew_is_refused_by_both_with_both_values() {
    let base = base();
    let mut old = start("node", base.path(), 1, &[("RENDEZVOUS_PROTOCOLS", "1 2")]);
    let mut new = start("node", base.path(), 2, &[("RENDEZVOUS_PROTOCOLS", "3 5")]);
    let text = old.wait_for("not met");
    assert!(
        text.contains("the peer speaks protocol 3 to 5, this build speaks 1 to 2"),
        "{text}"
    );
    assert!(
        text.contains(&format!("process {}", new.child.id())),
        "{text}"
    );
    let text = new.wait_for("not met");
    assert!(
        text.contains("the peer speaks protocol 1 to 2, this build speaks 3 to 5"),
        "{text}"
    );
    // A third one that speaks both languages meets both.
    let mut both = start("node", base.path(), 3, &[("RENDEZVOUS_PROTOCOLS", "2 3")]);
    for actor in [&mut old, &mut new] {
        assert_eq!(actor.wait_for("met"), "3");
    }
    let mut met = [both.wait_for("met"), both.wait_for("met")];
    met.sort();
    assert_eq!(met, ["1", "2"]);
}

#[test]
fn abi_mismatch_is_refused_by_both_with_both_values() {
    let base = base();
    let mut a = start("node", base.path(), 1, &[("RENDEZVOUS_ABI", "171")]);
    let mut b = start("node", base.path(), 2, &[("RENDEZVOUS_ABI", "205")]);
    let text = a.wait_for("not met");
    assert!(
        text.contains("the peer has ABI 00000000000000cd, this build has 00000000000000ab"),
        "{text}"
    );
    let text = b.wait_for("not met");
    assert!(
        text.contains("the peer has ABI 00000000000000ab, this build has 00000000000000cd"),
        "{text}"
    );
}

#[test]
fn process_without_descriptors_says_so_and_its_listener_goes_on() {
    let base = base();
    let mut limited = start("node", base.path(), 2, &[("RENDEZVOUS_DESCRIPTORS", "32")]);
    limited.wait_for("joined");
    limited.ask("fill", "filled");
    let mut visitor = joined(&base, 1);
    let text = limited.wait_for("not met");
    let expected =
        "cannot accept a peer: no descriptor is left (this process may have 32, RLIMIT_NOFILE)";
    assert_eq!(text, expected);
    let text = visitor.wait_for("not met");
    assert!(
        text.contains("closed the connection before it said hello"),
        "{text}"
    );
    limited.ask("free", "freed");
    // The visitor tries again by itself.
    assert_eq!(limited.wait_for("met"), "1");
    assert_eq!(visitor.wait_for("met"), "2");
}

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
    while Instant::now() < end {
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
    assert!(packets > 100, "{packets} packets in 3 seconds");
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

#[test]
fn domain_and_directory_follow_the_environment() {
    let base = base();
    let at = base.path().to_str().unwrap();
    let answer =
        |more: &[(&str, &str)]| start("environment", base.path(), 1, more).wait_for("answer");
    let path = format!("{at}/mproc/default");
    assert_eq!(
        answer(&[("XDG_RUNTIME_DIR", at), ("MPROC_DOMAIN", "default")]),
        path
    );
    let text = answer(&[("XDG_RUNTIME_DIR", at), ("MPROC_DOMAIN", "a b")]);
    let expected = "MPROC_DOMAIN: domain \"a b\" has ' ' at byte 1; letters, digits, '-', '_' and '.' are allowed";
    assert_eq!(text, expected);
    let text = answer(&[("XDG_RUNTIME_DIR", at), ("MPROC_DOMAIN", "")]);
    assert_eq!(text, "MPROC_DOMAIN: domain has an empty name");
    let text = answer(&[("XDG_RUNTIME_DIR", "here"), ("MPROC_DOMAIN", "lab")]);
    assert!(
        text.starts_with("cannot use directory \"here\": it is a relative path"),
        "{text}"
    );
    // Without a directory for this user's run-time files there is one under /tmp.
    let domain = format!("test-{}", std::process::id());
    let path = answer(&[("XDG_RUNTIME_DIR", ""), ("MPROC_DOMAIN", &domain)]);
    fs::remove_dir(&path).unwrap();
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(path, format!("/tmp/mproc-{user}/{domain}"));
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

// ------------------------------------------------------------------------------------------------ the actors' side

#[test]
fn role() {
    let Ok(role) = env::var("RENDEZVOUS_ROLE") else {
        return;
    };
    let base = env::var("RENDEZVOUS_BASE").unwrap();
    act(&role, Path::new(&base));
}

fn variable(name: &str) -> Option<String> {
    env::var(format!("RENDEZVOUS_{name}")).ok()
}

fn hello(node: u8) -> Hello {
    let protocols = variable("PROTOCOLS").unwrap_or_else(|| "1 1".into());
    let (min, max) = protocols.split_once(' ').unwrap();
    Hello {
        protocols: Protocols {
            min: min.parse().unwrap(),
            max: max.parse().unwrap(),
        },
        features: 0,
        abi: variable("ABI").map_or(7, |abi| abi.parse().unwrap()),
        identity: Identity::here(NodeId::from_bytes([node; 16])).unwrap(),
    }
}

fn say(line: &str) {
    println!("@ {line}");
}

type Peers = Arc<Mutex<HashMap<u8, Arc<Peer>>>>;

/// What an actor shares with its sources.
#[derive(Clone)]
struct Stage {
    peers: Peers,
    rendezvous: Arc<Mutex<Option<Rendezvous>>>,
    quiet: bool,
    refused: Arc<AtomicUsize>,
    kept: Arc<Mutex<Vec<OwnedFd>>>,
}

/// A peer that was met: prints what it sends and when it goes.
struct Friend {
    /// None while it is dropped.
    peer: Option<Arc<Peer>>,
    packet: Packet,
    is_open: bool,
    has_ended: bool,
    stage: Stage,
}

impl Friend {
    fn peer(&self) -> &Peer {
        self.peer.as_ref().unwrap()
    }

    fn name(&self) -> u8 {
        self.peer().identity.node.to_bytes()[0]
    }

    /// False if the connection is over.
    fn read(&mut self) -> bool {
        let name = self.name();
        loop {
            let socket = &self.peer.as_ref().unwrap().connection.socket;
            match socket.recv(&mut self.packet) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(RecvError::Closed) => {
                    if !self.stage.quiet {
                        say(&format!("closed {name}"));
                    }
                    return false;
                }
                Err(_) => return false,
            }
            let (bytes, descriptors) = self.packet.parts();
            for frame in Frames::new(bytes, descriptors.len()) {
                match frame {
                    Ok((Frame::Other { kind: 0x100, body }, _)) => {
                        // Garbage is no text, mostly, and never of this actor.
                        if name != 77 {
                            say(&format!("got {}", String::from_utf8_lossy(body)));
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        }
    }
}

impl Source for Friend {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.is_open.then(|| self.peer().connection.socket.as_fd())
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.peer().connection.process)
    }

    fn on_event(&mut self, event: Event, _: Instant, _: &WatchHandle) -> Next {
        let name = self.name();
        if event == Event::Ready {
            self.is_open = self.read();
            // A real transport would keep it until the process ends; this one has no leases out.
            let returns = variable("RETURN").is_some();
            if !self.is_open && (self.stage.quiet || self.has_ended || returns) {
                if let Some(rendezvous) = &*self.stage.rendezvous.lock().unwrap() {
                    rendezvous.lost(self.peer().identity.node);
                }
                return Next::Drop;
            }
        }
        if event == Event::Ended {
            say(&format!("ended {name}"));
            self.has_ended = true;
            if let Some(rendezvous) = &*self.stage.rendezvous.lock().unwrap() {
                let removed = rendezvous.ended(&self.peer().identity);
                say(&format!("removed {removed:?}"));
            }
            return if self.is_open { Next::Keep } else { Next::Drop };
        }
        Next::Keep
    }
}

impl Drop for Friend {
    fn drop(&mut self) {
        let name = self.name();
        self.stage.peers.lock().unwrap().remove(&name);
        // Its descriptors are closed before this is said.
        drop(self.peer.take());
        if name != 77 {
            say(&format!("gone {name}"));
        }
    }
}

fn environment() -> String {
    let domain = match Domain::from_environment() {
        Ok(domain) => domain,
        Err(error) => return error.to_string(),
    };
    match Directory::open(&domain) {
        Ok(directory) => {
            assert_eq!(directory.path(), Directory::place(&domain));
            directory.path().display().to_string()
        }
        Err(error) => error.to_string(),
    }
}

fn act(role: &str, base: &Path) {
    if role == "environment" {
        say(&format!("answer {}", environment()));
        return;
    }
    let node: u8 = variable("NODE").unwrap().parse().unwrap();
    if let Some(limit) = variable("DESCRIPTORS") {
        let limit = limit.parse().ok();
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit,
                maximum,
            },
        )
        .unwrap();
    }
    let stage = Stage {
        peers: Peers::default(),
        rendezvous: Arc::default(),
        quiet: variable("QUIET").is_some(),
        refused: Arc::default(),
        kept: Arc::default(),
    };
    let directory = lab(base);
    let watch = Watch::start("watch", |name, text| say(&format!("fault {name}: {text}"))).unwrap();
    let theirs = stage.clone();
    let on_meeting = Arc::new(
        move |met: Result<Peer, MeetingError>, watch: &WatchHandle| {
            let stage = theirs.clone();
            match met {
                Ok(peer) => {
                    let name = peer.identity.node.to_bytes()[0];
                    let peer = Arc::new(peer);
                    if variable("KEEP").is_some() {
                        // A copy that the crate knows nothing of.
                        let copy = peer.connection.socket.as_fd().try_clone_to_owned().unwrap();
                        stage.kept.lock().unwrap().push(copy);
                    }
                    if name != 77 {
                        stage.peers.lock().unwrap().insert(name, Arc::clone(&peer));
                        say(&format!("met {name}"));
                    }
                    let friend = Friend {
                        peer: Some(peer),
                        packet: Packet::new(),
                        is_open: true,
                        has_ended: false,
                        stage,
                    };
                    watch.add("friend", friend).unwrap();
                }
                Err(error) if !stage.quiet => say(&format!("not met {error}")),
                Err(_) => {
                    stage.refused.fetch_add(1, Relaxed);
                }
            }
        },
    );
    let rendezvous = Rendezvous::join(&directory, hello(node), watch.handle(), on_meeting).unwrap();
    *stage.rendezvous.lock().unwrap() = Some(rendezvous);
    say("joined");
    let mut filling: Vec<File> = Vec::new();
    let mut lines = std::io::stdin().lines().map_while(Result::ok);
    while let Some(line) = lines.next() {
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "send" => {
                let mut packet = Vec::new();
                let frame = Frame::Other {
                    kind: 0x100,
                    body: rest.as_bytes(),
                };
                frame.encode(0, &mut packet).unwrap();
                for peer in stage.peers.lock().unwrap().values() {
                    peer.connection.socket.send(&packet, &[]).unwrap();
                }
                say("sent");
            }
            "alive" => {
                let peers = stage.peers.lock().unwrap();
                let alive = peers
                    .values()
                    .all(|peer| !peer.connection.process.has_ended());
                say(&format!("alive {alive}"));
            }
            "fill" => {
                while let Ok(file) = File::open("/dev/null") {
                    filling.push(file);
                }
                say("filled");
            }
            "free" => {
                filling.clear();
                say("freed");
            }
            "count" => {
                // The folder that is read has a descriptor, too.
                let count = fs::read_dir("/proc/self/fd").unwrap().count() - 1;
                say(&format!("count {count}"));
            }
            "hang" => {
                // The friends go with their watch.
                drop(watch);
                stage.peers.lock().unwrap().clear();
                say("hung up");
                // Go on living until the input ends.
                lines.next();
                return;
            }
            "shut" => {
                for peer in stage.peers.lock().unwrap().values() {
                    let both = rustix::net::Shutdown::Both;
                    rustix::net::shutdown(&peer.connection.socket, both).unwrap();
                }
                say("shut");
            }
            "fork" if role == "forker" => {
                let rendezvous = stage.rendezvous.lock().unwrap().take().unwrap();
                let peers = stage.peers.lock().unwrap();
                let peer = Arc::clone(&peers[&1]);
                drop(peers);
                // SAFETY: The child uses what this thread has, allocates (the C library mends its allocator in a
                // child), and ends by `_exit`. It takes no lock that another thread may have held.
                match unsafe { fork() } {
                    0 => {
                        let code = in_child(&directory, &peer, watch, rendezvous);
                        // SAFETY: Ends this process, without the destructors and buffers of its parent.
                        unsafe { _exit(code) }
                    }
                    child => {
                        let pid = Pid::from_raw(child).unwrap();
                        let (_, status) =
                            waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
                        say(&format!(
                            "child status {}",
                            status.exit_status().unwrap_or(-1)
                        ));
                        *stage.rendezvous.lock().unwrap() = Some(rendezvous);
                        lines.next();
                        return;
                    }
                }
            }
            "fork" => {
                // SAFETY: The child takes no lock, makes one system call and ends by `_exit`.
                match unsafe { fork() } {
                    0 => {
                        // Until nobody can write to the pipe any more. What is written is the parent's.
                        let input = std::io::stdin();
                        let mut fds = [PollFd::new(&input, PollFlags::empty())];
                        let _ = poll(&mut fds, None);
                        // SAFETY: As above.
                        unsafe { _exit(0) }
                    }
                    _ => say("forked"),
                }
            }
            "leave" => break,
            other => panic!("no such command: {other}"),
        }
    }
    stage.rendezvous.lock().unwrap().take();
}

/// What each handle says in a forked child. The number of the first that says something else, or 0.
fn in_child(directory: &Directory, peer: &Peer, watch: Watch, rendezvous: Rendezvous) -> i32 {
    struct Nothing;
    impl Source for Nothing {
        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }
        fn on_event(&mut self, _: Event, _: Instant, _: &WatchHandle) -> Next {
            Next::Keep
        }
    }
    let socket = &peer.connection.socket;
    let node = NodeId::from_bytes([9; 16]);
    let entry = Entry { pid: 1, node };
    let answers = [
        matches!(socket.send(b"x", &[]), Err(SendError::Forked)),
        matches!(socket.recv(&mut Packet::new()), Err(RecvError::Forked)),
        socket.origin().check().is_err(),
        matches!(directory.connect(&entry), Err(ConnectError::Forked)),
        matches!(directory.bind(node), Err(BindError::Forked)),
        directory
            .list()
            .is_err_and(|error| error.to_string().contains("forked")),
        directory.remove_stale(&entry).is_err(),
        directory.changes().is_err(),
        watch.handle().add("nothing", Nothing) == Err(WatchEnded::Forked),
        watch.handle().ended() == Some(WatchEnded::Forked),
        rendezvous.ended(&peer.identity).is_err(),
        // What is made here works here.
        Directory::open_at(
            directory.path().ancestors().nth(2).unwrap(),
            &Domain::new("child").unwrap(),
        )
        .is_ok_and(|own| own.bind(node).is_ok()),
        ControlFd::new(File::open("/dev/null").unwrap().into())
            .is_ok_and(|fd| fd.origin().is_here()),
    ];
    rendezvous.lost(node);
    drop(rendezvous);
    drop(watch);
    let wrong = answers.iter().position(|&answer| !answer);
    wrong.map_or(0, |at| at as i32 + 1)
}
