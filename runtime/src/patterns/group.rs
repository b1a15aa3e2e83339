//! Processors that are found together, by the name of their group, and notices of who comes and goes.
//!
//! A group's state is behind one lock. Changes are told to those who watch under that lock, so each of them hears of all
//! changes in the order in which they happened, and of none that its list of members contains already. Telling is a push into
//! the control lane: no code of the user's runs. Whatever may be a last reference is dropped after the lock is released.

use super::broadcast::{BroadcastError, Target, broadcast};
use crate::address::{Address, Told};
use crate::cell::CellRef;
use crate::ended::next_watch;
use crate::error::{Error, ErrorKind};
use crate::exit::Exit;
use crate::hook::Cause;
use crate::id::ProcessorId;
use crate::mailbox::Control;
use crate::name::Name;
use crate::parcel::Envelope;
use crate::processor::{Handle, Processor};
use crate::recipient::Recipient;
use crate::runtime::Runtime;
use crate::sync::Mutex;
use crate::world::World;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The processors that have joined a group and take messages of type `M`. Cheap to clone; `Send + Sync`.
///
/// Members that end leave by themselves. Groups have names of their own: a group may be called like a processor. Made by
/// [`Runtime::group`].
pub struct Group<M: Send + 'static>(Arc<Core<M>>);

struct Core<M: Send + 'static> {
    name: Name,
    world: World,
    send_limit: Duration,
    state: Mutex<State<M>>,
}

struct State<M> {
    members: BTreeMap<ProcessorId, Member<M>>,
    watchers: BTreeMap<ProcessorId, Tell>,
}

struct Member<M> {
    recipient: Recipient<M>,
    target: Arc<dyn Target<M>>,
    /// The number of the watch on its end, and its cell to end that watch with.
    watch: u64,
    cell: CellRef,
}

/// Puts an event into a control lane, and says whether the watcher lives. Its cell comes back, to be dropped without a lock.
type Tell = Box<dyn Fn(GroupEvent) -> (Option<CellRef>, bool) + Send>;

/// The notice to those who watch a group.
#[derive(Clone, Debug)]
pub struct GroupEvent {
    /// Which group.
    pub group: Name,
    /// Whom it is about.
    pub id: ProcessorId,
    /// What that processor is called.
    pub name: Name,
    /// What it did.
    pub change: GroupChange,
}

/// What a processor did with a group.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GroupChange {
    /// It is a member from now on.
    Joined,
    /// It left.
    Left,
    /// It was a member, and has ended.
    Ended(Exit),
}

/// The groups of a node, by name.
#[derive(Default)]
struct Groups(Mutex<Directory>);

#[derive(Default)]
struct Directory {
    groups: BTreeMap<Name, Filed>,
    /// When there are so many, those that nobody uses any more are let go.
    tidy_at: usize,
}

struct Filed {
    /// An `Arc<Core<M>>`.
    core: Arc<dyn Any + Send + Sync>,
    type_name: &'static str,
    is_used: fn(&Arc<dyn Any + Send + Sync>) -> bool,
}

/// Somebody has a handle of it, or is in it, or watches it.
fn is_used<M: Send + 'static>(core: &Arc<dyn Any + Send + Sync>) -> bool {
    // One reference is the directory's own. New ones come from there, under its lock, which the caller holds.
    Arc::strong_count(core) > 1
        || core.downcast_ref::<Core<M>>().is_some_and(|core| {
            let state = core.state.lock();
            !state.members.is_empty() || !state.watchers.is_empty()
        })
}

