//! What can go wrong, by operation. Operations that carry a message hand it back.

use crate::exit::Exit;
use crate::name::{Name, NameError};
use crate::pending::CutShort;
use crate::queue::WhenFull;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What a handler returns: a value, or the [`Fault`] that `?` makes from any error.
pub type Outcome<T> = Result<T, Fault>;

/// Something that should not have happened inside a handler.
///
/// `?` makes one from any error that is `Send + Sync`. A fault does not end its processor: it is counted, reported with
/// the processor's name and the message's type, given to the caller if there is one
/// ([`CallError::Faulted`]), and then to [`Processor::on_error`](crate::Processor::on_error). What callers are expected
/// to deal with belongs in the reply, not here.
///
/// Like the error types of other crates made for `?`, it does not implement [`std::error::Error`] itself; see
/// [`as_error`](Self::as_error).
#[derive(Clone)]
pub struct Fault(Cause);

#[derive(Clone)]
enum Cause {
    Error(Arc<dyn StdError + Send + Sync>),
    /// Not a fault: the reply has been promised through a token.
    ReplyLater,
}

impl Fault {
    /// A fault that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Cause::Error(Arc::new(Text(message.into()))))
    }

    /// The mark that a handler returns when its reply comes later.
    pub(crate) fn reply_later() -> Self {
        Self(Cause::ReplyLater)
    }

    pub(crate) fn is_reply_later(&self) -> bool {
        matches!(self.0, Cause::ReplyLater)
    }

    /// The error that was made into this fault.
    pub fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        match &self.0 {
            Cause::Error(error) => &**error,
            Cause::ReplyLater => &ReplyLater,
        }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(Cause::Error(Arc::new(error)))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({})", self.as_error())
    }
}

/// The error, and after it the chain of its causes.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.as_error();
        write!(f, "{first}")?;
        let mut next = first.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Text(String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Text {}

#[derive(Debug)]
struct ReplyLater;

impl fmt::Display for ReplyLater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply comes later")
    }
}

impl StdError for ReplyLater {}

/// Why [`Address::try_send`](crate::Address::try_send) did not queue the message, which it hands back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum TrySendError<M> {
    /// The mailbox has no room, or others already wait for it. A later attempt may succeed.
    Full(M),
    /// The processor has ended. No later attempt can succeed.
    Closed(M),
}

impl<M> TrySendError<M> {
    /// The message that was not sent.
    pub fn into_inner(self) -> M {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }

    fn text(&self) -> (&'static str, &'static str) {
        match self {
            Self::Full(_) => ("Full", "mailbox is full"),
            Self::Closed(_) => ("Closed", "processor has ended"),
        }
    }
}

/// Why [`Address::send`](crate::Address::send) or [`Address::send_timeout`](crate::Address::send_timeout) did not queue
/// the message, which it hands back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum SendError<M> {
    /// There is no room and this send does not wait: the mailbox was made with
    /// [`WhenFull::Fail`](crate::WhenFull::Fail), or the sending handler's outbox is at its cap. A later attempt may
    /// succeed.
    Full(M),
    /// The mailbox stayed full for as long as the limit allows. Try again, or drop the message.
    Timeout(M),
    /// The processor has ended, perhaps while we waited. No later attempt can succeed.
    Closed(M),
    /// Only this very thread can make room, so waiting would never end. Spin the script, or use `try_send`.
    Deadlock(M),
}

impl<M> SendError<M> {
    /// The message that was not sent.
    pub fn into_inner(self) -> M {
        match self {
            Self::Full(m) | Self::Timeout(m) | Self::Closed(m) | Self::Deadlock(m) => m,
        }
    }

    /// The same reason, with `change` applied to the message.
    pub fn map<N>(self, change: impl FnOnce(M) -> N) -> SendError<N> {
        match self {
            Self::Full(m) => SendError::Full(change(m)),
            Self::Timeout(m) => SendError::Timeout(change(m)),
            Self::Closed(m) => SendError::Closed(change(m)),
            Self::Deadlock(m) => SendError::Deadlock(change(m)),
        }
    }

    fn text(&self) -> (&'static str, &'static str) {
        match self {
            Self::Full(_) => ("Full", "mailbox is full"),
            Self::Timeout(_) => ("Timeout", "mailbox stayed full until the limit"),
            Self::Closed(_) => ("Closed", "processor has ended"),
            Self::Deadlock(_) => ("Deadlock", "only this thread could make room"),
        }
    }
}

/// Why [`Address::reserve`](crate::Address::reserve) gave no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// The mailbox is full and was made with a policy that never waits.
    Full,
    /// No room became free within the limit.
    Timeout,
    /// The processor has ended.
    Closed,
    /// Only this very thread can make room, so waiting would never end.
    Deadlock,
    /// The reservation was [cancelled](crate::Ticket::cancel), or its result was taken before.
    Cancelled,
    /// The program was interrupted meanwhile. No place is held.
    Interrupted,
    /// It would have blocked a thread of an async executor: await it. See
    /// [`Options::blocking_in_executor`](crate::Options::blocking_in_executor).
    InExecutor,
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "mailbox is full",
            Self::Timeout => "mailbox stayed full until the limit",
            Self::Closed => "processor has ended",
            Self::Deadlock => "only this thread could make room",
            Self::Cancelled => "reservation was cancelled",
            Self::Interrupted => "program was interrupted",
            Self::InExecutor => "refused to block a thread of an async executor; await it",
        })
    }
}

