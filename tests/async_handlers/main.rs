//! Handlers that await, futures beside the messages, and tasks made on drivers.

mod conservation;
mod ends;
mod handlers;
mod on_drivers;
mod spawned;
mod support;
mod tokio_inside;
