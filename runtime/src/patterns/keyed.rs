//! Processors that are made at their first use, one for each key, and end when they have been idle.
//!
//! There is no table: the registry is the node's names. The processor of a key is called `prefix/key`, and whoever finds
//! nobody of that name makes it. Two that do so at one moment are decided by the name, which one of them gets.
//!
//! # The end, and who sends meanwhile
//!
//! | the old processor                   | its name | a message                                        | the next use           |
//! |-------------------------------------|----------|--------------------------------------------------|------------------------|
//! | is idle, but something waits for it | taken    | is handled                                       | finds it               |
//! | closes: nothing waits for it        | taken    | comes before and keeps it, or comes back         | waits for its end      |
//! | runs `stopped`                      | taken    | comes back                                       | waits for its end      |
//! | has ended                           | free     | comes back                                       | makes a new one        |
//!
//! Who waits for the end waits for the *name*: a processor says that it has ended a moment before its name is free. Whoever spawns
//! one here watches it from the beginning, and is told when the name is free; that wakes all who wait for any ([`Freed`]).
//!
//! "Nothing waits" and "closes" are one step under the mailbox's lock (`cell/retire.rs`). So an old processor has handled all
//! that it was sent before a new one of the same key is made: of one key there are never two at once, and order is kept.

use crate::address::Address;
use crate::context::Cx;
use crate::driver::{Driver, Pool};
use crate::ended::next_watch;
use crate::error::{Error, ErrorKind, SendError, SpawnError};
use crate::mailbox::MailboxOptions;
use crate::name::Name;
use crate::processor::{Handle, Processor};
use crate::runtime::Runtime;
use crate::sync::Mutex;
use crate::timers::{TimerId, Timers};
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

/// Processors by key: made at the first use, found by later ones, ended when they have been idle. Cheap to clone;
/// `Send + Sync`. Made by [`Runtime::keyed`].
pub struct Keyed<P> {
    runtime: Runtime,
    prefix: Arc<str>,
    idle: Duration,
    place: Place,
    mailbox: MailboxOptions,
    of: std::marker::PhantomData<fn() -> P>,
}

#[derive(Clone)]
enum Place {
    DefaultPool,
    Pool(Pool),
    Driver(Driver),
}

/// How often one begins anew because others were faster, or the processor has just ended. Each time somebody has got on.
const TRIES: u32 = 1000;

/// Those who wait for a name, of all keyed processors of a node.
#[derive(Default)]
struct Freed(Mutex<Vec<Waker>>);

impl Freed {
    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn wake_later(&self, waker: &Waker) {
        let waker = waker.clone();
        self.0.lock().push(waker);
    }
}

/// Why [`Keyed::send`] did not queue the message, which it hands back.
#[must_use]
pub enum KeyedError<M> {
    /// There was no processor of this key, and none could be made.
    Spawn(SpawnError, M),
    /// The processor did not take it.
    Send(SendError<M>),
}

impl<M> KeyedError<M> {
    /// The message that was not sent.
    pub fn into_inner(self) -> M {
        match self {
            Self::Spawn(_, message) => message,
            Self::Send(error) => error.into_inner(),
        }
    }
}

// Written by hand so that `M` need not be `Debug`, and so that a log line never holds a payload.
impl<M> fmt::Debug for KeyedError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(error, _) => write!(f, "Spawn({error:?}, ..)"),
            Self::Send(error) => write!(f, "Send({error:?})"),
        }
    }
}

impl<M> fmt::Display for KeyedError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(error, _) => write!(f, "{error}"),
            Self::Send(error) => write!(f, "{error}"),
        }
    }
}

impl<M> StdError for KeyedError<M> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Spawn(error, _) => error.source(),
            Self::Send(_) => None,
        }
    }
}

impl Runtime {
    /// Processors by key, called `prefix/key`, on the node's default pool. One that was given nothing to do for `idle` ends by
    /// itself; see [`Keyed::get_or_spawn`].
    pub fn keyed<P: Processor + Send>(&self, prefix: &str, idle: Duration) -> Keyed<P> {
        Keyed {
            runtime: self.without_guard(),
            prefix: prefix.into(),
            idle,
            place: Place::DefaultPool,
            mailbox: MailboxOptions::default(),
            of: std::marker::PhantomData,
        }
    }
}