impl StdError for ReserveError {}

/// Why a call has no reply.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The mailbox was full and never waits ([`WhenFull::Fail`](crate::WhenFull::Fail)). Nothing was sent.
    Full,
    /// No reply within the limit (5 seconds unless told otherwise). The message may still be handled, unless it was
    /// queued: then it has been taken back.
    Timeout,
    /// The processor ended before it replied, or had ended before the call.
    Stopped(Exit),
    /// The message was dropped by the mailbox's policy before it was handled.
    Dropped,
    /// The handler, or whoever held the reply token, let go of it without a reply.
    NoReply,
    /// The handler returned this fault instead of a reply.
    Faulted(Fault),
    /// The handler panicked with this message.
    Panicked(Arc<str>),
    /// Waiting here could never end, and was refused: the call would have closed a circle. The message was taken back if it
    /// was still queued; the others in the circle go on.
    ///
    /// The names are those in the circle, in order: each waits for the next, and the last for the first. It waits for its
    /// answer, or where both are on one driver, for its handler to return. The first is the caller. Whoever waits on a
    /// driver's thread outside of all handlers is called by the driver's name: a script between two spins, or what
    /// [`Driver::build`](crate::Driver::build) runs. Answer later ([`Cx::reply_later`](crate::Cx::reply_later)), go on with
    /// [`Pending::then`](crate::Pending::then), or send in place of one of the calls.
    Deadlock(Vec<Name>),
    /// The processor that owed the reply had promised it for later, and was restarted by its supervisor meanwhile: who made
    /// the promise is gone. The message was handled, perhaps in part; it may be sent again.
    Restarted,
    /// The call was [cancelled](crate::Ticket::cancel), or its result was taken before. The message may still be handled,
    /// unless it was queued: then it has been taken back.
    Cancelled,
    /// The program was interrupted meanwhile, and the call was cancelled. The message may still be handled, as above.
    Interrupted,
    /// It would have blocked a thread of an async executor: await it. Nothing was sent. See
    /// [`Options::blocking_in_executor`](crate::Options::blocking_in_executor).
    InExecutor,
}

impl CallError {
    pub(crate) fn cut_short(why: CutShort) -> Self {
        match why {
            CutShort::Cancelled => Self::Cancelled,
            CutShort::Interrupted => Self::Interrupted,
            CutShort::InExecutor => Self::InExecutor,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("mailbox is full"),
            Self::Timeout => f.write_str("no reply within the limit"),
            Self::Stopped(exit) => write!(f, "processor has ended before it replied ({exit})"),
            Self::Dropped => f.write_str("message was dropped before it was handled"),
            Self::NoReply => f.write_str("reply token was let go without a reply"),
            Self::Faulted(fault) => write!(f, "handler failed: {fault}"),
            Self::Panicked(message) => write!(f, "handler panicked: {message}"),
            Self::Restarted => f.write_str("processor was restarted before it replied"),
            Self::Cancelled => f.write_str("call was cancelled"),
            Self::Interrupted => f.write_str("program was interrupted"),
            Self::InExecutor => {
                f.write_str("refused to block a thread of an async executor; await it")
            }
            Self::Deadlock(names) => {
                write!(f, "waiting would never end: {}", InCircle(names))
            }
        }
    }
}

/// Names as `a -> b -> a`.
pub(crate) struct InCircle<'a>(pub(crate) &'a [Name]);

impl fmt::Display for InCircle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in self.0 {
            write!(f, "{name} -> ")?;
        }
        self.0.first().map_or(Ok(()), |first| write!(f, "{first}"))
    }
}

impl StdError for CallError {}

/// Why a processor was not spawned.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// The name is not a valid one.
    Name(NameError),
    /// A living processor or driver of this node has the name.
    NameTaken(Name),
    /// The driver or the node has ended, or is ending.
    Closed(Name),
    /// The mailbox was asked for with this impossible capacity.
    Capacity(Name, usize),
    /// The mailbox was asked for with this policy, which only subscriptions have.
    Policy(Name, WhenFull),
    /// The system gave no thread.
    Thread(Name, std::io::Error),
    /// It was to stay on the thread of a driver that has none to stay on: the pool of the second name, whose processors go
    /// from thread to thread. Spawn it on the pool itself, which takes what is `Send`.
    OnPool(Name, Name),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "cannot spawn a processor: {error}"),
            Self::NameTaken(name) => write!(f, "cannot spawn {name:?}: the name is taken"),
            Self::Closed(name) => write!(f, "cannot spawn {name:?}: its driver has ended"),
            Self::Capacity(name, n) => write!(
                f,
                "cannot spawn {name:?}: a mailbox needs a capacity of at least 1, not {n}"
            ),
            Self::Policy(name, when_full) => write!(
                f,
                "cannot spawn {name:?}: `{when_full:?}` is for subscriptions, not for mailboxes"
            ),
            Self::Thread(name, _) => write!(f, "cannot spawn {name:?}: no thread to be had"),
            Self::OnPool(name, pool) => write!(
                f,
                "cannot spawn {name:?} here: {pool:?} is a pool, and \"here\" is no one thread; spawn it on the pool"
            ),
        }
    }
}

