//! macOS: functions of the system library that `rustix` does not have, as Apple's headers declare them, each made safe.
//!
//! The `os_sync` functions came with macOS 14.4. They are named outright, so a program that contains this file does not start on
//! an older one: the loader finds them missing.

use rustix::io::Errno;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// `os/os_sync_wait_on_address.h`: the word may be mapped elsewhere, so it is found by the page behind it.
const OS_SYNC_SHARED: u32 = 1;
/// `os/clock.h`: the clock that stands still while the host sleeps.
const OS_CLOCK_MACH_ABSOLUTE_TIME: u32 = 32;
/// `time.h`: the same clock, in nanoseconds.
const CLOCK_UPTIME_RAW: c_int = 8;
/// `sys/socket.h`.
const SOL_SOCKET: c_int = 0xffff;
/// `sys/socket.h`.
const SO_SNDLOWAT: c_int = 0x1003;
/// `sys/un.h`: the level of the options below.
const SOL_LOCAL: c_int = 0;
/// `sys/un.h`.
const LOCAL_PEERCRED: c_int = 1;
/// `sys/un.h`.
const LOCAL_PEERPID: c_int = 2;
/// `sys/ucred.h`.
const XUCRED_VERSION: u32 = 0;
/// `mach/vm_inherit.h`.
const VM_INHERIT_NONE: c_int = 2;
/// `sys/proc_info.h`.
const PROC_PIDTBSDINFO: c_int = 3;

/// `struct xucred` of `sys/ucred.h`: who connected or listened.
#[repr(C)]
#[derive(Default)]
struct Xucred {
    version: u32,
    uid: u32,
    groups_count: i16,
    groups: [u32; 16],
}

const _: () = assert!(size_of::<Xucred>() == 76);

/// `struct proc_bsdinfo` of `sys/proc_info.h`.
#[repr(C)]
#[derive(Default)]
struct ProcBsdinfo {
    /// From `pbi_flags` to `rfu_1`.
    numbers: [u32; 12],
    /// `pbi_comm` and `pbi_name`.
    names: [[u8; 16]; 3],
    /// From `pbi_nfiles` to `e_tpgid`.
    more_numbers: [u32; 5],
    nice: i32,
    start_seconds: u64,
    start_microseconds: u64,
}

const _: () = assert!(size_of::<ProcBsdinfo>() == 136);

