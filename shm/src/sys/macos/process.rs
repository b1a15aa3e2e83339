//! macOS: the end of a process by a kqueue, found by the process's number.
//!
//! 1. `LOCAL_PEERPID` gives the number of the process that used the other end last, which is the one that connected or listens.
//! 2. A kqueue is told to report the end (`NOTE_EXIT`) of the process that has this number now.
//! 3. The start time of that number is read. If the end was not reported after that, the number meant the same process all the
//!    time, and the start time is its own; it is compared with the one in the peer's greeting.
//!
//! The report is never taken out of the kqueue, which so stays readable for ever, as a pidfd does. It is made when the last thread
//! of the process has left its program for good.

use super::{calls, descriptors};
use crate::fork::ControlFd;
use crate::process::{ProcessError, is_over};
use rustix::event::kqueue::{
    Event, EventFilter, EventFlags, ProcessEvents, kevent_timespec, kqueue,
};
use rustix::io::Errno;
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;

/// Readable from the end of a process on. A child does not inherit a kqueue, and its number must not become another's there.
pub(crate) type EndFd = ControlFd;

/// Which run of the kernel this is: 16 bytes in lower case hexadecimal digits and dashes.
pub(crate) fn boot_id() -> io::Result<String> {
    let mut text = calls::boot_session()?;
    text.make_ascii_lowercase();
    Ok(text)
}

/// When process `pid` started.
pub(crate) fn start_time(pid: u32) -> io::Result<u64> {
    let pid = pid.try_into().map_err(io::Error::other)?;
    calls::start_time(pid)
}

/// True if process `pid` is stopped.
pub(crate) fn is_stopped(pid: u32) -> io::Result<bool> {
    let pid = pid.try_into().map_err(io::Error::other)?;
    calls::is_stopped(pid)
}

/// Process and effective user at the other end of `socket`.
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> io::Result<(Option<u32>, u32)> {
    let pid = calls::peer_pid(socket)?;
    let pid = u32::try_from(pid).ok().filter(|&pid| pid != 0);
    Ok((pid, calls::peer_uid(socket)?))
}

/// What tells the end of the process at the other end of `socket`, and when that process started.
pub(crate) fn end_of_peer(socket: BorrowedFd<'_>) -> Result<(EndFd, Option<u64>), ProcessError> {
    let number = match calls::peer_pid(socket) {
        // It closed its end.
        Err(Errno::NOTCONN) => return Err(ProcessError::Ended),
        found => found?,
    };
    let pid = Pid::from_raw(number).ok_or(Errno::SRCH)?;
    let queue = kqueue()?;
    descriptors::close_on_exec(&queue)?;
    let filter = EventFilter::Proc {
        pid,
        flags: ProcessEvents::EXIT,
    };
    let change = [Event::new(filter, EventFlags::ADD, ptr::null_mut())];
    let nothing: &mut [Event] = &mut [];
    // SAFETY: The event refers to no descriptor.
    unsafe { kevent_timespec(&queue, &change, nothing, None) }?;
    let found = calls::start_time(number);
    if is_over(queue.as_fd()) {
        return Err(ProcessError::Ended);
    }
    let found = found.map_err(ProcessError::Unsupported)?;
    let end = ControlFd::new(queue).map_err(ProcessError::Unsupported)?;
    Ok((end, Some(found)))
}
