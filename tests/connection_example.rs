//! `examples/connection` shows what it says, and its client gets along with servers that behave otherwise.
#![cfg(unix)]

#[path = "../examples/connection/client.rs"]
mod client;
#[path = "support/examples.rs"]
mod examples;

use client::{Store, StoreError};
use examples::example;
use mproc::prelude::*;
use mproc::{Options, replies};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// How long anything that is waited for may take. Far more than it does.
const LIMIT: Duration = Duration::from_secs(60);

/// False, which is said, on a machine that cannot connect to itself.
fn has_loopback() -> bool {
    let tried = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .and_then(std::net::TcpStream::connect);
    match tried {
        // Refused, for nobody listens any more: the way there is open.
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => true,
        Err(error) => {
            println!("skipped: no loopback: {error}");
            false
        }
    }
}

fn shown(capacity: &str) -> String {
    let output = Command::new(example("connection"))
        .env_remove("MPROC_DOMAIN")
        .env("MPROC_CAPACITY", capacity)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The answers of the server do not come in the order of the requests, and each is its own caller's. Who was under way when the
/// server died is told, and who came meanwhile is served by the next server. Also where a mailbox holds one message.
#[test]
fn one_connection_serves_all_three_ways_and_outlives_its_server() {
    if !has_loopback() {
        return;
    }
    for capacity in ["1024", "1"] {
        let shown = shown(capacity);
        let lines: Vec<_> = shown.lines().collect();
        let (end, lines) = lines.split_last().unwrap();
        assert_eq!(
            lines,
            [
                "blocking: apple is red",
                "blocking: pear: there is no such key",
                "awaited: apple is red",
                "awaited: apple is still red",
                "awaited: took a book",
                "many: 100 of 100 jobs are what was asked for",
                "many: answers were overtaken: true",
                "restarted: the request under way is lost",
                "restarted: apple is green",
                "connected 2 times",
            ],
            "{shown}"
        );
        assert!(end.starts_with("all ended in "), "{shown}");
    }
}

/// A client, and what its futures run inside of.
struct Client {
    store: Store,
    node: Node,
    // After the node, whose futures use it.
    _tokio: tokio::runtime::Runtime,
}

fn connect(server: SocketAddr) -> Client {
    let mut tokio = tokio::runtime::Builder::new_multi_thread();
    let tokio = tokio.worker_threads(1).enable_all().build().unwrap();
    let handle = tokio.handle().clone();
    let options = Options::default()
        .call_limit(LIMIT)
        .polls_inside(move |poll| {
            let _inside = handle.enter();
            poll();
        });
    let node = Node::with_options(options);
    Client {
        store: Store::connect(&node, server).unwrap(),
        node,
        _tokio: tokio,
    }
}

/// One connection, at the server's side.
struct Peer(BufReader<TcpStream>);

impl Peer {
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    #[track_caller]
    fn says(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").unwrap();
    }
}

/// Where a test is the server: its address, and the connections that come.
fn server() -> (SocketAddr, Receiver<Peer>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, connections) = mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            if tell.send(Peer(BufReader::new(socket))).is_err() {
                return;
            }
        }
    });
    (address, connections)
}

#[track_caller]
fn next(connections: &Receiver<Peer>) -> Peer {
    let mut peer = connections.recv_timeout(LIMIT).unwrap();
    peer.says("hello");
    peer
}

#[test]
fn a_server_that_talks_nonsense_is_left_and_asked_again() {
    if !has_loopback() {
        return;
    }
    let (address, connections) = server();
    let client = connect(address);
    for nonsense in ["nonsense", "x ok", "0 perhaps", ""] {
        let mut peer = next(&connections);
        let get = client.store.get("apple").start();
        assert!(peer.line().ends_with(" get apple"));
        // An answer to nobody is none of its business.
        peer.says("4711 ok");
        peer.says(nonsense);
        match get.wait() {
            Err(StoreError::Lost(why)) => assert_eq!(&*why, format!("it says {nonsense:?}")),
            other => panic!("{nonsense:?}: {other:?}"),
        }
    }
    let mut peer = next(&connections);
    let get = client.store.get("apple").start();
    peer.line();
    peer.says("4 ok red");
    assert_eq!(get.wait().unwrap(), "red");
    assert_eq!(client.store.connections().wait().unwrap(), 5);
}

