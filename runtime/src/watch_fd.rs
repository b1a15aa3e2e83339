//! Other people's file descriptors, watched for a processor: it gets one message for each time one is ready.
//!
//! One thread per node, `mproc fds`, started at the first use, sleeps in `poll` until a descriptor is ready or the list has
//! changed. A watch is a lane of its processor that holds at most one item.
//!
//! | the watch is | in the thread's list | has an item | leaves by                                       |
//! |--------------|----------------------|-------------|-------------------------------------------------|
//! | armed        | yes                  | no          | the descriptor is ready, or the watch ends      |
//! | fired        | no                   | yes         | its processor takes the item, or the watch ends |
//! | handled      | no                   | no          | the handler has returned, or has panicked       |
//!
//! From *handled* it is armed again. So a descriptor that stays ready gives one message after another, never two at once, and
//! one that nobody reads from costs no more than its handler.

use crate::context::Cx;
use crate::descriptor::{Interest, Level, wait};
use crate::error::{Error, ErrorKind};
use crate::hook::{self, Cause};
use crate::lane::{LaneBell, LaneSource};
use crate::mailbox::LaneId;
use crate::processor::{Handle, Processor};
use crate::runtime::RuntimeCore;
use crate::sync::Mutex;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

type WatchedFd = Box<dyn AsFd + Send + Sync>;

/// Which descriptor is watched, to end it: see [`Cx::watch_fd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdWatch(LaneId);

/// One descriptor. The lane and, while it is armed, the thread's list hold it.
struct Watch {
    fd: WatchedFd,
    interest: Interest,
    bell: LaneBell,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    /// What it is ready for, with the arrival number.
    found: Option<(Interest, u64)>,
    /// The processor was told, and has not found it empty since.
    rung: bool,
}

impl Watch {
    /// It is ready. With no lock held.
    fn fire(&self, found: Interest) {
        let was_rung = {
            let mut state = self.state.lock();
            state.found = Some((found, self.bell.next_arrival().unwrap_or(0)));
            std::mem::replace(&mut state.rung, true)
        };
        if !was_rung {
            self.bell.ring();
        }
    }
}

/// The node's thread, once it runs. Kept by the node.
#[derive(Default)]
struct Watchers {
    list: Mutex<Option<Arc<List>>>,
}

/// What is watched, and how to tell the thread that it has changed.
struct List {
    wake: Level,
    state: Mutex<ListState>,
}

#[derive(Default)]
struct ListState {
    armed: Vec<Arc<Watch>>,
    /// `wake` is raised.
    is_awake: bool,
    is_over: bool,
}

impl Watchers {
    fn list(&self, runtime: &RuntimeCore) -> Result<Arc<List>, Error> {
        let mut kept = self.list.lock();
        if let Some(list) = &*kept {
            return Ok(list.clone());
        }
        let started = List::start(runtime).map_err(|error| {
            let text =
                "cannot watch a descriptor: the system gives no thread, or no descriptor for it";
            Error::new(ErrorKind::Io, text).with_source(error)
        })?;
        Ok(kept.insert(started).clone())
    }
}

/// The node has ended.
impl Drop for Watchers {
    fn drop(&mut self) {
        if let Some(list) = self.list.lock().take() {
            let _armed = list.change(|state| {
                state.is_over = true;
                std::mem::take(&mut state.armed)
            });
        }
    }
}

impl List {
    fn start(runtime: &RuntimeCore) -> std::io::Result<Arc<Self>> {
        let list = Arc::new(Self {
            wake: Level::new()?,
            state: Mutex::new(ListState::default()),
        });
        let theirs = list.clone();
        // It leaves when the node lets go of it.
        let _thread = runtime.world.spawn("mproc fds", move || theirs.run())?;
        Ok(list)
    }

    /// What is returned is to be dropped with no lock held: it may hold the last reference to somebody's descriptor.
    fn change<T>(&self, change: impl FnOnce(&mut ListState) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        if !std::mem::replace(&mut state.is_awake, true) {
            self.wake.raise();
        }
        result
    }

    fn arm(&self, watch: &Arc<Watch>) {
        self.change(|state| {
            if !state.is_over {
                state.armed.push(watch.clone());
            }
        });
    }

    fn disarm(&self, watch: &Arc<Watch>) {
        let _armed = self.change(|state| {
            let at = state.armed.iter().position(|w| Arc::ptr_eq(w, watch));
            at.map(|at| state.armed.swap_remove(at))
        });
    }

