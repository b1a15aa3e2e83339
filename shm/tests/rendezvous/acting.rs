//! What a process does that plays a role.

use crate::lab;
use mproc_shm::{
    BindError, ConnectError, ControlFd, Directory, Domain, Entry, Event, Frame, Frames, Hello,
    Identity, MeetingError, Next, NodeId, Packet, Peer, Process, Protocols, RecvError, Rendezvous,
    SendError, Source, Watch, WatchEnded, WatchHandle,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getrlimit, setrlimit, waitpid};
use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

unsafe extern "C" {
    /// POSIX. A child of 0 is the child itself.
    fn fork() -> i32;
    /// POSIX. Ends the process at once.
    fn _exit(code: i32) -> !;
}

fn variable(name: &str) -> Option<String> {
    env::var(format!("RENDEZVOUS_{name}")).ok()
}

pub(super) fn hello(node: u8) -> Hello {
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

pub(super) fn act(role: &str, base: &Path) {
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
