//! Calls to the operating system for memory and for waiting, and the memory that is mapped.

#[cfg(not(target_os = "linux"))]
compile_error!("mproc-shm runs on Linux only: see the crate's documentation");

mod linux;
mod map;

pub use linux::monotonic_ns;
pub(crate) use linux::{create, open, wait, wait_any, wake_all};
pub(crate) use map::Map;

#[cfg(test)]
mod tests;
