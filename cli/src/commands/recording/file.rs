//! One file that is being written.
//!
//! A chunk is put together in memory and written as a whole, so that a file whose recorder was killed can be read up to its
//! last chunk.

use super::channel::ChannelType;
use super::reason;
use crate::failure::{Code, Failure, Outcome};
use mcap::records::{MessageHeader, Metadata};
use mcap::write::NoSeek;
use mcap::{Compression, McapError, WriteOptions, Writer};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How files are written.
#[derive(Clone, Debug)]
pub(crate) struct FileOptions {
    pub(crate) compression: Option<Compression>,
    /// About how many bytes a chunk has before it is compressed.
    pub(crate) chunk_bytes: u64,
    /// Write over a file that is there.
    pub(crate) overwrite: bool,
}

/// Counts what goes through.
struct Counted {
    file: fs::File,
    bytes: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        // Relaxed: a plain count, read by the same thread.
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(crate) struct File {
    path: PathBuf,
    writer: Writer<NoSeek<BufWriter<Counted>>>,
    written: Arc<AtomicU64>,
    /// Bytes of values since the last chunk was written: what `written` does not have yet, at most.
    pending: u64,
    messages: u64,
}

/// A file that was closed.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

fn cannot(what: &str, path: &Path, error: &McapError) -> Failure {
    Failure::new(
        Code::Failed,
        format!("cannot {what} {}: {}", path.display(), reason(error)),
    )
}

impl File {
    pub(crate) fn create(path: &Path, options: &FileOptions) -> Outcome<Self> {
        let mut open = OpenOptions::new();
        open.write(true);
        if options.overwrite {
            open.create(true).truncate(true);
        } else {
            open.create_new(true);
        }
        let file = open.open(path).map_err(|error| {
            let failure = Failure::new(
                Code::Failed,
                format!("cannot create {}: {error}", path.display()),
            );
            match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    failure.hint("another name with -o, or --force to write over it")
                }
                _ => failure,
            }
        })?;
        let written = Arc::<AtomicU64>::default();
        let counted = Counted {
            file,
            bytes: written.clone(),
        };
        let writer = WriteOptions::new()
            .compression(options.compression)
            .chunk_size(Some(options.chunk_bytes))
            .compression_threads(0)
            .disable_seeking(true)
            .profile("mproc")
            .library(concat!("mproc-cli/", env!("CARGO_PKG_VERSION")))
            .create(NoSeek::new(BufWriter::new(counted)))
            .map_err(|error| cannot("write", path, &error))?;
        let mut file = Self {
            path: path.to_owned(),
            writer,
            written,
            pending: 0,
            messages: 0,
        };
        // So that it can be told for what it is from the beginning.
        file.flush()?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it has by now, with what waits to be compressed.
    pub(crate) fn bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed) + self.pending
    }

    /// Adds a channel, with the schema that `schema` says: its name, encoding and text.
    pub(crate) fn channel(
        &mut self,
        channel: &ChannelType,
        schema: Option<(&str, &str, &[u8])>,
    ) -> Outcome<u16> {
        let schema = match schema {
            Some((name, encoding, text)) => self.writer.add_schema(name, encoding, text),
            None => Ok(0),
        };
        schema
            .and_then(|schema| {
                let metadata = channel.to_metadata();
                self.writer
                    .add_channel(schema, &channel.name(), channel.encoding(), &metadata)
            })
            .map_err(|error| cannot("write", &self.path, &error))
    }

    pub(crate) fn write(&mut self, header: &MessageHeader, data: &[u8]) -> Outcome {
        let before = self.written.load(Ordering::Relaxed);
        self.writer
            .write_to_known_channel(header, data)
            .map_err(|error| cannot("write", &self.path, &error))?;
        if self.written.load(Ordering::Relaxed) != before {
            self.pending = 0;
        }
        self.pending += data.len() as u64;
        self.messages += 1;
        Ok(())
    }

    /// Writes the chunk that was begun. What was written is in the file now, whatever becomes of this process.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.writer
            .flush()
            .map_err(|error| cannot("write", &self.path, &error))?;
        self.pending = 0;
        Ok(())
    }

    pub(crate) fn metadata(&mut self, name: &str, metadata: BTreeMap<String, String>) -> Outcome {
        let record = Metadata {
            name: name.to_owned(),
            metadata,
        };
        self.writer
            .write_metadata(&record)
            .map_err(|error| cannot("write", &self.path, &error))
    }

    /// Closes it in order: its index is written, and it is on the disk when this returns.
    pub(crate) fn close(mut self) -> Outcome<Closed> {
        self.writer
            .finish()
            .map_err(|error| cannot("write", &self.path, &error))?;
        let mut inner = self.writer.into_inner().into_inner();
        let synced = inner
            .flush()
            .and_then(|()| match inner.get_ref().file.sync_data() {
                // Pipes and devices are on no disk.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                synced => synced,
            });
        synced.map_err(|error| cannot("write", &self.path, &McapError::Io(error)))?;
        Ok(Closed {
            bytes: self.written.load(Ordering::Relaxed),
            messages: self.messages,
            path: self.path,
        })
    }
}
