//! A web service in front of a processor.
//!
//! ```text
//! cargo run --manifest-path examples/axum_bridge/Cargo.toml -- 127.0.0.1:3000
//! ```
//!
//! Open the page in two browsers: each sees what the other adds. Ctrl-C ends the server first, and then the node.

use mproc::Options;
use mproc::prelude::*;
use mproc_axum_bridge::{Counter, SQUARE, options, serve, square};
use std::error::Error;
use std::io;
use tokio::net::TcpListener;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let node = Node::builder()
        .options(options(Options::from_environment()?))
        .build()?;
    let counter = node.spawn_thread("counter", Counter::default())?;
    let _square = node.serve(SQUARE, square)?;

    let tokio = tokio::runtime::Runtime::new()?;
    tokio.block_on(async {
        let ends = end_signal()?;
        let listener = TcpListener::bind(address).await?;
        println!("listening on http://{}", listener.local_addr()?);
        serve(listener, &node, counter, ends).await
    })?;
    // Nobody calls any more when the node ends.
    drop(tokio);
    println!("the server has ended");
    println!("{}", node.shutdown(Duration::from_secs(5)));
    Ok(())
}

/// Done at Ctrl-C or SIGTERM. They are caught from now on.
#[cfg(unix)]
fn end_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Done at Ctrl-C. It is caught from now on.
#[cfg(windows)]
fn end_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}