    fn run(&self) {
        loop {
            let armed = {
                let mut state = self.state.lock();
                if std::mem::take(&mut state.is_awake) {
                    self.wake.lower();
                }
                if state.is_over {
                    return;
                }
                state.armed.clone()
            };
            let fds: Vec<_> = armed.iter().map(|w| (w.fd.as_fd(), w.interest)).collect();
            let found = match wait(&self.wake, &fds) {
                Ok(found) => found,
                Err(error) => {
                    // Each handler that uses its descriptor finds out what is wrong with it.
                    hook::remote(&format!("cannot watch {} descriptors: {error}", fds.len()));
                    fds.iter().map(|(_, interest)| Some(*interest)).collect()
                }
            };
            drop(fds);
            for (watch, found) in armed.iter().zip(found) {
                if let Some(found) = found
                    && self.take(watch)
                {
                    watch.fire(found);
                }
            }
        }
    }

    /// Takes it out of the list. False if it is not there any more.
    fn take(&self, watch: &Arc<Watch>) -> bool {
        let taken = {
            let armed = &mut self.state.lock().armed;
            let at = armed.iter().position(|w| Arc::ptr_eq(w, watch));
            at.map(|at| armed.swap_remove(at))
        };
        taken.is_some()
    }
}

/// The receiving half.
struct WatchLane<F> {
    watch: Option<Arc<Watch>>,
    list: Arc<List>,
    call: F,
    is_draining: bool,
}

/// When the handler has returned, or has panicked, the descriptor is watched again.
struct Handled<'a> {
    list: &'a List,
    watch: &'a Arc<Watch>,
    is_last: bool,
}

impl Drop for Handled<'_> {
    fn drop(&mut self) {
        if !self.is_last {
            self.list.arm(self.watch);
        }
    }
}