impl Runtime {
    /// The group called `name`, for messages of type `M`. It is made at the first use, and goes when nobody has a handle of it,
    /// is in it or watches it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`]; [`ErrorKind::TypeConflict`], naming both types, if the group is for another type of message.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let screens = node.group::<&'static str>("screens")?;
    /// for name in ["left", "right"] {
    ///     let screen = node.spawn_thread(name, closure(move |text: &'static str, _cx| println!("{name}: {text}")))?;
    ///     screens.join(&screen);
    /// }
    /// assert_eq!(screens.broadcast(&"hello")?, 2);
    ///
    /// let left = screens.members().remove(0);
    /// node.lookup::<mproc_runtime::Closure<&'static str, ()>>("left")?.stop();
    /// node.settle();
    /// assert_eq!(screens.broadcast(&"one is left")?, 1);
    /// # assert_eq!(left.name().as_str(), "left");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn group<M: Send + 'static>(&self, name: &str) -> Result<Group<M>, Error> {
        let name = Name::new(name)?;
        let groups = self.extension(Groups::default);
        let mut gone = Vec::new();
        let mut directory = groups.0.lock();
        let found = directory.groups.get(&name).map(|filed| {
            let core = filed.core.clone().downcast::<Core<M>>();
            core.map_err(|_| filed.type_name)
        });
        match found {
            Some(Ok(core)) => return Ok(Group(core)),
            Some(Err(is)) => {
                let wanted = std::any::type_name::<M>();
                let text = format!("cannot find group {name:?} for {wanted}: it is for {is}");
                return Err(Error::new(ErrorKind::TypeConflict, text));
            }
            None => {}
        }
        if directory.groups.len() >= directory.tidy_at {
            let all = std::mem::take(&mut directory.groups);
            let (used, unused): (BTreeMap<_, _>, BTreeMap<_, _>) =
                all.into_iter().partition(|(_, f)| (f.is_used)(&f.core));
            directory.groups = used;
            gone.push(unused);
            directory.tidy_at = 2 * directory.groups.len() + 16;
        }
        let core = self.shared();
        let made = Arc::new(Core {
            name: name.clone(),
            world: core.world.clone(),
            send_limit: core.options.send_limit,
            state: Mutex::new(State {
                members: BTreeMap::<_, Member<M>>::new(),
                watchers: BTreeMap::new(),
            }),
        });
        let filed = Filed {
            core: made.clone(),
            type_name: std::any::type_name::<M>(),
            is_used: is_used::<M>,
        };
        directory.groups.insert(name, filed);
        drop(directory);
        drop(gone);
        Ok(Group(made))
    }
}

