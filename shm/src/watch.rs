//! One thread that waits for sockets, pidfds and the directory, and calls back.
//!
//! # One turn
//!
//! 1. Take what others asked for (under the lock), and do it (without).
//! 2. Poll the bell and each source that does not rest, until the first deadline.
//! 3. Call each source that is ready, whose process is gone, or that is late, in the order in which they were added.
//!
//! `poll` rather than `epoll`: a set of descriptors kept in the kernel would be shared with a forked child, and a node
//! has few peers. No lock is held during a call back, so a source may add and remove others.
//!
//! # Panics
//!
//! A source that panics is dropped and told of; the thread goes on with the others. Should the thread itself be unable
//! to go on, that is told too, and from then on every use of the handle answers [`WatchEnded`] with the reason: nothing
//! stalls silently.

use crate::fork::Forked;
use crate::process::Process;
use crate::sys::Alarm;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// Why a source is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its descriptor can be read, or written if that was wanted; or the other end is closed. Try, and see.
    Ready,
    /// Its process is gone. This is said once.
    Ended,
    /// Its deadline has passed.
    Late,
}

/// What becomes of a source after it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is called again when something happens.
    Keep,
    /// It is not called before this time, whatever happens.
    RestUntil(Instant),
    /// It is dropped.
    Drop,
}

/// Something with a descriptor to wait for. It belongs to the thread of its [`Watch`] and is dropped there.
pub trait Source: Send + 'static {
    /// What to wait for, if anything just now.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Whose end to wait for besides. Always the same one.
    fn process(&self) -> Option<&Process> {
        None
    }

    /// True while it waits to write, too.
    fn wants_to_write(&self) -> bool {
        false
    }

    /// When it wants to be called although nothing happens. It is called in every turn from then on, so change it when it
    /// has passed.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Something has happened. It should not wait for anything: all others wait meanwhile.
    fn on_event(&mut self, event: Event, now: Instant, watch: &WatchHandle) -> Next;
}

/// Names a source of a [`Watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

/// The thread does not run any more, or not here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEnded {
    /// It ended in order.
    Ended,
    /// It could not go on, for this reason.
    Failed(Arc<str>),
    /// It runs in the process from which this one was forked.
    Forked,
}

impl fmt::Display for WatchEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the watch has ended"),
            Self::Failed(reason) => write!(f, "the watch could not go on: {reason}"),
            Self::Forked => write!(f, "{Forked}"),
        }
    }
}

impl std::error::Error for WatchEnded {}

/// Told of each panic of a source, with the source's name and the panic's message, and of the thread's own failure.
type OnFault = Box<dyn Fn(&str, &str) + Send>;

enum Wish {
    Add(Entry),
    Remove(Token),
}

#[derive(Clone)]
enum State {
    Running,
    Ending,
    Ended(WatchEnded),
}

struct Inbox {
    wishes: Vec<Wish>,
    state: State,
    next_token: u64,
}

struct Shared {
    inbox: Mutex<Inbox>,
    /// Readable when there is something in the inbox.
    bell: Alarm,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // No code of others runs under the lock.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.bell.ring();
    }
}

/// Adds and removes sources of a [`Watch`], from any thread.
#[derive(Clone)]
pub struct WatchHandle {
    shared: Arc<Shared>,
}

impl WatchHandle {
    /// Adds a source, whose name is used to tell of its panic.
    ///
    /// # Errors
    ///
    /// [`WatchEnded`]; the source is dropped.
    pub fn add(&self, name: &str, source: impl Source) -> Result<Token, WatchEnded> {
        let source: Box<dyn Source> = Box::new(source);
        let name = name.into();
        self.check_here()?;
        let mut inbox = self.shared.lock();
        if let State::Ended(why) = &inbox.state {
            let why = why.clone();
            // The source goes first, and the lock before it.
            drop(inbox);
            return Err(why);
        }
        inbox.next_token += 1;
        let token = Token(inbox.next_token);
        inbox.wishes.push(Wish::Add(Entry {
            token,
            name,
            source,
            rests_until: None,
            is_ended: false,
        }));
        drop(inbox);
        self.shared.ring();
        Ok(token)
    }