impl StdError for SpawnError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Thread(_, error) => Some(error),
            _ => None,
        }
    }
}

/// What kind of thing went wrong in an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, topic name or pattern is not a valid one.
    InvalidName,
    /// The name belongs to a living processor or driver.
    NameTaken,
    /// Nothing has this name.
    NotFound,
    /// What has this name, or uses this topic, has another type.
    TypeConflict,
    /// A setting has a value that cannot be used: a capacity of 0, a nonsense environment variable.
    InvalidSetting,
    /// The node, driver, processor or subscription has ended.
    Closed,
    /// The node belongs to the process that this one was forked from. Make one here, or use `exec`. What the parent has is as it was.
    Forked,
    /// It did not happen within its limit.
    Timeout,
    /// Waiting could never end, or would be done by the thread that must do the work.
    Deadlock,
    /// The operation is not allowed here and now.
    Refused,
    /// A message or a value could not be delivered.
    NotDelivered,
    /// A call has no reply.
    NoReply,
    /// A value could not be encoded or decoded.
    Codec,
    /// A callback of a script failed and the script's policy is to end.
    Fault,
    /// The program was interrupted while it waited ([`Runtime::interrupt`](crate::Runtime::interrupt), Ctrl-C).
    Interrupted,
    /// The operation was cancelled by whoever had started it.
    Cancelled,
    /// The system refused.
    Io,
}

/// What was being done, to what, and why it did not work.
///
/// ```text
/// cannot publish to topic "camera": the topic has type u8, not i64
/// ```
pub struct Error {
    kind: ErrorKind,
    text: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `text`: lower case, without a full stop.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }

    /// The same, with the error that caused it.
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of thing went wrong, for code that acts on it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What `main` prints when it returns an error: the text and its causes.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        let mut next = self.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|e| &**e as _)
    }
}

impl<M> From<TrySendError<M>> for Error {
    fn from(error: TrySendError<M>) -> Self {
        let kind = match error {
            TrySendError::Full(_) => ErrorKind::NotDelivered,
            TrySendError::Closed(_) => ErrorKind::Closed,
        };
        Self::new(kind, error.to_string())
    }
}

impl<M> From<SendError<M>> for Error {
    fn from(error: SendError<M>) -> Self {
        let kind = match error {
            SendError::Full(_) => ErrorKind::NotDelivered,
            SendError::Timeout(_) => ErrorKind::Timeout,
            SendError::Closed(_) => ErrorKind::Closed,
            SendError::Deadlock(_) => ErrorKind::Deadlock,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ReserveError> for Error {
    fn from(error: ReserveError) -> Self {
        let kind = match error {
            ReserveError::Full => ErrorKind::NotDelivered,
            ReserveError::Timeout => ErrorKind::Timeout,
            ReserveError::Closed => ErrorKind::Closed,
            ReserveError::Deadlock => ErrorKind::Deadlock,
            ReserveError::Cancelled => ErrorKind::Cancelled,
            ReserveError::Interrupted => ErrorKind::Interrupted,
            ReserveError::InExecutor => ErrorKind::Refused,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let kind = match error {
            CallError::Timeout => ErrorKind::Timeout,
            CallError::Stopped(_) => ErrorKind::Closed,
            CallError::Deadlock(_) => ErrorKind::Deadlock,
            CallError::Cancelled => ErrorKind::Cancelled,
            CallError::Interrupted => ErrorKind::Interrupted,
            CallError::InExecutor => ErrorKind::Refused,
            _ => ErrorKind::NoReply,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SpawnError> for Error {
    fn from(error: SpawnError) -> Self {
        let kind = match error {
            SpawnError::Name(_) => ErrorKind::InvalidName,
            SpawnError::NameTaken(_) => ErrorKind::NameTaken,
            SpawnError::Closed(_) => ErrorKind::Closed,
            SpawnError::Capacity(..) | SpawnError::Policy(..) => ErrorKind::InvalidSetting,
            SpawnError::Thread(..) => ErrorKind::Io,
            SpawnError::OnPool(..) => ErrorKind::Refused,
        };
        let text = error.to_string();
        match error {
            SpawnError::Thread(_, source) => Self::new(kind, text).with_source(source),
            _ => Self::new(kind, text),
        }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::new(ErrorKind::InvalidName, error.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, error.to_string()).with_source(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new(ErrorKind::Fault, fault.to_string())
    }
}

/// A message is never printed: it need not be `Debug`, and a log line should not hold a payload.
macro_rules! message_error {
    ($($name:ident),*) => {$(
        impl<M> fmt::Debug for $name<M> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(..)", self.text().0)
            }
        }

        impl<M> fmt::Display for $name<M> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text().1)
            }
        }

        impl<M> StdError for $name<M> {}
    )*};
}

message_error!(TrySendError, SendError);
