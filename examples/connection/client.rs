//! The client: a processor that owns the connection, and a handle for whoever calls it.
//!
//! | a request is | in `unsent` | in `waiting` | leaves by                                                        |
//! |--------------|-------------|--------------|------------------------------------------------------------------|
//! | unsent       | yes         | yes          | the writer takes it; its caller gives up                         |
//! | under way    | no          | yes          | its answer; the connection ends (`Lost`); its caller gives up, and room is needed |
//!
//! One future, beside the processor's messages, connects, reads and writes, and connects again. It holds no state: what it has
//! read goes in, and what it shall write comes out, by `update`.

use mproc::prelude::*;
use mproc::{AsyncHandle, CallError, Pending, ReplyToken};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

/// How many requests may wait for their answers.
const WAITING_MAX: usize = 1024;

/// How long it waits before it tries to connect again.
const RETRY: Duration = Duration::from_millis(20);

/// Why an operation of the store has no result.
#[derive(Clone, Debug)]
pub(crate) enum StoreError {
    /// The server says why. Nothing was changed.
    Refused(String),
    /// The connection ended first. The server may have done it.
    Lost(Arc<str>),
    /// As many requests as may wait do so. Nothing was sent; try again later.
    Busy,
    /// The connection's processor did not answer: mostly a time-out. The server may have done it.
    Call(CallError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the server refuses: {why}"),
            Self::Lost(why) => write!(f, "the connection ended first: {why}"),
            Self::Busy => f.write_str("too many requests wait for their answers"),
            Self::Call(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// The store behind the connection. Each operation is waited for as its caller likes: `wait`, `.await`, `start`, `then`.
#[derive(Clone, Debug)]
pub(crate) struct Store(Address<Connection>);

impl Store {
    /// Nobody need listen there yet: requests wait until somebody does.
    pub(crate) fn connect(node: &Node, server: SocketAddr) -> mproc::Result<Self> {
        let connection = Connection {
            server,
            next_id: 0,
            unsent: VecDeque::new(),
            waiting: BTreeMap::new(),
            has_more: Arc::default(),
            connections: 0,
            highest_answered: None,
            overtaken: 0,
        };
        Ok(Self(node.spawn_thread("connection", connection)?))
    }

    /// Gives `key` a value. A key is one word, and a value is on one line.
    pub(crate) fn set(&self, key: &str, value: &str) -> Pending<(), StoreError> {
        self.ask(format!("set {key} {value}")).map(|_| ())
    }

    /// The value of `key`. `Refused` if there is none.
    pub(crate) fn get(&self, key: &str) -> Pending<String, StoreError> {
        self.ask(format!("get {key}"))
    }

    /// Removes the value of `key`, when there is one.
    pub(crate) fn take(&self, key: &str) -> Pending<String, StoreError> {
        self.ask(format!("take {key}"))
    }

    /// How often it has connected.
    pub(crate) fn connections(&self) -> Pending<u32> {
        self.0.call(Counts).map(|(connections, _)| connections)
    }

    /// How many answers came after the answer to a later request.
    pub(crate) fn overtaken(&self) -> Pending<u32, StoreError> {
        let counts = self.0.call(Counts);
        counts.convert(|(_, overtaken)| Ok(overtaken), StoreError::Call)
    }

    fn ask(&self, line: String) -> Pending<String, StoreError> {
        let call = self.0.call(Request(line));
        call.convert(|answer| answer, StoreError::Call)
    }
}

/// What a request comes to.
type Answer = Result<String, StoreError>;

struct Request(String);

/// How often it has connected, and how many answers were overtaken.
struct Counts;

#[derive(Debug)]
pub(crate) struct Connection {
    server: SocketAddr,
    next_id: u64,
    /// Numbers and lines, in order.
    unsent: VecDeque<(u64, String)>,
    /// Who waits for an answer, by the request's number.
    waiting: BTreeMap<u64, ReplyToken<Answer>>,
    /// Tells the writer that `unsent` is not empty.
    has_more: Arc<Notify>,
    connections: u32,
    highest_answered: Option<u64>,
    overtaken: u32,
}

impl Processor for Connection {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let me = cx.async_handle();
        cx.spawn(stay_connected(me, self.server, self.has_more.clone()));
        Ok(())
    }
}

impl Handle<Request> for Connection {
    type Reply = Answer;

    fn handle(&mut self, Request(line): Request, cx: &mut Cx<'_, Self, Answer>) -> Outcome<Answer> {
        if line.contains(['\r', '\n']) {
            return Ok(Err(StoreError::Refused("it is not one line".to_owned())));
        }
        if self.waiting.len() >= WAITING_MAX {
            self.forget_who_gave_up();
        }
        if self.waiting.len() >= WAITING_MAX {
            return Ok(Err(StoreError::Busy));
        }
        let id = self.next_id;
        self.next_id += 1;
        self.unsent.push_back((id, line));
        self.has_more.notify_one();
        cx.reply_later(|token| drop(self.waiting.insert(id, token)))
    }
}

impl Handle<Counts> for Connection {
    type Reply = (u32, u32);

    fn handle(&mut self, _: Counts, _: &mut Cx<'_, Self, (u32, u32)>) -> Outcome<(u32, u32)> {
        Ok((self.connections, self.overtaken))
    }
}

impl Connection {
    fn forget_who_gave_up(&mut self) {
        self.waiting.retain(|_, token| !token.is_cancelled());
        let waiting = &self.waiting;
        self.unsent.retain(|(id, _)| waiting.contains_key(id));
    }

    /// The lines that are to be written now. Empty if there are none.
    fn take_unsent(&mut self) -> String {
        self.forget_who_gave_up();
        let lines = self.unsent.drain(..);
        lines.map(|(id, line)| format!("{id} {line}\n")).collect()
    }

    fn answered(&mut self, id: u64, answer: Answer) {
        if self.highest_answered.is_some_and(|highest| highest > id) {
            self.overtaken += 1;
        }
        self.highest_answered = self.highest_answered.max(Some(id));
        // Whoever gave up is not there any more.
        if let Some(token) = self.waiting.remove(&id) {
            token.send(answer);
        }
    }

    /// Who was under way learns it. Who was not sent yet waits for the next connection.
    fn disconnected(&mut self, why: &io::Error) {
        let why: Arc<str> = why.to_string().into();
        let first_unsent = self.unsent.front().map_or(self.next_id, |(id, _)| *id);
        let unsent = self.waiting.split_off(&first_unsent);
        for token in std::mem::replace(&mut self.waiting, unsent).into_values() {
            token.send(Err(StoreError::Lost(why.clone())));
        }
    }
}

/// Connects, and again whenever the connection ends. It goes on until the processor ends.
async fn stay_connected(
    me: AsyncHandle<Connection>,
    server: SocketAddr,
    has_more: Arc<Notify>,
) -> Outcome<()> {
    loop {
        let Ok((lines, writes)) = connect(server).await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        enter(&me, |me| me.connections += 1).await?;
        // Either ends by the error that ends the connection.
        let ended = tokio::select! {
            ended = read(&me, lines) => ended,
            ended = write(&me, writes, &has_more) => ended,
        };
        let Err(fault) = ended else { continue };
        let Some(error) = fault.as_error().downcast_ref::<io::Error>() else {
            return Err(fault);
        };
        let error = io::Error::new(error.kind(), error.to_string());
        enter(&me, move |me| me.disconnected(&error)).await?;
    }
}

/// Has `work` run with the state, however long its turn takes to come.
async fn enter<T: Send + 'static>(
    me: &AsyncHandle<Connection>,
    work: impl FnOnce(&mut Connection) -> T + Send + 'static,
) -> Result<T, CallError> {
    let update = me.update(move |me, _cx| work(me));
    update.limit(Duration::MAX).await
}

/// Lines of the server, as they come.
type FromServer = Lines<BufReader<OwnedReadHalf>>;

/// Returns when the server has said something: a connection alone may be one that the system made for a server that is dying.
async fn connect(server: SocketAddr) -> io::Result<(FromServer, OwnedWriteHalf)> {
    let socket = TcpStream::connect(server).await?;
    // Where nobody listens, a socket of this machine can be connected to itself, if it happens to get that very port.
    if socket.local_addr()? == server {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    socket.set_nodelay(true)?;
    let (reads, writes) = socket.into_split();
    let mut lines = BufReader::new(reads).lines();
    match lines.next_line().await?.as_deref() {
        Some("hello") => Ok((lines, writes)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn read(me: &AsyncHandle<Connection>, mut lines: FromServer) -> Outcome<()> {
    while let Some(line) = lines.next_line().await? {
        let Some((id, answer)) = parse(&line) else {
            let text = format!("it says {line:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        };
        enter(me, move |me| me.answered(id, answer)).await?;
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

async fn write(
    me: &AsyncHandle<Connection>,
    mut writes: OwnedWriteHalf,
    has_more: &Notify,
) -> Outcome<()> {
    loop {
        let lines = enter(me, Connection::take_unsent).await?;
        if lines.is_empty() {
            has_more.notified().await;
        }
        writes.write_all(lines.as_bytes()).await?;
    }
}

/// The number and the answer in a line of the server.
fn parse(line: &str) -> Option<(u64, Answer)> {
    let (id, answer) = line.split_once(' ')?;
    let id = id.parse().ok()?;
    let (verdict, text) = answer.split_once(' ').unwrap_or((answer, ""));
    match verdict {
        "ok" => Some((id, Ok(text.to_owned()))),
        "error" => Some((id, Err(StoreError::Refused(text.to_owned())))),
        _ => None,
    }
}