impl<M: Send + 'static> Group<M> {
    /// What it is called.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The processor is a member from now on, until it leaves or ends. False if it is one already, or has ended.
    pub fn join<P: Handle<M>>(&self, member: &Address<P>) -> bool {
        if member.is_closed() {
            return false;
        }
        let watch = next_watch();
        let joined = Member {
            recipient: member.recipient(),
            target: Arc::new(member.clone()),
            watch,
            cell: member.cell().clone(),
        };
        let mut told = Vec::new();
        {
            let mut state = self.0.state.lock();
            if state.members.contains_key(&member.id()) {
                return false;
            }
            state.members.insert(member.id(), joined);
            let (id, name) = (member.id(), member.name());
            self.0
                .tell(&mut state, id, name, &GroupChange::Joined, &mut told);
        }
        drop(told);
        let core = self.0.clone();
        // Without the lock: if it has ended meanwhile, this is told at once, on this thread.
        member.watch_with(
            watch,
            Box::new(move |down| {
                let _member = core.leave(down.id, &GroupChange::Ended(down.exit));
            }),
        );
        true
    }

    /// The processor is no member any more. False if it was none.
    pub fn leave<P: Processor>(&self, member: &Address<P>) -> bool {
        let Some(left) = self.0.leave(member.id(), &GroupChange::Left) else {
            return false;
        };
        left.cell.unwatch(left.watch);
        true
    }

    /// The members, oldest processor first.
    pub fn members(&self) -> Vec<Recipient<M>> {
        let state = self.0.state.lock();
        state
            .members
            .values()
            .map(|m| m.recipient.clone())
            .collect()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.state.lock().members.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends a clone of `message` to every member: first to those that have room, then, waiting, to the others. Returns how many
    /// have it; 0 for an empty group, which is no error.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`] says who did not take it within the node's limit for sends, and how many did.
    ///
    /// # Deadlocks
    ///
    /// As [`Address::send`].
    pub fn broadcast(&self, message: &M) -> Result<usize, BroadcastError>
    where
        M: Clone,
    {
        let targets: Vec<Arc<dyn Target<M>>> = {
            let state = self.0.state.lock();
            state.members.values().map(|m| m.target.clone()).collect()
        };
        let targets = targets.iter().map(|t| &**t);
        let result = broadcast(&self.0.world, self.0.send_limit, targets, message);
        if result.refused.is_empty() {
            Ok(result.sent)
        } else {
            Err(result)
        }
    }

    /// From now on `watcher` gets one [`GroupEvent`] for each processor that joins, leaves, or ends as a member. Returns the
    /// members at this moment, of whose joining it is not told. A second watch of the same processor only does that.
    ///
    /// Like a [`Down`](crate::Down), an event comes by the control lane: it needs no room, and none is lost. The watch ends with
    /// the watcher, or by [`unwatch`](Self::unwatch).
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, GroupChange, GroupEvent, Handle, Outcome, Processor, Runtime, closure};
    /// struct Census { members: usize }
    /// struct HowMany;
    /// impl Processor for Census {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         let workers = cx.runtime().group::<u8>("workers").map_err(mproc_runtime::Fault::from)?;
    ///         self.members = workers.watch(&cx.me()).len();
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<GroupEvent> for Census {
    ///     type Reply = ();
    ///     fn handle(&mut self, event: GroupEvent, _: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         match event.change {
    ///             GroupChange::Joined => self.members += 1,
    ///             _ => self.members -= 1,
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<HowMany> for Census {
    ///     type Reply = usize;
    ///     fn handle(&mut self, _: HowMany, _: &mut Cx<'_, Self, usize>) -> Outcome<usize> { Ok(self.members) }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let census = node.spawn_thread("census", Census { members: 0 })?;
    /// let worker = node.spawn_thread("worker", closure(|_: u8, _cx| ()))?;
    /// node.group("workers")?.join(&worker);
    /// node.settle();
    /// assert_eq!(census.call(HowMany).wait()?, 1);
    /// worker.stop();
    /// node.settle();
    /// assert_eq!(census.call(HowMany).wait()?, 0);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn watch<P: Handle<GroupEvent>>(&self, watcher: &Address<P>) -> Vec<Recipient<M>> {
        let cell = Arc::downgrade(watcher.cell());
        let tell = move |event| match cell.upgrade() {
            Some(cell) => {
                let notice = Control::Deliver(Envelope::new(Told(event, Cause::none())));
                let lives = cell.control(notice).is_ok();
                (Some(cell as CellRef), lives)
            }
            None => (None, false),
        };
        let mut state = self.0.state.lock();
        if watcher.exit().is_none() {
            let tell = || -> Tell { Box::new(tell) };
            state.watchers.entry(watcher.id()).or_insert_with(tell);
        }
        state
            .members
            .values()
            .map(|m| m.recipient.clone())
            .collect()
    }

    /// No event comes to `watcher` any more, unless it is on its way already. False if it did not watch.
    pub fn unwatch<P: Processor>(&self, watcher: &Address<P>) -> bool {
        let watch = self.0.state.lock().watchers.remove(&watcher.id());
        watch.is_some()
    }
}

impl<M: Send + 'static> Core<M> {
    fn leave(&self, id: ProcessorId, change: &GroupChange) -> Option<Member<M>> {
        let mut told = Vec::new();
        let left = {
            let mut state = self.state.lock();
            let left = state.members.remove(&id)?;
            let name = left.target.name().clone();
            self.tell(&mut state, id, &name, change, &mut told);
            left
        };
        drop(told);
        Some(left)
    }

    /// Tells those who watch, and forgets those who have ended. What is put into `told` is dropped without the lock.
    fn tell(
        &self,
        state: &mut State<M>,
        id: ProcessorId,
        name: &Name,
        change: &GroupChange,
        told: &mut Vec<CellRef>,
    ) {
        state.watchers.retain(|_, tell| {
            let (cell, lives) = tell(GroupEvent {
                group: self.name.clone(),
                id,
                name: name.clone(),
                change: change.clone(),
            });
            told.extend(cell);
            lives
        });
    }
}

impl<M: Send + 'static> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Send + 'static> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.0.name)
            .field("members", &self.len())
            .finish()
    }
}
