//! A cheap way to tell how long handlers take. Not for deadlines: those use [`World::now`](crate::world::World::now).
//!
//! Reading the system's clock costs more than handling a small message; the processor's own counter costs half.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

struct Rate {
    nanos_per_cycle: f64,
    long_handler: u64,
}

static RATE: OnceLock<Rate> = OnceLock::new();

/// A count that grows with time. Differences mean something, and only through [`nanos`].
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn cycles() -> u64 {
    // SAFETY: every x86_64 has the instruction, and no system that Rust runs on forbids it to user programs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A count that grows with time. Differences mean something, and only through [`nanos`].
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn cycles() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // 1 and not 0: 0 means that nothing is going on.
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}

fn rate() -> &'static Rate {
    RATE.get_or_init(|| {
        // A fifth of a millisecond, once in the life of the program, gives the rate to within a percent.
        let (time, count) = (Instant::now(), cycles());
        while time.elapsed() < Duration::from_micros(200) {
            std::hint::spin_loop();
        }
        let passed = cycles().saturating_sub(count).max(1);
        let nanos_per_cycle = time.elapsed().as_nanos() as f64 / passed as f64;
        Rate {
            nanos_per_cycle,
            long_handler: (1e9 / nanos_per_cycle) as u64,
        }
    })
}

/// `cycles` in nanoseconds, to within a percent.
pub(crate) fn nanos(cycles: u64) -> u64 {
    (cycles as f64 * rate().nanos_per_cycle) as u64
}

/// One millisecond, in cycles: after so long a cell lets others have their turn.
#[inline]
pub(crate) fn quantum() -> u64 {
    rate().long_handler / 1000
}

/// One second, in cycles: a handler that takes longer is reported.
#[inline]
pub(crate) fn long_handler() -> u64 {
    rate().long_handler
}
