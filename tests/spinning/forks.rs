//! A child that was forked without exec, and has a script, a trigger and a descriptor of its parent.

use super::*;
use crate::interrupts::Alone;
use mproc::{ErrorKind, closure};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

unsafe extern "C" {
    /// POSIX. A child of 0 is the child itself.
    fn fork() -> i32;
    /// POSIX. Ends the process at once.
    fn _exit(code: i32) -> !;
    /// POSIX. A signal that ends the process comes after so many seconds.
    fn alarm(seconds: u32) -> u32;
}

/// Runs `child` in a forked child. What it returns is the child's exit code.
fn in_a_forked_child(child: impl FnOnce() -> u8) -> i32 {
    // SAFETY: the child has one thread, does not unwind, and leaves by `_exit`. What it may wait for, locks that other threads
    // held, is what is tested: the alarm ends that.
    let id = unsafe { fork() };
    if id == 0 {
        // SAFETY: it sets a timer, and touches no memory.
        unsafe { alarm(60) };
        let body = std::panic::AssertUnwindSafe(child);
        let code = std::panic::catch_unwind(body).unwrap_or(99);
        // SAFETY: it ends the process.
        unsafe { _exit(code.into()) }
    }
    let id = Pid::from_raw(id).expect("there is a child");
    let (_, status) = waitpid(Some(id), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().expect("it ended by itself")
}

#[test]
fn a_script_of_the_parent_says_so_in_the_child_and_loses_nothing_in_the_parent() {
    if !Alone::is_here() {
        let name =
            "forks::a_script_of_the_parent_says_so_in_the_child_and_loses_nothing_in_the_parent";
        let mut child = Alone::start(name);
        child.says("both are well");
        return child.ends_well();
    }
    let node = real();
    let mut script = listener(&node);
    let trigger = script.trigger(|seen, _| seen.push(100)).unwrap();
    let fd = script.ready_fd().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let call = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    script.on_ready(call).unwrap();
    let member = script.spawn("member", closure(|_: u32, _| ())).unwrap();
    script.spin_some(10).unwrap();
    let before = calls.load(Ordering::SeqCst);
    node.publisher(&NUMBERS).unwrap().publish(1).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), before + 1);

    let mut script = Some(script);
    let code = in_a_forked_child(|| {
        let mut script = script.take().expect("it is there");
        let mut wrong = 0;
        let mut check = |number: u8, is_right: bool| {
            if !is_right && wrong == 0 {
                wrong = number;
            }
        };
        let forked = |kind: Option<ErrorKind>| kind == Some(ErrorKind::Forked);
        let kind = |error: mproc::Error| error.kind();
        let mut pending = member.call(1);
        check(1, forked(script.spin_once(LONG).err().map(kind)));
        check(2, forked(script.spin_some(10).err().map(kind)));
        check(3, forked(script.spin().err().map(kind)));
        let until = script.spin_until(&mut pending, LONG);
        check(4, forked(until.err().map(kind)));
        check(5, forked(script.state(|_| ()).err().map(kind)));
        check(6, forked(script.ready_fd().err().map(kind)));
        check(7, forked(script.on_ready(|| ()).err().map(kind)));
        check(8, !trigger.pull());
        trigger.close();
        drop(pending);
        drop(script);
        wrong
    });
    assert_eq!(code, 0, "the number of what was wrong");

    // Nobody in the child has touched what the parent has.
    let mut script = script.expect("it is the parent's");
    assert!(readiness::is_readable(&fd));
    assert!(trigger.pull());
    assert_eq!(handled(script.spin_some(10)), 2);
    assert!(!readiness::is_readable(&fd));
    let mut seen = seen(&mut script);
    seen.sort_unstable();
    assert_eq!(seen, [1, 100]);
    println!("\nboth are well");
}
