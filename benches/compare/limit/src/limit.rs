//! The bare programs: two processes, one piece of memory, and nothing else.
//!
//! Bytes in it belong to one process at a time. [`Ping`] hands them over with a count that the other side
//! looks at; [`Ring`] has a count of what was put in, and one of what was taken out.
//!
//! Every unsafe block below leans on these rules:
//!
//! | bytes                | may be touched by                                             |
//! |----------------------|---------------------------------------------------------------|
//! | counts               | both, as atomics only                                         |
//! | a side's payload     | its sender while all that it sent was answered, else its receiver |
//! | cell `n % room`      | the sender while `n - taken < room`, the receiver while `taken < n + 1 <= put` |
//!
//! Both processes run this program: the other one keeps to the rules, too.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    hint, io,
    path::PathBuf,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use mproc_benches::{
    payload::{self, Mode, Setting, Writer},
    processes::Place,
    shm_ping::End,
};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    thread::futex,
};

/// Each count is alone on its cache line, and on the neighbour that is fetched with it.
const LINE: usize = 128;

/// Where payload begins: counts have the first page.
const PAYLOAD: usize = 4096;

/// How often a side looks before it sleeps: about as long as the other side needs to answer.
const SPINS: u32 = 300;

/// After so many looks it lets others have the core, since the other process may need it.
const SPINS_MAX: u32 = 20_000;

/// Memory that two processes map.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

impl Memory {
    /// Makes it, under a name that is removed with the place.
    fn create(place: &Place, bytes: usize) -> io::Result<Self> {
        let path = path(place);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        file.set_len(bytes as u64)?;
        Self::map(&file, bytes)
    }