    /// Drops a source soon, on the watch's thread. It may be called once more before that.
    ///
    /// # Errors
    ///
    /// [`WatchEnded`]; then all sources are dropped anyway.
    pub fn remove(&self, token: Token) -> Result<(), WatchEnded> {
        self.check_here()?;
        let mut inbox = self.shared.lock();
        if let State::Ended(why) = &inbox.state {
            return Err(why.clone());
        }
        inbox.wishes.push(Wish::Remove(token));
        drop(inbox);
        self.shared.ring();
        Ok(())
    }

    /// Lets the thread look at all deadlines again, where one was changed from outside.
    pub fn wake(&self) {
        if self.check_here().is_ok() {
            self.shared.ring();
        }
    }

    /// Why the thread does not run any more; none while it does.
    pub fn ended(&self) -> Option<WatchEnded> {
        if let Err(why) = self.check_here() {
            return Some(why);
        }
        match &self.shared.lock().state {
            State::Ended(why) => Some(why.clone()),
            State::Running | State::Ending => None,
        }
    }

    /// Before the lock: in a forked child it may be held for ever.
    fn check_here(&self) -> Result<(), WatchEnded> {
        let origin = self.shared.bell.origin();
        origin.check().map_err(|Forked| WatchEnded::Forked)
    }
}

impl fmt::Debug for WatchHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchHandle")
    }
}

/// A thread that waits for [`Source`]s and calls them. It ends, and drops them, when this is dropped.
pub struct Watch {
    handle: WatchHandle,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts the thread. `on_fault` is told, on that thread, the name and the message of each source that panics, and
    /// why the thread itself could not go on (with the thread's name).
    ///
    /// # Errors
    ///
    /// The system gave no thread or no descriptor.
    pub fn start(name: &str, on_fault: impl Fn(&str, &str) + Send + 'static) -> io::Result<Self> {
        let handle = WatchHandle {
            shared: Arc::new(Shared {
                inbox: Mutex::new(Inbox {
                    wishes: Vec::new(),
                    state: State::Running,
                    next_token: 0,
                }),
                bell: Alarm::new()?,
            }),
        };
        let mut room = Room {
            handle: handle.clone(),
            entries: Vec::new(),
            on_fault: Box::new(on_fault),
        };
        let name: Arc<str> = name.into();
        let thread_name = String::from(&*name);
        let run = move || room.run(&name);
        let thread = thread::Builder::new().name(thread_name).spawn(run)?;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }

    /// To add and remove sources.
    pub fn handle(&self) -> &WatchHandle {
        &self.handle
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if self.handle.check_here().is_err() {
            // A child has no such thread; to wait for it or to let go of it would touch memory that is not its any more.
            mem::forget(thread);
            return;
        }
        let mut inbox = self.handle.shared.lock();
        if matches!(inbox.state, State::Running) {
            inbox.state = State::Ending;
        }
        drop(inbox);
        self.handle.shared.ring();
        // A source may own its own watch; the thread cannot wait for itself.
        if thread.thread().id() != thread::current().id() {
            // Its panics are caught, and those in between are told by `ended`.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch(ended: {:?})", self.handle.ended())
    }
}

struct Entry {
    token: Token,
    name: Box<str>,
    source: Box<dyn Source>,
    rests_until: Option<Instant>,
    /// True once it was told that its process is gone: the pidfd stays readable for ever.
    is_ended: bool,
}

impl Entry {
    /// When it is to be called, or looked at again, at the latest.
    fn wakes_at(&self) -> Option<Instant> {
        self.rests_until.or_else(|| self.source.deadline())
    }
}

/// What the thread has for itself.
struct Room {
    handle: WatchHandle,
    entries: Vec<Entry>,
    on_fault: OnFault,
}

impl Room {
    fn run(&mut self, name: &str) {
        // Whatever panics below: nobody waits for a thread that is gone.
        let result = catch_unwind(AssertUnwindSafe(|| self.turns()));
        let why = match result {
            Ok(Ok(())) => WatchEnded::Ended,
            Ok(Err(errno)) => WatchEnded::Failed(format!("poll: {errno}").into()),
            Err(payload) => WatchEnded::Failed(panic_text(&*payload).into()),
        };
        // From here on nothing is added; what was added meanwhile is dropped with the rest.
        let mut inbox = self.handle.shared.lock();
        inbox.state = State::Ended(why.clone());
        let wishes = mem::take(&mut inbox.wishes);
        drop(inbox);
        if let WatchEnded::Failed(reason) = &why {
            self.tell(name, reason);
        }
        for entry in mem::take(&mut self.entries) {
            self.drop_entry(entry);
        }
        for wish in wishes {
            if let Wish::Add(entry) = wish {
                self.drop_entry(entry);
            }
        }
    }