impl<P, F> LaneSource<P> for WatchLane<F>
where
    P: Processor,
    F: FnMut(&mut P, Interest, &mut Cx<'_, P>) + 'static,
{
    fn serve(&mut self, processor: &mut P, cx: &mut Cx<'_, P>) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        let found = {
            let mut state = watch.state.lock();
            let found = state.found.take();
            state.rung = found.is_some();
            found
        };
        let Some((found, _)) = found else {
            return false;
        };
        let _handled = Handled {
            list: &self.list,
            watch,
            is_last: self.is_draining,
        };
        let _span = hook::handling(cx.name(), "file descriptor", Cause::none());
        (self.call)(processor, found, cx);
        true
    }

    fn rest(&mut self) -> bool {
        let Some(watch) = &self.watch else {
            return true;
        };
        let mut state = watch.state.lock();
        if state.found.is_none() {
            state.rung = false;
        }
        !state.rung
    }

    fn head(&self) -> Option<u64> {
        let state = self.watch.as_ref()?.state.lock();
        state.found.map(|(_, arrival)| arrival)
    }

    fn item_type(&self) -> fn() -> &'static str {
        || "file descriptor"
    }

    fn drain(&mut self) {
        self.is_draining = true;
        if let Some(watch) = &self.watch {
            self.list.disarm(watch);
        }
    }

    fn end(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.list.disarm(&watch);
        }
    }
}

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Sends the processor itself what `make` returns whenever `fd` is ready for what `interest` says: one message for each
    /// time, by level. While a message is on its way, or handled, none follows; if the descriptor is still ready when the
    /// handler returns, the next comes. So a handler may read as little as it likes, and need not read until nothing is left.
    ///
    /// `make` is told what the descriptor is ready for. A hang-up and an error count as all of `interest`: reading or writing
    /// then says what has happened, and the watch should be ended, or the messages go on.
    ///
    /// `fd` is kept until the watch ends, by [`unwatch_fd`](Self::unwatch_fd) or with the processor, and closed soon after
    /// that if it was the last owner. What must read from it too shares it: give an `Arc<TcpStream>`, and keep a clone. It
    /// should be in non-blocking mode, since *ready* is a thing of the past by the time the message is handled.
    ///
    /// The node has one thread that sleeps until one of all these descriptors is ready. It works on every driver.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] on a simulated node, which nothing reaches from outside; [`ErrorKind::Closed`] if the node is
    /// ending; [`ErrorKind::Io`] if the system gives no thread or descriptor.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_runtime::{Cx, Handle, Interest, Outcome, Processor, Runtime};
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use std::sync::{Arc, mpsc};
    ///
    /// struct Reader { socket: Arc<UnixStream>, heard: mpsc::Sender<u8> }
    /// struct Readable;
    /// impl Processor for Reader {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         cx.watch_fd(self.socket.clone(), Interest::READ, |_ready| Readable)?;
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Readable> for Reader {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Readable, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         let mut byte = [0];
    ///         match (&*self.socket).read(&mut byte)? {
    ///             0 => cx.stop(), // the other end is closed
    ///             _ => self.heard.send(byte[0])?,
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (near, mut far) = UnixStream::pair()?;
    /// near.set_nonblocking(true)?;
    /// let (heard, hears) = mpsc::channel();
    /// let node = Runtime::new()?;
    /// let reader = node.spawn_thread("reader", Reader { socket: Arc::new(near), heard })?;
    /// far.write_all(b"abc")?;
    /// drop(far);
    /// reader.ended().wait()?;
    /// assert_eq!(hears.try_iter().collect::<Vec<_>>(), b"abc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch_fd<M: 'static>(
        &mut self,
        fd: impl AsFd + Send + Sync + 'static,
        interest: Interest,
        mut make: impl FnMut(Interest) -> M + Send + 'static,
    ) -> Result<FdWatch, Error>
    where
        P: Handle<M>,
    {
        self.watch_fd_with(fd, interest, move |me, ready, cx| {
            cx.handle_now(me, make(ready))
        })
    }

    /// As [`watch_fd`](Self::watch_fd), with something to do in place of a message.
    ///
    /// # Errors
    ///
    /// As [`watch_fd`](Self::watch_fd).
    pub fn watch_fd_with(
        &mut self,
        fd: impl AsFd + Send + Sync + 'static,
        interest: Interest,
        call: impl FnMut(&mut P, Interest, &mut Cx<'_, P>) + Send + 'static,
    ) -> Result<FdWatch, Error> {
        let list = self.watchers()?;
        let mut added = None;
        let id = self.add_lane(|bell| {
            let lane = WatchLane::new(fd, interest, call, bell, list);
            added = lane.watch.clone().map(|watch| (lane.list.clone(), watch));
            Box::new(lane)
        });
        if let Some((list, watch)) = added {
            list.arm(&watch);
        }
        Ok(FdWatch(id))
    }

    /// As [`watch_fd_with`](Self::watch_fd_with), for a closure that is not `Send`. Not on a pool.
    ///
    /// # Errors
    ///
    /// As [`watch_fd`](Self::watch_fd), and [`ErrorKind::Refused`] if the processor runs on a pool.
    pub fn watch_fd_with_local(
        &mut self,
        fd: impl AsFd + Send + Sync + 'static,
        interest: Interest,
        call: impl FnMut(&mut P, Interest, &mut Cx<'_, P>) + 'static,
    ) -> Result<FdWatch, Error> {
        let list = self.watchers()?;
        let mut added = None;
        let id = self.add_lane_local(|bell| {
            let lane = WatchLane::new(fd, interest, call, bell, list);
            added = lane.watch.clone().map(|watch| (lane.list.clone(), watch));
            Box::new(lane)
        })?;
        if let Some((list, watch)) = added {
            list.arm(&watch);
        }
        Ok(FdWatch(id))
    }

    /// Ends a watch: no message comes of it any more, also if one was on its way. Ending it twice is harmless.
    pub fn unwatch_fd(&mut self, watch: FdWatch) {
        self.remove_lane(watch.0);
    }

    fn watchers(&self) -> Result<Arc<List>, Error> {
        let runtime = self.runtime();
        if runtime.is_simulated() {
            let text =
                "cannot watch a descriptor on a simulated node: nothing reaches it from outside";
            return Err(Error::new(ErrorKind::Refused, text));
        }
        if runtime.is_ending() {
            let text = "cannot watch a descriptor: the node is ending";
            return Err(Error::new(ErrorKind::Closed, text));
        }
        let watchers = runtime.extension(Watchers::default);
        watchers.list(runtime.core())
    }
}

impl<F> WatchLane<F> {
    fn new(
        fd: impl AsFd + Send + Sync + 'static,
        interest: Interest,
        call: F,
        bell: LaneBell,
        list: Arc<List>,
    ) -> Self {
        let watch = Watch {
            fd: Box::new(fd),
            interest,
            bell,
            state: Mutex::new(WatchState::default()),
        };
        Self {
            watch: Some(Arc::new(watch)),
            list,
            call,
            is_draining: false,
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watchers")
    }
}