impl<P: Processor + Send> Keyed<P> {
    /// New ones are spawned on this pool.
    pub fn on_pool(mut self, pool: &Pool) -> Self {
        self.place = Place::Pool(pool.clone());
        self
    }

    /// New ones are spawned on this driver.
    pub fn on_driver(mut self, driver: &Driver) -> Self {
        self.place = Place::Driver(driver.clone());
        self
    }

    /// New ones have such a mailbox.
    pub fn mailbox(mut self, options: MailboxOptions) -> Self {
        self.mailbox = options;
        self
    }

    /// The living processor of `key`, if there is one. Makes none.
    pub fn find(&self, key: impl fmt::Display) -> Option<Address<P>> {
        let found = self.runtime.lookup::<P>(&self.name(&key)).ok();
        found.filter(|address| !address.is_closed())
    }

    /// The processor of `key`. If there is none, `make` is called and the processor that it returns is spawned as
    /// `prefix/key`.
    ///
    /// The processor ends by itself, in order, when no message and no sample came for the idle time and nothing waits for it: no
    /// message, queued or [set aside](Cx::stash), no [permit](Address::reserve), no continuation. A reply that it has promised
    /// for later does not keep it. No message is lost by that end: one that comes before keeps the processor, one that comes
    /// after is given back ([`SendError::Closed`]), and so is one sent by an old address; [`send`](Self::send) gives it to a new
    /// processor instead. A call then ends with [`CallError::Stopped`](crate::CallError::Stopped).
    ///
    /// `make` runs without a lock. If two threads are the first at one moment, both make one, and one of the two is dropped
    /// unused. Two keys that are displayed alike are the same key.
    ///
    /// # Errors
    ///
    /// As [`Pool::spawn`]; [`SpawnError::NameTaken`] also if a processor of another type, or a driver, has the name, and if the
    /// processor before does not come to its end within the node's limit for sends.
    ///
    /// # Deadlocks
    ///
    /// While the processor before is in its [`stopped`](Processor::stopped), this blocks until it has ended. Inside a handler
    /// that shares its thread it is refused at once with [`SpawnError::NameTaken`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Closure, Runtime, closure};
    /// # use std::time::Duration;
    /// let node = Runtime::simulated(1);
    /// let sessions = node.keyed::<Closure<u64, u64>>("session", Duration::from_secs(60));
    /// let new = || {
    ///     let mut sum = 0;
    ///     closure(move |n: u64, _cx| {
    ///         sum += n;
    ///         Ok::<_, std::fmt::Error>(sum)
    ///     })
    /// };
    /// sessions.get_or_spawn("ada", new)?.send(2)?;
    /// let ada = sessions.get_or_spawn("ada", new)?; // the same
    /// assert_eq!(ada.call(3).wait()?, 5);
    /// assert_eq!(ada.name().as_str(), "session/ada");
    ///
    /// node.advance(Duration::from_secs(61)); // virtual: takes no time
    /// assert!(sessions.find("ada").is_none());
    /// assert_eq!(sessions.get_or_spawn("ada", new)?.call(3).wait()?, 3); // another
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn get_or_spawn(
        &self,
        key: impl fmt::Display,
        mut make: impl FnMut() -> P,
    ) -> Result<Address<P>, SpawnError> {
        let name = self.name(&key);
        let taken = |name: &str| match Name::new(name) {
            Ok(name) => SpawnError::NameTaken(name),
            Err(error) => SpawnError::Name(error),
        };
        for _ in 0..TRIES {
            match self.runtime.lookup::<P>(&name) {
                Ok(address) if !address.is_closed() => return Ok(address),
                Ok(address) if self.wait_for_the_end(&name, &address) => {}
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    match self.spawn(&name, make()) {
                        Ok(address) => return Ok(address),
                        // Somebody was faster.
                        Err(SpawnError::NameTaken(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(_) => break,
            }
        }
        Err(taken(&name))
    }

    /// Sends `message` to the processor of `key`, made by `make` if there is none. If that one ends before it has taken the
    /// message, another gets it; not if it ended by a fault or a panic.
    ///
    /// # Errors
    ///
    /// [`KeyedError`], with the message.
    ///
    /// # Deadlocks
    ///
    /// As [`get_or_spawn`](Self::get_or_spawn) and [`Address::send`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Closure, Runtime, closure};
    /// # use std::time::Duration;
    /// let node = Runtime::simulated(1);
    /// let logs = node.keyed::<Closure<String, ()>>("log", Duration::from_secs(1));
    /// for user in [7, 8, 7] {
    ///     logs.send(user, "hello".to_owned(), || closure(|line: String, _cx| println!("{line}")))?;
    /// }
    /// assert_eq!(logs.find(7).map(|log| log.snapshot().received), Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send<M: Send + 'static>(
        &self,
        key: impl fmt::Display,
        mut message: M,
        mut make: impl FnMut() -> P,
    ) -> Result<(), KeyedError<M>>
    where
        P: Handle<M>,
    {
        for _ in 0..TRIES {
            let address = match self.get_or_spawn(&key, &mut make) {
                Ok(address) => address,
                Err(error) => return Err(KeyedError::Spawn(error, message)),
            };
            match address.send_within(message, None) {
                Ok(()) => return Ok(()),
                Err(SendError::Closed(m)) => {
                    message = m;
                    if address.exit().is_some_and(|exit| !exit.is_orderly()) {
                        // It failed, and the next might do the same.
                        break;
                    }
                }
                Err(error) => return Err(KeyedError::Send(error)),
            }
        }
        Err(KeyedError::Send(SendError::Closed(message)))
    }

    fn name(&self, key: &impl fmt::Display) -> String {
        format!("{}/{key}", self.prefix)
    }

    fn spawn(&self, name: &str, processor: P) -> Result<Address<P>, SpawnError> {
        let address = match &self.place {
            Place::DefaultPool => self.runtime.spawn_with(name, self.mailbox, processor),
            Place::Pool(pool) => pool.spawn_with(name, self.mailbox, processor),
            Place::Driver(driver) => driver.spawn_with(name, self.mailbox, processor),
        }?;
        let idle = self.idle;
        let freed = self.freed();
        address.watch_with(next_watch(), Box::new(move |_| freed.wake()));
        // It may have ended already: then there is nothing to end.
        let _ended: Result<(), Error> =
            address.with_processor(move |_, cx| end_when_idle(cx, idle));
        Ok(address)
    }

    fn freed(&self) -> Arc<Freed> {
        self.runtime.extension(Freed::default)
    }

    /// Waits until the processor, which is closed, has left its name. False if it did not in time, or cannot while this thread
    /// waits.
    fn wait_for_the_end(&self, name: &str, address: &Address<P>) -> bool {
        if address.only_here() && self.runtime.in_handler() && address.exit().is_none() {
            return false;
        }
        let freed = self.freed();
        // For one that was spawned by somebody else.
        let (watch, told) = (next_watch(), freed.clone());
        address.watch_with(watch, Box::new(move |_| told.wake()));
        let limit = self.runtime.options().wait_limit();
        let deadline = self.runtime.now().checked_add(limit);
        let has_ended = self.runtime.block_until(deadline, |waker| {
            // First the waker, then the look: a name that becomes free in between wakes.
            freed.wake_later(waker);
            let found = self.runtime.lookup::<P>(name);
            (!found.is_ok_and(|found| found == *address)).then_some(())
        });
        address.unwatch(watch);
        has_ended.is_some()
    }
}

/// Ends the processor when it has been idle for so long.
fn end_when_idle<P: Processor>(cx: &mut Cx<'_, P>, idle: Duration) {
    // The timer's call needs the timer's id, which there is only when it was given the call.
    let timer = Arc::new(OnceLock::<TimerId>::new());
    let its_id = timer.clone();
    let (cell, local) = cx.parts();
    let id = Timers::add_silence(
        cell,
        local,
        idle,
        Box::new(move |_, _, cx| {
            let (cell, local) = cx.parts();
            if !cell.retire_if_idle(local)
                && let Some(id) = its_id.get()
            {
                // Something waits for it that is no message yet: the silence begins anew.
                cx.reset(*id);
            }
        }),
    );
    let _first = timer.set(id);
}

impl<P> Clone for Keyed<P> {
    fn clone(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            prefix: self.prefix.clone(),
            idle: self.idle,
            place: self.place.clone(),
            mailbox: self.mailbox,
            of: std::marker::PhantomData,
        }
    }
}

impl<P> fmt::Debug for Keyed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("prefix", &self.prefix)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}