    /// Maps what the other process made.
    fn open(place: &Place, bytes: usize) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path(place))?;
        if file.metadata()?.len() != bytes as u64 {
            return Err(io::Error::other("the other process made another size"));
        }
        Self::map(&file, bytes)
    }

    fn map(file: &File, bytes: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses the address, so that no other memory of this process is replaced.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// The count of this index.
    fn count(&self, index: usize) -> &AtomicU32 {
        let at = index * LINE;
        assert!(
            at < PAYLOAD && PAYLOAD <= self.bytes,
            "counts have the first page"
        );
        // SAFETY: inside the mapping, which lives as long as `self`; aligned, since the mapping begins with a page; and
        // touched as an atomic only.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    /// Payload to read.
    ///
    /// # Safety
    ///
    /// By the rules of this file, nobody writes to it meanwhile.
    unsafe fn payload(&self, at: usize, bytes: usize) -> &[u8] {
        let at = PAYLOAD + at;
        assert!(at + bytes <= self.bytes, "payload is in the mapping");
        // SAFETY: inside the mapping, which the system filled with zeros; the caller says that nobody writes.
        unsafe { slice::from_raw_parts(self.start.as_ptr().add(at), bytes) }
    }

    /// Payload to write.
    ///
    /// # Safety
    ///
    /// By the rules of this file, nobody else touches it meanwhile.
    unsafe fn payload_mut(&mut self, at: usize, bytes: usize) -> &mut [u8] {
        let at = PAYLOAD + at;
        assert!(at + bytes <= self.bytes, "payload is in the mapping");
        // SAFETY: inside the mapping, which the system filled with zeros; the caller says that it is ours, and `&mut self`
        // that this process does not lend it twice.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(at), bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` and `bytes` are those of the mapping, and every reference to it borrows `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Where the name is that the two processes know. `/dev/shm` is memory, and not a disk.
fn path(place: &Place) -> PathBuf {
    PathBuf::from("/dev/shm").join(place.name() + "-limit")
}

/// Looks until `found`, and lets others have the core now and then.
fn spin_until(mut found: impl FnMut() -> bool) {
    let mut looks = 0;
    while !found() {
        looks += 1;
        if looks % SPINS_MAX == 0 {
            thread::yield_now();
        }
        hint::spin_loop();
    }
}

/// One ball: a payload for each direction, a count of how often it was handed over, and a futex on it.
#[derive(Debug)]
pub struct Ping {
    memory: Memory,
    setting: Setting,
    writer: Writer,
    /// 0 in the first process, 1 in the other one.
    side: usize,
    sent: u32,
    received: u32,
}

/// Whether the receiver of a side sleeps, or will in a moment.
const ASLEEP: usize = 2;

impl Ping {
    fn new(memory: Memory, setting: Setting, side: usize) -> Self {
        Self {
            memory,
            setting,
            writer: Writer::new(setting),
            side,
            sent: 0,
            received: 0,
        }
    }

    fn bytes(setting: Setting) -> usize {
        PAYLOAD + 2 * setting.bytes
    }

    /// Waits until the other side's count is no longer `old`.
    fn wait(&self, old: u32) -> io::Result<()> {
        let theirs = self.memory.count(1 - self.side);
        // Acquire pairs with the Release in `send`: the payload is there.
        let came = || theirs.load(Ordering::Acquire) != old;
        let spins = match self.setting.mode {
            Mode::Spinning => {
                spin_until(came);
                return Ok(());
            }
            Mode::SpinThenPark => SPINS,
            Mode::Parked => 0,
        };
        for _ in 0..spins {
            if came() {
                return Ok(());
            }
            hint::spin_loop();
        }
        let asleep = self.memory.count(ASLEEP + self.side);
        while !came() {
            // SeqCst here and in `send`: of "I sleep" and "it is there", at least one is seen by the other side.
            asleep.store(1, Ordering::SeqCst);
            if theirs.load(Ordering::SeqCst) == old {
                match futex::wait(theirs, futex::Flags::empty(), old, None) {
                    // It came meanwhile, or a signal did.
                    Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            asleep.store(0, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl End for Ping {
    fn create(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        let memory = Memory::create(place, Self::bytes(setting))?;
        Ok(Self::new(memory, setting, 0))
    }

    fn join(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        let memory = Memory::open(place, Self::bytes(setting))?;
        Ok(Self::new(memory, setting, 1))
    }

    #[inline]
    fn send(&mut self, number: u64) -> Result<(), Box<dyn Error>> {
        let bytes = self.setting.bytes;
        // SAFETY: there is one ball, and this side has it: the receiver has answered all that was sent before.
        let payload = unsafe { self.memory.payload_mut(self.side * bytes, bytes) };
        self.writer.write(payload, number);
        self.sent = self.sent.wrapping_add(1);
        let ours = self.memory.count(self.side);
        if self.setting.mode == Mode::Spinning {
            ours.store(self.sent, Ordering::Release);
            return Ok(());
        }
        ours.store(self.sent, Ordering::SeqCst);
        let asleep = self.memory.count(ASLEEP + 1 - self.side);
        if asleep.load(Ordering::SeqCst) != 0 {
            futex::wake(ours, futex::Flags::empty(), 1)?;
        }
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<u64, Box<dyn Error>> {
        self.wait(self.received)?;
        self.received = self.received.wrapping_add(1);
        let bytes = self.setting.bytes;
        // SAFETY: the count says that it was handed over to this side, which has not answered yet.
        let payload = unsafe { self.memory.payload((1 - self.side) * bytes, bytes) };
        Ok(payload::read(self.setting, payload)?)
    }
}

/// Cells in a ring, from the first process to the other one.
#[derive(Debug)]
pub struct Ring {
    memory: Memory,
    setting: Setting,
    writer: Writer,
    /// This side's count, of what it has put in or taken out.
    own: u32,
    /// The other side's count when it was last looked at.
    other: u32,
}

const PUT: usize = 0;
const TAKEN: usize = 1;

impl Ring {
    fn new(memory: Memory, setting: Setting) -> Self {
        Self {
            memory,
            setting,
            writer: Writer::new(setting),
            own: 0,
            other: 0,
        }
    }

    fn bytes(setting: Setting) -> usize {
        PAYLOAD + setting.room * setting.bytes
    }

    fn cell(&self) -> usize {
        // The room is a power of two, so that it does not matter that counts wrap.
        (self.own as usize % self.setting.room) * self.setting.bytes
    }

    /// Looks at the other side's count until it `is_enough` beside our own.
    fn wait(&mut self, index: usize, is_enough: impl Fn(u32, u32) -> bool) {
        if !is_enough(self.own, self.other) {
            let (count, own) = (self.memory.count(index), self.own);
            // Acquire pairs with the Release of the other side: it is done with the cell.
            spin_until(|| is_enough(own, count.load(Ordering::Acquire)));
            self.other = count.load(Ordering::Acquire);
        }
    }
}

impl End for Ring {
    fn create(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        let memory = Memory::create(place, Self::bytes(setting))?;
        Ok(Self::new(memory, setting))
    }

    fn join(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>> {
        let memory = Memory::open(place, Self::bytes(setting))?;
        Ok(Self::new(memory, setting))
    }

    #[inline]
    fn send(&mut self, number: u64) -> Result<(), Box<dyn Error>> {
        let room = self.setting.room;
        self.wait(TAKEN, |put, taken| {
            (put.wrapping_sub(taken) as usize) < room
        });
        let (cell, bytes) = (self.cell(), self.setting.bytes);
        // SAFETY: the receiver has taken what was in this cell, and looks at it again when it was put in.
        let payload = unsafe { self.memory.payload_mut(cell, bytes) };
        self.writer.write(payload, number);
        self.own = self.own.wrapping_add(1);
        self.memory.count(PUT).store(self.own, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<u64, Box<dyn Error>> {
        self.wait(PUT, |taken, put| taken != put);
        let (cell, bytes) = (self.cell(), self.setting.bytes);
        // SAFETY: it was put in and not taken out, so the sender leaves it alone.
        let payload = unsafe { self.memory.payload(cell, bytes) };
        let number = payload::read(self.setting, payload)?;
        self.own = self.own.wrapping_add(1);
        self.memory.count(TAKEN).store(self.own, Ordering::Release);
        Ok(number)
    }
}