    fn turns(&mut self) -> Result<(), Errno> {
        loop {
            if self.take_wishes() {
                return Ok(());
            }
            let ready = self.poll()?;
            let now = Instant::now();
            let mut ready = ready.into_iter();
            let mut kept = Vec::with_capacity(self.entries.len());
            for mut entry in mem::take(&mut self.entries) {
                let ready = ready.next().unwrap_or_default();
                if self.turn(&mut entry, ready, now) {
                    kept.push(entry);
                } else {
                    self.drop_entry(entry);
                }
            }
            self.entries = kept;
        }
    }

    /// Does what others asked for. True if the end is among it.
    fn take_wishes(&mut self) -> bool {
        let mut inbox = self.handle.shared.lock();
        let wishes = mem::take(&mut inbox.wishes);
        let is_end = matches!(inbox.state, State::Ending);
        drop(inbox);
        for wish in wishes {
            match wish {
                Wish::Add(entry) => self.entries.push(entry),
                Wish::Remove(token) => {
                    let at = self.entries.iter().position(|entry| entry.token == token);
                    if let Some(at) = at {
                        let entry = self.entries.remove(at);
                        self.drop_entry(entry);
                    }
                }
            }
        }
        is_end
    }

    /// Waits. For each entry, in their order: whether its descriptor is ready, and whether its process is gone.
    fn poll(&self) -> Result<Vec<[bool; 2]>, Errno> {
        let now = Instant::now();
        let shared = &self.handle.shared;
        let mut fds = vec![PollFd::new(&shared.bell, PollFlags::IN)];
        for entry in &self.entries {
            let rests = entry.rests_until.is_some_and(|until| until > now);
            let source = &entry.source;
            let flags = if source.wants_to_write() {
                PollFlags::IN | PollFlags::OUT
            } else {
                PollFlags::IN
            };
            // Two places for each. Where there is nothing to wait for, the bell's descriptor stands in with no event.
            let nothing = || PollFd::new(&shared.bell, PollFlags::empty());
            let descriptor = source.descriptor().filter(|_| !rests);
            fds.push(descriptor.map_or_else(nothing, |fd| PollFd::from_borrowed_fd(fd, flags)));
            let process = source.process().filter(|_| !rests && !entry.is_ended);
            fds.push(process.map_or_else(nothing, |process| PollFd::new(process, PollFlags::IN)));
        }
        let first = self.entries.iter().filter_map(Entry::wakes_at).min();
        let timeout = first.map(|at| {
            let wait = at.saturating_duration_since(now);
            Timespec {
                // Longer than the kernel can count is as good as for ever.
                tv_sec: wait.as_secs().min(i32::MAX as u64) as _,
                tv_nsec: wait.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if !fds[0].revents().is_empty() {
            shared.bell.silence();
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let pairs = fds[1..].chunks_exact(2);
        Ok(pairs
            .map(|pair| [is_ready(&pair[0]), is_ready(&pair[1])])
            .collect())
    }

    /// Calls one source for each reason there is. False if it is to be dropped.
    fn turn(&self, entry: &mut Entry, [is_ready, is_gone]: [bool; 2], now: Instant) -> bool {
        if entry.rests_until.is_some_and(|until| until > now) {
            return true;
        }
        entry.rests_until = None;
        let Entry {
            name,
            source,
            rests_until,
            is_ended,
            ..
        } = entry;
        let calls = || {
            // What a process sent before it ended comes before its end.
            let mut next = Next::Keep;
            if is_ready {
                next = source.on_event(Event::Ready, now, &self.handle);
            }
            if is_gone && next == Next::Keep {
                *is_ended = true;
                next = source.on_event(Event::Ended, now, &self.handle);
            }
            let is_late = source.deadline().is_some_and(|at| at <= now);
            if is_late && next == Next::Keep {
                next = source.on_event(Event::Late, now, &self.handle);
            }
            next
        };
        match catch_unwind(AssertUnwindSafe(calls)) {
            Ok(Next::Keep) => true,
            Ok(Next::RestUntil(until)) => {
                *rests_until = Some(until);
                true
            }
            Ok(Next::Drop) => false,
            Err(payload) => {
                self.tell(name, panic_text(&*payload));
                false
            }
        }
    }

    /// A drop is code of others, too.
    fn drop_entry(&self, entry: Entry) {
        let Entry { name, source, .. } = entry;
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(source))) {
            self.tell(&name, panic_text(&*payload));
        }
    }

    fn tell(&self, name: &str, text: &str) {
        // If this panics, the panic hook has been called, and there is nobody else to tell.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.on_fault)(name, text)));
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic without a text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Write, pipe};
    use std::os::fd::AsFd;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(20);

    struct Probe<F> {
        reader: PipeReader,
        deadline: Option<Instant>,
        call: F,
        /// Tells of its drop.
        _dropped: Sender<()>,
    }

    impl<F: FnMut(Event, &WatchHandle) -> Next + Send + 'static> Source for Probe<F> {
        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            Some(self.reader.as_fd())
        }

        fn deadline(&self) -> Option<Instant> {
            self.deadline
        }

        fn on_event(&mut self, event: Event, _: Instant, watch: &WatchHandle) -> Next {
            let next = (self.call)(event, watch);
            if event == Event::Late {
                self.deadline = None;
            }
            next
        }
    }

