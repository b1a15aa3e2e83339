//! Large frames from one process to three others, which read them where they were filled.
//!
//! ```text
//! cargo run --release --example frames -- --frames 300 [picture.jpg]
//! ```
//!
//! The source loans shared memory, fills it with a picture that moves, and publishes it. It starts this program again for
//! each consumer: one that the source waits for, one that looks at the latest frame only, and one that is slow and drops
//! the oldest. Each frame begins with its number, the number of frames, and a checksum, which every consumer computes again.
//!
//! That nothing is copied between the processes is seen from outside: each consumer finds out in which file of shared memory
//! a frame lies that it was given, and the source in which files it filled its frames. They must be the same files.
//!
//! `frames/picture.rs` has the picture, `frames/consumer.rs` what a consumer does, `frames/memory.rs` whose memory it is.

#[path = "frames/consumer.rs"]
mod consumer;
#[path = "frames/memory.rs"]
mod memory;
#[path = "frames/picture.rs"]
mod picture;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Child, Command, ExitCode},
};

use clap::Parser;
use mproc::prelude::*;

use consumer::{Consumer, Report};
use picture::{Picture, Size};

const FRAMES: Topic<[u8]> = Topic::slices("camera/frames");
const REPORTS: Topic<Report> = Topic::new("camera/reports");

/// How long anything may take but the frames themselves.
const LIMIT: Duration = Duration::from_secs(20);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Sends large frames to three other processes without copying them.
#[derive(Parser)]
struct Arguments {
    /// The picture that moves, PNG or JPEG; else one is drawn.
    picture: Option<PathBuf>,
    /// How many frames.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    frames: u64,
    /// The size of a frame in pixels.
    #[arg(long, value_name = "WxH", default_value = "1920x1080")]
    size: Size,
    /// Be this consumer. The program starts itself so.
    #[arg(long, hide = true)]
    consumer: Option<Consumer>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.consumer {
        Some(consumer) => consumer.run().map(|()| true),
        None => send(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("frames: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Consumers that still run are killed when it is dropped.
struct Children(Vec<Child>);

impl Children {
    /// Starts every consumer, in `domain`.
    fn start(domain: &str) -> Result<Self> {
        let mut children = Self(Vec::new());
        for consumer in Consumer::ALL {
            let child = Command::new(std::env::current_exe()?)
                .args(["--consumer", consumer.name()])
                .env("MPROC_DOMAIN", domain)
                .spawn()?;
            children.0.push(child);
        }
        Ok(children)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Both fail only for one that has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns whether every frame is accounted for, is what was sent, and was read where it was filled.
fn send(arguments: &Arguments) -> Result<bool> {
    let Arguments { frames, size, .. } = *arguments;
    let picture = match &arguments.picture {
        Some(path) => Picture::read(path, size)?,
        None => Picture::draw(size),
    };
    // Several of these programs at once do not hear each other.
    let domain = format!("frames-{}", std::process::id());
    let node = Node::builder().domain(&domain)?.build()?;
    let camera = node.publisher(&FRAMES)?;
    let reports = node.subscription(&REPORTS)?;
    let mut children = Children::start(&domain)?;
    camera.wait_for_subscribers(Consumer::ALL.len(), LIMIT)?;

    let mut filled = BTreeSet::new();
    for number in 0..frames {
        let mut frame = camera.loan(picture.frame_bytes())?;
        picture.fill(number, frames, &mut frame);
        filled.extend(memory::shared_file(&frame)?);
        frame.publish()?;
    }

    println!("{}", Report::HEADINGS);
    let mut holds = true;
    for _ in Consumer::ALL {
        let report = reports.recv_timeout(LIMIT)?;
        println!("{}", *report);
        holds &= report.holds(frames, &filled);
    }
    for mut child in std::mem::take(&mut children.0) {
        holds &= child.wait()?.success();
    }
    let megabytes = (frames * picture.frame_bytes() as u64) / 1_000_000;
    println!(
        "{frames} frames of {size}, {megabytes} MB, filled in {} files of shared memory",
        filled.len()
    );
    println!(
        "{}",
        if holds {
            "every frame is accounted for and right; copied between processes: 0 bytes"
        } else {
            "DOES NOT HOLD: a frame was lost unseen, was wrong, or was not read where it was filled"
        }
    );
    Ok(holds)
}