#[test]
fn who_does_not_greet_is_no_server() {
    if !has_loopback() {
        return;
    }
    let (address, connections) = server();
    let client = connect(address);
    let get = client.store.get("apple").start();
    let mut other = connections.recv_timeout(LIMIT).unwrap();
    other.says("220 ready");
    // It has gone without a request, which the next one gets.
    assert_eq!(other.line(), "");
    let mut peer = next(&connections);
    assert_eq!(peer.line(), "0 get apple");
    peer.says("0 error it is eaten");
    match get.wait() {
        Err(StoreError::Refused(why)) => assert_eq!(why, "it is eaten"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_given_up_is_not_sent_and_makes_room() {
    if !has_loopback() {
        return;
    }
    const ROOM: usize = 1024;
    let (address, connections) = server();
    let client = connect(address);
    // Nobody has greeted: all of them wait. What counts for the bound is handled in order before the last is.
    let mut waiting: Vec<_> = (0..ROOM)
        .map(|n| client.store.take(&format!("key-{n}")).start())
        .collect();
    assert!(matches!(
        client.store.get("one-more").wait(),
        Err(StoreError::Busy)
    ));
    assert!(waiting[3].cancel());
    let last = client.store.get("last").start();
    // Its place in the order is before what is asked for now, so the number of the last is given.
    assert_eq!(client.store.connections().wait().unwrap(), 0);
    // Also where there is room enough.
    assert!(waiting[5].cancel());
    let mut peer = next(&connections);
    for n in (0..ROOM).filter(|n| ![3, 5].contains(n)) {
        assert_eq!(peer.line(), format!("{n} take key-{n}"));
        peer.says(&format!("{n} ok {n}"));
    }
    assert_eq!(peer.line(), format!("{ROOM} get last"));
    peer.says(&format!("{ROOM} ok at last"));
    assert_eq!(last.wait().unwrap(), "at last");
    for (n, take) in waiting
        .into_iter()
        .enumerate()
        .filter(|(n, _)| ![3, 5].contains(n))
    {
        assert_eq!(take.wait().unwrap(), n.to_string());
    }
}

#[test]
fn what_was_not_written_when_the_connection_broke_goes_by_the_next() {
    if !has_loopback() {
        return;
    }
    let (address, connections) = server();
    let client = connect(address);
    let mut peer = next(&connections);
    // More than the system keeps for a server that does not read.
    let large = client.store.set("large", &"x".repeat(32 << 20)).start();
    let mut first = [0];
    peer.0.read_exact(&mut first).unwrap();
    let small = client.store.get("small").start();
    // When this is answered, that has come to the connection's processor.
    assert_eq!(client.store.connections().wait().unwrap(), 1);
    drop(peer);
    assert!(matches!(large.wait(), Err(StoreError::Lost(_))));
    let mut peer = next(&connections);
    assert_eq!(peer.line(), "1 get small");
    peer.says("1 ok here");
    assert_eq!(small.wait().unwrap(), "here");
}

#[test]
fn a_request_is_one_line() {
    if !has_loopback() {
        return;
    }
    let (address, connections) = server();
    let client = connect(address);
    let set = client.store.set("apple", "red\n7 take apple");
    assert!(matches!(set.wait(), Err(StoreError::Refused(_))));
    let get = client.store.get("apple").start();
    let mut peer = next(&connections);
    assert_eq!(peer.line(), "0 get apple");
    peer.says("0 ok");
    assert_eq!(get.wait().unwrap(), "");
}

#[test]
fn calls_that_wait_when_the_node_ends_are_told() {
    if !has_loopback() {
        return;
    }
    let (address, connections) = server();
    let client = connect(address);
    let mut peer = next(&connections);
    let gets = (0..3).map(|n| client.store.get(&format!("key-{n}")));
    let mut gets = replies(gets).prefetch(2);
    let (tell, first) = mpsc::channel();
    thread::scope(|threads| {
        threads.spawn(|| {
            for get in &mut gets {
                tell.send(get).unwrap();
            }
        });
        for n in 0..3 {
            assert_eq!(peer.line(), format!("{n} get key-{n}"));
        }
        peer.says("0 ok zero");
        assert_eq!(first.recv_timeout(LIMIT).unwrap().unwrap(), "zero");
        assert!(client.node.shutdown(LIMIT).is_clean());
        for _ in 0..2 {
            let told = first.recv_timeout(LIMIT).unwrap();
            assert!(matches!(told, Err(StoreError::Call(_))), "{told:?}");
        }
    });
    // The connection is closed with the processor.
    assert_eq!(peer.line(), "");
    assert_eq!(client.store.overtaken().wait().ok(), None);
}
