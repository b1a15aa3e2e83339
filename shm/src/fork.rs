//! What a child that was forked without exec may do with its parent's handles: nothing.
//!
//! A fork copies the one thread that calls it, and shares everything else: the maps, the sockets, the file in the
//! domain's directory. A child that went on would be a second writer of words that have exactly one. So every handle
//! remembers its [`Origin`], the generation in which it was made, and each operation compares it with the generation of
//! now, which a fork increases: one load of a word that is never written otherwise.
//!
//! # Why `pthread_atfork`
//!
//! Comparing process ids needs no handler, but costs a system call per operation, and two ids may be equal although the
//! processes are not: a child in a new pid namespace may have the number its parent has in its own, and numbers are
//! used again. Above all it only *refuses*, when the child asks. The handler of `pthread_atfork` runs in the child
//! before `fork` returns, and so can let go of the sockets: a child that never touches a handle does not keep the
//! connections of its parent open.
//!
//! What it does not see: a `clone` system call made without the C library, whose child must exec or exit. For its
//! sake death is never concluded from the end of a connection, only from a pidfd ([`Process`](crate::Process)).
//!
//! # Sockets in the child
//!
//! Closing a descriptor behind the back of its owner would free its number for the child's next file, which the drop of
//! the owner would then close. So the handler does not close: it puts an inert descriptor in the place of each
//! [`ControlFd`]. The number stays taken until the handle is dropped, and nothing is reachable through it.
//!
//! A descriptor is in the table from just after it is made until just before it is closed. A fork by another thread in
//! either moment leaves a copy in the child, which delays the end of that connection until the child ends or execs.

use crate::sys;
use std::ffi::c_int;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// The handle belongs to the process from which this one was forked. Make new ones here, or exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forked;

impl fmt::Display for Forked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the handle belongs to the process from which this one was forked")
    }
}

impl std::error::Error for Forked {}

/// How many forks lie between this process and the one that first used this crate. Written by `in_child` only.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The process in which a handle was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u32);

impl Origin {
    /// This process. The first call installs the handler.
    ///
    /// # Errors
    ///
    /// There is no descriptor or no memory for the handler.
    pub fn here() -> std::io::Result<Self> {
        install()?;
        Ok(Self(GENERATION.load(Relaxed)))
    }

    /// This process, for a handle that has no shared memory of its own yet. Whatever maps some calls [`here`](Self::here), so
    /// that the handler is there before a child could touch it. In a process that has never called that, a child is not told
    /// from its parent.
    pub fn now() -> Self {
        Self(GENERATION.load(Relaxed))
    }

    /// True in the process that made the handle. What a drop asks before it touches anything shared.
    #[inline]
    pub fn is_here(self) -> bool {
        // Relaxed: the word is written in the child before `fork` returns there, by the only thread it has.
        self.0 == GENERATION.load(Relaxed)
    }

    /// What an operation asks first.
    ///
    /// # Errors
    ///
    /// [`Forked`] in a child.
    #[inline]
    pub fn check(self) -> Result<(), Forked> {
        if self.is_here() { Ok(()) } else { Err(Forked) }
    }
}

/// What stands in the child where a [`ControlFd`] of its parent was.
static INERT: OnceLock<OwnedFd> = OnceLock::new();

unsafe extern "C" {
    /// POSIX. Each handler is a function that takes and returns nothing; one that is absent is not called.
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

fn install() -> std::io::Result<()> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    if INERT.get().is_none() {
        let fd = sys::inert()?;
        // Another thread may have been first; then ours is closed.
        let _ = INERT.set(fd);
    }
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: The declaration above is that of POSIX. `in_child` is a function of this program, which lives as long
        // as the handler may run, and it does only what a child of a program with threads may do (see there).
        unsafe { pthread_atfork(None, None, Some(in_child)) == 0 }
    });
    if *installed {
        Ok(())
    } else {
        Err(std::io::ErrorKind::OutOfMemory.into())
    }
}

/// Runs in a child before `fork` returns. Other threads may have held any lock when the child was copied, so it takes
/// none and allocates nothing: loads, stores, and one system call for each descriptor.
extern "C" fn in_child() {
    GENERATION.store(GENERATION.load(Relaxed).wrapping_add(1), Relaxed);
    let Some(inert) = INERT.get() else { return };
    let mut chunk = Some(&FIRST);
    while let Some(here) = chunk {
        for place in &here.places {
            let fd = place.load(Acquire);
            if fd != FREE {
                // SAFETY: The place holds the number of a `ControlFd`, which is registered only while its descriptor is
                // open, so the number is that of an open descriptor of ours (or of a kqueue, which a child does not
                // inherit: then nobody else has the number yet). Its owner is not touched: what it refers to is
                // exchanged, the number stays open, and `ManuallyDrop` keeps this value from closing it.
                let mut fd = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) });
                // If it fails, the child keeps a copy, as after a bare `clone`.
                let _ = sys::replace(inert, &mut fd);
            }
        }
        chunk = here.next.get().copied();
    }
}

const FREE: c_int = -1;

/// The numbers of all `ControlFd`s. A list of arrays that only grows, so that the handler can read it without a lock.
struct Chunk {
    places: [AtomicI32; 64],
    next: OnceLock<&'static Chunk>,
}

impl Chunk {
    const fn new() -> Self {
        Self {
            places: [const { AtomicI32::new(FREE) }; 64],
            next: OnceLock::new(),
        }
    }
}

static FIRST: Chunk = Chunk::new();

fn register(fd: c_int) -> &'static AtomicI32 {
    let mut chunk = &FIRST;
    loop {
        for place in &chunk.places {
            if place.compare_exchange(FREE, fd, AcqRel, Relaxed).is_ok() {
                return place;
            }
        }
        chunk = chunk.next.get_or_init(|| Box::leak(Box::new(Chunk::new())));
    }
}

/// A descriptor that a forked child does not inherit: there, something inert has its number.
pub struct ControlFd {
    fd: OwnedFd,
    place: &'static AtomicI32,
    origin: Origin,
}

impl ControlFd {
    /// Takes charge of `fd`.
    ///
    /// # Errors
    ///
    /// Those of [`Origin::here`].
    pub fn new(fd: OwnedFd) -> std::io::Result<Self> {
        let origin = Origin::here()?;
        let place = register(fd.as_raw_fd());
        Ok(Self { fd, place, origin })
    }

    /// Where it was made.
    pub fn origin(&self) -> Origin {
        self.origin
    }
}

impl AsFd for ControlFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for ControlFd {
    fn drop(&mut self) {
        // Before the descriptor is closed: afterwards its number may be somebody else's.
        self.place.store(FREE, Release);
    }
}

impl fmt::Debug for ControlFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlFd({})", self.fd.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_grows_and_gives_places_back() {
        let make = || {
            let fd = sys::inert().unwrap();
            ControlFd::new(fd).unwrap()
        };
        let many: Vec<_> = (0..200).map(|_| make()).collect();
        let mut places: Vec<_> = many.iter().map(|fd| std::ptr::from_ref(fd.place)).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 200);
        let place = many[7].place;
        drop(many);
        assert_eq!(place.load(Relaxed), FREE);
    }

    #[test]
    fn handles_of_this_process_are_here() {
        let origin = Origin::here().unwrap();
        assert!(origin.is_here());
        assert_eq!(origin.check(), Ok(()));
        assert_eq!(Origin(origin.0.wrapping_sub(1)).check(), Err(Forked));
    }
}