    fn probe<F>(call: F) -> (Probe<F>, std::io::PipeWriter, Receiver<()>)
    where
        F: FnMut(Event, &WatchHandle) -> Next + Send + 'static,
    {
        let (reader, writer) = pipe().unwrap();
        let (dropped, was_dropped) = channel();
        let probe = Probe {
            reader,
            deadline: None,
            call,
            _dropped: dropped,
        };
        (probe, writer, was_dropped)
    }

    fn quiet() -> Watch {
        Watch::start("watch", |name, text| panic!("{name}: {text}")).unwrap()
    }

    #[test]
    fn ready_source_is_called_and_dropped_when_it_wants() {
        let watch = quiet();
        let (tell, told) = channel();
        let (source, mut writer, dropped) = probe(move |event, _| {
            tell.send(event).unwrap();
            Next::Drop
        });
        watch.handle().add("probe", source).unwrap();
        writer.write_all(b"x").unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok(Event::Ready));
        assert!(
            dropped
                .recv_timeout(LONG)
                .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Disconnected)
        );
        assert!(told.recv().is_err());
    }

    #[test]
    fn late_source_is_called_at_its_deadline() {
        let watch = quiet();
        let (tell, told) = channel();
        let (mut source, _writer, _dropped) = probe(move |event, _| {
            tell.send((event, Instant::now())).unwrap();
            Next::Keep
        });
        let deadline = Instant::now() + Duration::from_millis(30);
        source.deadline = Some(deadline);
        watch.handle().add("probe", source).unwrap();
        let (event, at) = told.recv_timeout(LONG).unwrap();
        assert_eq!(event, Event::Late);
        assert!(at >= deadline);
    }

    #[test]
    fn resting_source_is_not_called_although_it_is_ready() {
        let watch = quiet();
        let (tell, told) = channel();
        let rest = Duration::from_millis(30);
        let (source, mut writer, _dropped) = probe(move |_, _| {
            let now = Instant::now();
            tell.send(now).unwrap();
            Next::RestUntil(now + rest)
        });
        watch.handle().add("probe", source).unwrap();
        writer.write_all(b"x").unwrap();
        let first = told.recv_timeout(LONG).unwrap();
        let second = told.recv_timeout(LONG).unwrap();
        assert!(second >= first + rest);
    }

    #[test]
    fn panic_is_told_and_the_others_go_on() {
        let (tell, told) = channel();
        let watch = Watch::start("watch", move |name, text| {
            tell.send(format!("{name}: {text}")).unwrap();
            panic!("and so does whoever is told");
        });
        let watch = watch.unwrap();
        let (bad, mut bad_writer, bad_dropped) = probe(|_, _| panic!("no {}", "good"));
        watch.handle().add("bad", bad).unwrap();
        bad_writer.write_all(b"x").unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), "bad: no good");
        assert!(bad_dropped.recv().is_err());
        let (called, was_called) = channel();
        let (good, mut writer, _dropped) = probe(move |_, _| {
            called.send(()).unwrap();
            Next::Drop
        });
        watch.handle().add("good", good).unwrap();
        writer.write_all(b"x").unwrap();
        assert!(was_called.recv_timeout(LONG).is_ok());
        assert_eq!(watch.handle().ended(), None);
    }

    #[test]
    fn source_may_add_and_remove_sources() {
        let watch = quiet();
        let (inner, mut inner_writer, inner_dropped) = probe(|_, _| Next::Keep);
        let (outer_tell, outer_told) = channel();
        let mut inner = Some(inner);
        let (outer, mut writer, _dropped) = probe(move |_, watch| {
            let token = watch.add("inner", inner.take().unwrap()).unwrap();
            watch.remove(token).unwrap();
            outer_tell.send(()).unwrap();
            Next::Drop
        });
        inner_writer.write_all(b"x").unwrap();
        watch.handle().add("outer", outer).unwrap();
        writer.write_all(b"x").unwrap();
        outer_told.recv_timeout(LONG).unwrap();
        // Disconnected: it was dropped.
        assert!(inner_dropped.recv().is_err());
    }

    #[test]
    fn end_drops_the_sources_and_later_ones_are_refused() {
        let watch = quiet();
        let handle = watch.handle().clone();
        let (source, _writer, dropped) = probe(|_, _| Next::Keep);
        let token = handle.add("probe", source).unwrap();
        drop(watch);
        assert!(
            dropped
                .try_recv()
                .is_err_and(|e| e == std::sync::mpsc::TryRecvError::Disconnected)
        );
        assert_eq!(handle.ended(), Some(WatchEnded::Ended));
        assert_eq!(handle.remove(token), Err(WatchEnded::Ended));
        let (late, _writer, dropped) = probe(|_, _| Next::Keep);
        assert_eq!(handle.add("late", late), Err(WatchEnded::Ended));
        assert!(dropped.recv().is_err());
    }

    #[test]
    fn source_may_own_its_watch() {
        let watch = quiet();
        let handle = watch.handle().clone();
        let mut watch = Some(watch);
        let (source, mut writer, dropped) = probe(move |_, _| {
            drop(watch.take());
            Next::Keep
        });
        handle.add("owner", source).unwrap();
        writer.write_all(b"x").unwrap();
        assert!(dropped.recv().is_err());
    }

    #[test]
    fn broken_source_does_not_end_the_others_silently() {
        struct Broken;
        impl Source for Broken {
            fn descriptor(&self) -> Option<BorrowedFd<'_>> {
                panic!("no descriptor")
            }
            fn on_event(&mut self, _: Event, _: Instant, _: &WatchHandle) -> Next {
                Next::Keep
            }
        }
        let (tell, told) = channel();
        let watch = Watch::start("watch-7", move |name, text| {
            tell.send(format!("{name}: {text}")).unwrap();
        });
        let watch = watch.unwrap();
        watch.handle().add("broken", Broken).unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), "watch-7: no descriptor");
        let failed = WatchEnded::Failed("no descriptor".into());
        assert_eq!(watch.handle().ended(), Some(failed));
    }
}