unsafe extern "C" {
    fn os_sync_wait_on_address(address: *mut c_void, value: u64, size: usize, flags: u32) -> c_int;
    fn os_sync_wait_on_address_with_timeout(
        address: *mut c_void,
        value: u64,
        size: usize,
        flags: u32,
        clock: u32,
        timeout_ns: u64,
    ) -> c_int;
    fn os_sync_wake_by_address_all(address: *mut c_void, size: usize, flags: u32) -> c_int;
    fn clock_gettime_nsec_np(clock: c_int) -> u64;
    fn minherit(address: *mut c_void, length: usize, inherit: c_int) -> c_int;
    fn getentropy(buffer: *mut c_void, length: usize) -> c_int;
    fn getsockopt(
        socket: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        length: *mut u32,
    ) -> c_int;
    fn setsockopt(
        socket: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        length: u32,
    ) -> c_int;
    fn sysctlbyname(
        name: *const c_char,
        old: *mut c_void,
        old_length: *mut usize,
        new: *mut c_void,
        new_length: usize,
    ) -> c_int;
    fn proc_pidinfo(
        pid: c_int,
        flavor: c_int,
        argument: u64,
        buffer: *mut c_void,
        length: c_int,
    ) -> c_int;
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Sleeps while `word` is `seen`, for `limit` at most. It may return early.
pub(super) fn wait(word: &AtomicU32, seen: u32, limit: Option<Duration>) {
    let address = word.as_ptr().cast::<c_void>();
    let (value, size) = (u64::from(seen), size_of::<u32>());
    // Whatever the answer, the caller looks again at what it waits for.
    let _why = match limit {
        // SAFETY: `address` is that of a word of 4 bytes, which is borrowed and so stays mapped. The system only compares it.
        None => unsafe { os_sync_wait_on_address(address, value, size, OS_SYNC_SHARED) },
        // A timeout of 0 is an error to one version and for ever to another.
        Some(limit) if limit.is_zero() => 0,
        Some(limit) => {
            let ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            // What the kernel can count in its own ticks, whatever they are: ten years.
            let ns = ns.min(10 * 365 * 24 * 3600 * 1_000_000_000);
            let clock = OS_CLOCK_MACH_ABSOLUTE_TIME;
            // SAFETY: As above.
            unsafe {
                os_sync_wait_on_address_with_timeout(
                    address,
                    value,
                    size,
                    OS_SYNC_SHARED,
                    clock,
                    ns,
                )
            }
        }
    };
}

/// Wakes all that wait for `word`, in whatever process.
pub(super) fn wake_all(word: &AtomicU32) {
    let address = word.as_ptr().cast::<c_void>();
    // It fails if nobody waits.
    // SAFETY: `address` is that of a word of 4 bytes, which is borrowed and so stays mapped. The system does not write there.
    let _woken = unsafe { os_sync_wake_by_address_all(address, size_of::<u32>(), OS_SYNC_SHARED) };
}

/// Nanoseconds of the clock that stands still while the host sleeps.
pub(super) fn uptime_ns() -> u64 {
    // SAFETY: It takes a number and gives one.
    unsafe { clock_gettime_nsec_np(CLOCK_UPTIME_RAW) }
}

/// Children made by `fork` do not get the mapping.
pub(super) fn keep_from_children(map: &memmap2::MmapRaw) -> io::Result<()> {
    // SAFETY: The range is that of a mapping, and it stays mapped here: only what a child will have is changed.
    match unsafe { minherit(map.as_mut_ptr().cast(), map.len(), VM_INHERIT_NONE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Fills `bytes`, of which there are 256 at most.
pub(super) fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: It writes as many bytes as it is told, and so many there are.
    match unsafe { getentropy(bytes.as_mut_ptr().cast(), bytes.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// An option of a Unix socket that is a `T`.
///
/// # Safety
///
/// Any bytes are a `T`.
unsafe fn local_option<T: Default>(socket: BorrowedFd<'_>, name: c_int) -> Result<T, Errno> {
    let mut value = T::default();
    let size = size_of::<T>() as u32;
    let mut length = size;
    // SAFETY: `socket` is open while it is borrowed; `value` has `length` bytes, which may be written, and by the caller's
    // promise stays a value.
    let result = unsafe {
        let value = (&raw mut value).cast::<c_void>();
        getsockopt(socket.as_raw_fd(), SOL_LOCAL, name, value, &mut length)
    };
    match result {
        0 if length == size => Ok(value),
        0 => Err(Errno::INVAL),
        _ => Err(last_errno()),
    }
}

/// The process at the other end of `socket`, or the one that used that end last.
pub(super) fn peer_pid(socket: BorrowedFd<'_>) -> Result<c_int, Errno> {
    // SAFETY: Any bytes are an integer.
    unsafe { local_option(socket, LOCAL_PEERPID) }
}

/// The effective user who connected or listened at the other end of `socket`.
pub(super) fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    // SAFETY: It consists of integers.
    let found: Xucred = unsafe { local_option(socket, LOCAL_PEERCRED) }?;
    if found.version == XUCRED_VERSION {
        Ok(found.uid)
    } else {
        Err(Errno::INVAL)
    }
}

/// From how many free bytes on a socket counts as writable, and below how many a send that does not fit is refused as a whole.
pub(super) fn set_send_low_water(socket: BorrowedFd<'_>, bytes: c_int) -> Result<(), Errno> {
    let length = size_of::<c_int>() as u32;
    // SAFETY: `socket` is open while it is borrowed; the value is an integer, which is read during the call only.
    let result = unsafe {
        let value = (&raw const bytes).cast::<c_void>();
        setsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_SNDLOWAT, value, length)
    };
    match result {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// The id of this run of the kernel, as the system spells it.
pub(super) fn boot_session() -> io::Result<String> {
    const NAME: &CStr = c"kern.bootsessionuuid";
    let mut text = [0_u8; 64];
    let mut length = text.len();
    // SAFETY: The name ends with a zero; `text` has `length` bytes, which may be written; nothing is set.
    let result = unsafe {
        let text = text.as_mut_ptr().cast::<c_void>();
        sysctlbyname(NAME.as_ptr(), text, &mut length, std::ptr::null_mut(), 0)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let text = CStr::from_bytes_until_nul(&text).map_err(io::Error::other)?;
    Ok(text.to_str().map_err(io::Error::other)?.to_owned())
}

/// When process `pid` started, in microseconds of the calendar.
pub(super) fn start_time(pid: c_int) -> io::Result<u64> {
    let info = bsd_info(pid)?;
    let seconds = info.start_seconds.wrapping_mul(1_000_000);
    Ok(seconds.wrapping_add(info.start_microseconds))
}

/// True if process `pid` is stopped: `pbi_status` is `SSTOP`.
pub(super) fn is_stopped(pid: c_int) -> io::Result<bool> {
    Ok(bsd_info(pid)?.numbers[1] == 4)
}

fn bsd_info(pid: c_int) -> io::Result<ProcBsdinfo> {
    let mut info = ProcBsdinfo::default();
    let size = size_of::<ProcBsdinfo>() as c_int;
    // SAFETY: `info` has `size` bytes, which may be written, and it consists of integers.
    let written = unsafe {
        let info = (&raw mut info).cast::<c_void>();
        proc_pidinfo(pid, PROC_PIDTBSDINFO, 0, info, size)
    };
    if written != size {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}
