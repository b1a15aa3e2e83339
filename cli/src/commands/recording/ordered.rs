//! The messages of several files in the order of time.
//!
//! Blocks are read when the first of their messages is due, so that no more are in memory than overlap.

use super::scan::{Message, Scanned, Span, messages};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;

/// By which of a message's times they are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// When it was published.
    Publish,
    /// When it was recorded.
    Log,
}

impl Order {
    pub(crate) fn span(self, file: &Scanned) -> Option<Span> {
        match self {
            Self::Publish => file.published,
            Self::Log => file.logged,
        }
    }

    fn time(self, message: &Message) -> u64 {
        match self {
            Self::Publish => message.published_ns,
            Self::Log => message.logged_ns,
        }
    }
}

/// A message of one of the files.
#[derive(Clone, Debug)]
pub(crate) struct Next {
    /// By the order that was asked for.
    pub(crate) time_ns: u64,
    pub(crate) file: usize,
    pub(crate) message: Message,
}

/// Time, file, block, and place in the block: messages of one time stay in the order of the file.
type Key = (u64, usize, usize, usize);

/// Messages from one time to another, in order.
pub(crate) struct Ordered<'a> {
    files: &'a [Scanned],
    order: Order,
    from_ns: u64,
    to_ns: u64,
    open: BTreeMap<usize, File>,
    /// Those not read yet, the last first: their first time, file and block.
    blocks: Vec<(u64, usize, usize)>,
    messages: BTreeMap<Key, Message>,
    /// Blocks that could not be read again.
    pub(crate) failed: Vec<String>,
}

impl<'a> Ordered<'a> {
    /// Those from `from_ns` on and before `to_ns`.
    pub(crate) fn new(files: &'a [Scanned], order: Order, from_ns: u64, to_ns: u64) -> Self {
        let mut blocks = Vec::new();
        for (number, file) in files.iter().enumerate() {
            for (at, block) in file.blocks.iter().enumerate() {
                let span = match order {
                    Order::Publish => block.published,
                    Order::Log => block.logged,
                };
                if span.last >= from_ns && span.first < to_ns {
                    blocks.push((span.first, number, at));
                }
            }
        }
        blocks.sort_unstable_by_key(|block| Reverse(*block));
        Self {
            files,
            order,
            from_ns,
            to_ns,
            open: BTreeMap::new(),
            blocks,
            messages: BTreeMap::new(),
            failed: Vec::new(),
        }
    }

    fn read(&mut self, number: usize, at: usize) {
        let scanned = &self.files[number];
        let read = match self.open.entry(number) {
            std::collections::btree_map::Entry::Occupied(file) => Ok(file.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => File::open(&scanned.path)
                .map(|file| place.insert(file))
                .map_err(|error| error.to_string()),
        };
        let read = read.and_then(|file| messages(file, &scanned.blocks[at]));
        let read = match read {
            Ok(read) => read,
            Err(what) => {
                self.failed
                    .push(format!("{}: {what}", scanned.path.display()));
                return;
            }
        };
        for (place, message) in read.into_iter().enumerate() {
            let time = self.order.time(&message);
            if (self.from_ns..self.to_ns).contains(&time) {
                let key = (time, number, at, place);
                self.messages.insert(key, message);
            }
        }
    }
}

impl Iterator for Ordered<'_> {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        loop {
            let due = self.messages.first_key_value().map(|(key, _)| key.0);
            match self.blocks.last() {
                // One that begins at the same time may have a message that stands before.
                Some((first, number, at)) if due.is_none_or(|due| *first <= due) => {
                    let (number, at) = (*number, *at);
                    self.blocks.pop();
                    self.read(number, at);
                }
                _ => break,
            }
        }
        let (key, message) = self.messages.pop_first()?;
        Some(Next {
            time_ns: key.0,
            file: key.1,
            message,
        })
    }
}
