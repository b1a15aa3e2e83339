//! Named places in the steps of both sides, where a test can stop a process and kill it.

#[cfg(not(all(test, not(loom))))]
#[inline(always)]
pub(crate) fn reach(_name: &'static str) {}

/// If this process was started to stop at `name`: says so on its standard output, then waits to be killed.
#[cfg(all(test, not(loom)))]
pub(crate) fn reach(name: &'static str) {
    use std::io::Write;
    if STOP_AT.with_borrow(|at| at.as_deref() != Some(name)) {
        return;
    }
    let left = PASSES.get();
    if left > 0 {
        PASSES.set(left - 1);
        return;
    }
    let mut out = std::io::stdout();
    let said = writeln!(out, "\nat {name}").and_then(|()| out.flush());
    said.expect("the parent reads what its child says");
    loop {
        std::thread::park();
    }
}

#[cfg(all(test, not(loom)))]
thread_local! {
    static STOP_AT: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
    static PASSES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// From now on this thread stops at `name`, after it has passed it `passes` times.
#[cfg(all(test, not(loom)))]
pub(crate) fn stop_at(name: String, passes: u32) {
    STOP_AT.set(Some(name));
    PASSES.set(passes);
}
