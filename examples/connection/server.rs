//! A store of keys and values behind a TCP socket, as a program of its own.
//!
//! It says `hello` first. Then a request is a line, `ID set KEY VALUE`, `ID get KEY` or `ID take KEY`, and so is its answer,
//! `ID ok VALUE` or `ID error WHY`.
//! `take` is answered when the key has a value, and removes it; of several that wait the first gets it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{env, process, thread};

/// The argument that makes this program the server.
pub(crate) const ROLE: &str = "serve";

/// How long a server that is started again tries to get its port.
const LIMIT: Duration = Duration::from_secs(10);

/// A server that runs. It is killed when this is dropped, and ends by itself when this process is dead.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// At this address, or at a free one. Returns when it listens.
    pub(crate) fn start(address: Option<SocketAddr>) -> io::Result<Self> {
        let address = address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        let process = Command::new(env::current_exe()?)
            .args([ROLE, &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut server = Self { process, address };
        let mut line = String::new();
        if let Some(says) = server.process.stdout.take() {
            BufReader::new(says).read_line(&mut line)?;
        }
        let address = line.trim().parse();
        server.address = address.map_err(|_| io::Error::other("the server does not listen"))?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it was killed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A line from a client, and where its answer goes.
type Request = (String, Arc<TcpStream>);

#[derive(Default)]
struct Contents {
    values: HashMap<String, String>,
    /// Who waits for a key, and by which number.
    takers: HashMap<String, VecDeque<(String, Arc<TcpStream>)>>,
}

/// The server's main program: until its parent is gone, or kills it.
pub(crate) fn run(address: Option<&str>) -> io::Result<()> {
    let address = address.and_then(|address| address.parse().ok());
    let listener = listen(address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()))?;
    println!("{}", listener.local_addr()?);
    thread::spawn(|| {
        // The other end is closed when the parent is dead.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    let (tell, requests) = mpsc::channel::<Request>();
    thread::spawn(move || {
        let mut contents = Contents::default();
        for (line, client) in requests {
            contents.answer(&line, &client);
        }
    });
    for client in listener.incoming() {
        let (client, tell) = (Arc::new(client?), tell.clone());
        send(&client, "hello\n");
        thread::spawn(move || {
            for line in BufReader::new(&*client).lines().map_while(Result::ok) {
                if tell.send((line, client.clone())).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Another program may have the port for a moment.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            bound => return bound,
        }
    }
}

impl Contents {
    fn answer(&mut self, line: &str, client: &Arc<TcpStream>) {
        let mut words = line.splitn(4, ' ');
        let id = words.next().unwrap_or_default();
        match (words.next(), words.next(), words.next()) {
            (Some("set"), Some(key), Some(value)) => {
                say(client, id, "ok");
                match self.takers.get_mut(key).and_then(VecDeque::pop_front) {
                    Some((taker, its)) => say(&its, &taker, &format!("ok {value}")),
                    None => drop(self.values.insert(key.to_owned(), value.to_owned())),
                }
            }
            (Some("get"), Some(key), None) => match self.values.get(key) {
                Some(value) => say(client, id, &format!("ok {value}")),
                None => say(client, id, "error there is no such key"),
            },
            (Some("take"), Some(key), None) => match self.values.remove(key) {
                Some(value) => say(client, id, &format!("ok {value}")),
                None => {
                    let takers = self.takers.entry(key.to_owned()).or_default();
                    takers.push_back((id.to_owned(), client.clone()));
                }
            },
            _ => say(client, id, "error this is no request"),
        }
    }
}

fn say(client: &TcpStream, id: &str, answer: &str) {
    send(client, &format!("{id} {answer}\n"));
}

fn send(mut client: &TcpStream, line: &str) {
    // Who has gone wants no answer.
    let _ = client.write_all(line.as_bytes());
}
