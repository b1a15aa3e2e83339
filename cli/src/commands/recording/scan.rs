//! What a file holds, also one that was not closed in order, or is damaged.
//!
//! A file is read once from its beginning, and nothing of what it says about itself is trusted: not its index, nor the lengths in
//! it. What can be read of it is divided into *blocks*: a chunk, or records that stand outside of chunks.

use super::channel::ChannelType;
use super::reason;
use crate::failure::{Code, Failure, Outcome};
use mcap::records::{Metadata, Record, op};
use mcap::sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A record's kind and length stand before it.
const HEAD_BYTES: u64 = 9;

/// Records that are no chunks are put together to blocks of about so many bytes.
const BLOCK_BYTES: u64 = 1 << 20;

/// Nothing larger is read at once, or decompressed to more.
const RECORD_BYTES_MAX: u64 = 1 << 30;

/// A channel, and what was counted of it.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) encoding: String,
    pub(crate) schema_name: String,
    /// What it says of its topic: nothing if another program has written it, an error if it cannot be understood.
    pub(crate) own: Result<Option<ChannelType>, String>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) published: Option<Span>,
}

/// Least and largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Span {
    fn include(span: &mut Option<Self>, at: u64) {
        match span {
            Some(span) => {
                span.first = span.first.min(at);
                span.last = span.last.max(at);
            }
            None => {
                *span = Some(Self {
                    first: at,
                    last: at,
                });
            }
        }
    }

    pub(crate) fn join(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (Some(x), Some(y)) = (a, b) else {
            return a.or(b);
        };
        Some(Self {
            first: x.first.min(y.first),
            last: x.last.max(y.last),
        })
    }
}

/// A part of the file with messages.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) at: Range<u64>,
    pub(crate) published: Span,
    pub(crate) logged: Span,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) library: String,
    pub(crate) channels: BTreeMap<u16, Channel>,
    pub(crate) blocks: Vec<Block>,
    /// Records of metadata, in order.
    pub(crate) metadata: Vec<Metadata>,
    pub(crate) chunks: u64,
    pub(crate) compressions: BTreeSet<String>,
    pub(crate) chunk_bytes: u64,
    pub(crate) chunk_bytes_decompressed: u64,
    pub(crate) messages: u64,
    pub(crate) published: Option<Span>,
    pub(crate) logged: Option<Span>,
    /// What could not be read, the first first.
    pub(crate) damage: Vec<String>,
    /// It has its end.
    pub(crate) is_closed: bool,
}

/// One message of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) channel: u16,
    pub(crate) sequence: u32,
    pub(crate) published_ns: u64,
    pub(crate) logged_ns: u64,
    pub(crate) data: Vec<u8>,
}

fn read_at(file: &mut File, at: Range<u64>) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at.start))?;
    let mut bytes = vec![0; usize::try_from(at.end - at.start).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Calls `call` with each record of some whole records, those of chunks too. The error says what ended it before.
fn records(bytes: &[u8], mut call: impl FnMut(Record<'_>)) -> Result<(), String> {
    let options = LinearReaderOptions::default()
        .with_skip_start_magic(true)
        .with_skip_end_magic(true)
        .with_prevalidate_chunk_crcs(true)
        .with_record_length_limit(RECORD_BYTES_MAX as usize);
    let mut reader = LinearReader::new_with_options(options);
    let mut rest = bytes;
    while let Some(event) = reader.next_event() {
        match event.map_err(|error| reason(&error))? {
            LinearReadEvent::ReadRequest(wanted) => {
                let (now, later) = rest.split_at(wanted.min(rest.len()));
                reader.insert(now.len()).copy_from_slice(now);
                reader.notify_read(now.len());
                rest = later;
            }
            LinearReadEvent::Record { data, opcode } => {
                // Others are of no use here, and some of them are read with trust in their lengths.
                if matches!(opcode, op::SCHEMA | op::CHANNEL | op::MESSAGE) {
                    call(mcap::parse_record(opcode, data).map_err(|error| reason(&error))?);
                }
            }
        }
    }
    Ok(())
}

/// The messages of a block, in the order of the file.
pub(crate) fn messages(file: &mut File, block: &Block) -> Result<Vec<Message>, String> {
    let bytes = read_at(file, block.at.clone()).map_err(|error| error.to_string())?;
    let mut messages = Vec::new();
    records(&bytes, |record| {
        if let Record::Message { header, data } = record {
            messages.push(Message {
                channel: header.channel_id,
                sequence: header.sequence,
                published_ns: header.publish_time,
                logged_ns: header.log_time,
                data: data.into_owned(),
            });
        }
    })
    .map(|()| messages)
}

/// Reads the whole file. `progress` is told how many bytes of how many were read.
///
/// Fails if there is no such file, or it is of another format. Damage is told in what is returned.
pub(crate) fn scan(path: &Path, progress: impl FnMut(u64, u64)) -> Outcome<Scanned> {
    let failed = |what: String| Failure::new(Code::Failed, format!("{}: {what}", path.display()));
    let mut file = File::open(path).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            _ => Code::Failed,
        };
        Failure::new(code, format!("cannot open {}: {error}", path.display()))
    })?;
    let meta = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !meta.is_file() {
        return Err(failed("it is no file".to_owned()));
    }
    let bytes = meta.len();
    let magic_bytes = bytes.min(mcap::MAGIC.len() as u64);
    let begin = read_at(&mut file, 0..magic_bytes).map_err(|error| failed(error.to_string()))?;
    if begin.is_empty() {
        return Err(failed("it is empty".to_owned()));
    }
    if !mcap::MAGIC.starts_with(&begin) {
        return Err(failed("it is no MCAP file".to_owned()).hint("mproc info NAME, for a topic"));
    }
    let mut scan = Scan {
        file,
        schemas: BTreeMap::new(),
        run: None,
        found: Scanned {
            path: path.to_owned(),
            bytes,
            library: String::new(),
            channels: BTreeMap::new(),
            blocks: Vec::new(),
            metadata: Vec::new(),
            chunks: 0,
            compressions: BTreeSet::new(),
            chunk_bytes: 0,
            chunk_bytes_decompressed: 0,
            messages: 0,
            published: None,
            logged: None,
            damage: Vec::new(),
            is_closed: false,
        },
    };
    scan.all(progress);
    Ok(scan.found)
}

struct Scan {
    file: File,
    /// Names of schemas.
    schemas: BTreeMap<u16, String>,
    /// Records outside of chunks that are not read yet.
    run: Option<Range<u64>>,
    found: Scanned,
}

impl Scan {
    fn damage(&mut self, at: u64, what: &str) {
        // A file that is damaged all over says enough with a few.
        if self.found.damage.len() < 10 {
            self.found.damage.push(format!("at byte {at}: {what}"));
        }
    }

    fn all(&mut self, mut progress: impl FnMut(u64, u64)) {
        let bytes = self.found.bytes;
        let mut at = mcap::MAGIC.len() as u64;
        let mut has_end = false;
        while bytes.saturating_sub(at) >= HEAD_BYTES {
            progress(at, bytes);
            let head = match read_at(&mut self.file, at..at + HEAD_BYTES) {
                Ok(head) => head,
                Err(error) => {
                    self.damage(at, &error.to_string());
                    break;
                }
            };
            let (opcode, length) = head.split_first().unwrap_or((&0, &[]));
            let length = length.try_into().map_or(u64::MAX, u64::from_le_bytes);
            let Some(end) = (at + HEAD_BYTES)
                .checked_add(length)
                .filter(|end| *end <= bytes)
            else {
                self.damage(at, "it ends in the middle of a record");
                break;
            };
            if *opcode == op::DATA_END {
                has_end = true;
                break;
            }
            self.record(*opcode, at..end);
            at = end;
        }
        self.end_run();
        progress(bytes, bytes);
        if has_end {
            self.found.is_closed = self.ends_well();
        }
        if !self.found.is_closed && self.found.damage.is_empty() {
            self.damage(at, "it has no end");
        }
    }

    /// True if the last bytes are those of a file that was closed.
    fn ends_well(&mut self) -> bool {
        let bytes = self.found.bytes;
        let magic = mcap::MAGIC.len() as u64;
        let last = read_at(&mut self.file, bytes.saturating_sub(magic)..bytes);
        last.is_ok_and(|last| last == mcap::MAGIC)
    }

    fn record(&mut self, opcode: u8, at: Range<u64>) {
        match opcode {
            op::SCHEMA | op::CHANNEL | op::MESSAGE => {
                let run = match self.run.take() {
                    Some(run) if run.end == at.start => run.start..at.end,
                    Some(_) | None => at.clone(),
                };
                let is_long = run.end - run.start >= BLOCK_BYTES;
                self.run = Some(run);
                if is_long {
                    self.end_run();
                }
            }
            op::CHUNK => {
                self.end_run();
                self.chunk(at);
            }
            op::HEADER | op::METADATA => {
                self.end_run();
                self.small(opcode, at);
            }
            // Indexes say nothing that is not known, and attachments are not played.
            _ => self.end_run(),
        }
    }

    fn end_run(&mut self) {
        if let Some(at) = self.run.take() {
            self.block(at);
        }
    }

    fn small(&mut self, opcode: u8, at: Range<u64>) {
        if at.end - at.start > 16 * BLOCK_BYTES {
            return;
        }
        let start = at.start;
        let read = read_at(&mut self.file, at).map_err(|error| error.to_string());
        let record = read.and_then(|bytes| {
            let body = bytes.get(HEAD_BYTES as usize..).unwrap_or_default();
            match mcap::parse_record(opcode, body) {
                Ok(Record::Header(header)) => self.found.library = header.library,
                Ok(Record::Metadata(metadata)) => self.found.metadata.push(metadata),
                Ok(_) => {}
                Err(error) => return Err(reason(&error)),
            }
            Ok(())
        });
        if let Err(what) = record {
            self.damage(start, &what);
        }
    }

    fn chunk(&mut self, at: Range<u64>) {
        self.found.chunks += 1;
        // The chunk's own head: two times, its size, a checksum, and the name of its compression.
        let head = at.start + HEAD_BYTES..at.end.min(at.start + HEAD_BYTES + 96);
        if let Ok(head) = read_at(&mut self.file, head) {
            let number = |at: usize| {
                let bytes = head.get(at..at + 8)?;
                bytes.try_into().ok().map(u64::from_le_bytes)
            };
            let name_bytes = head.get(28..32).and_then(|bytes| bytes.try_into().ok());
            let name_bytes = name_bytes.map_or(0, u32::from_le_bytes) as usize;
            let name = 32_usize
                .checked_add(name_bytes)
                .and_then(|end| head.get(32..end));
            let name = name.map(|name| String::from_utf8_lossy(name).into_owned());
            let name = name.filter(|name| !name.is_empty());
            self.found
                .compressions
                .insert(name.unwrap_or_else(|| "none".to_owned()));
            let size = number(16).unwrap_or(0);
            let total = &mut self.found.chunk_bytes_decompressed;
            *total = total.saturating_add(size);
        }
        self.found.chunk_bytes += at.end - at.start;
        self.block(at);
    }

    /// Counts what is in it.
    fn block(&mut self, at: Range<u64>) {
        if at.end - at.start > RECORD_BYTES_MAX {
            self.damage(at.start, "a record is too large");
            return;
        }
        let bytes = match read_at(&mut self.file, at.clone()) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.damage(at.start, &error.to_string());
                return;
            }
        };
        let (mut published, mut logged) = (None, None);
        let mut unknown = 0_u64;
        let (schemas, found) = (&mut self.schemas, &mut self.found);
        let read = records(&bytes, |record| match record {
            Record::Schema { header, .. } => {
                schemas.insert(header.id, header.name);
            }
            Record::Channel(channel) => {
                let schema = schemas.get(&channel.schema_id);
                let name = schema.cloned().unwrap_or_default();
                found.channels.entry(channel.id).or_insert_with(|| Channel {
                    own: ChannelType::from_metadata(&channel.metadata),
                    name: channel.topic,
                    encoding: channel.message_encoding,
                    schema_name: name,
                    messages: 0,
                    bytes: 0,
                    published: None,
                });
            }
            Record::Message { header, data } => {
                let Some(channel) = found.channels.get_mut(&header.channel_id) else {
                    unknown += 1;
                    return;
                };
                channel.messages += 1;
                channel.bytes += data.len() as u64;
                Span::include(&mut channel.published, header.publish_time);
                found.messages += 1;
                Span::include(&mut published, header.publish_time);
                Span::include(&mut logged, header.log_time);
            }
            _ => {}
        });
        self.found.published = Span::join(self.found.published, published);
        self.found.logged = Span::join(self.found.logged, logged);
        if unknown > 0 {
            self.damage(
                at.start,
                &format!("{unknown} messages are of unknown channels"),
            );
        }
        if let Err(what) = read {
            self.damage(at.start, &what);
        } else if let (Some(published), Some(logged)) = (published, logged) {
            self.found.blocks.push(Block {
                at,
                published,
                logged,
            });
        }
    }
}

impl Scanned {
    /// The records of metadata that are called so.
    pub(crate) fn metadata<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = &'a BTreeMap<String, String>> {
        let all = self.metadata.iter();
        all.filter(move |metadata| metadata.name == name)
            .map(|metadata| &metadata.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recording::tests::file;
    use super::*;
    use mcap::Compression;
    use std::fs;

    #[test]
    fn a_file_that_is_cut_anywhere_is_read_up_to_its_last_chunk() {
        let place = tempfile::tempdir().unwrap();
        for compression in [None, Some(Compression::Zstd), Some(Compression::Lz4)] {
            let path = place.path().join(format!("{compression:?}.mcap"));
            let whole = file(&path, 200, compression);
            let bytes = fs::read(&path).unwrap();
            let cut = place.path().join("cut.mcap");
            let mut before = 0;
            for part in 1..=50 {
                let length = bytes.len() * part / 50;
                fs::write(&cut, &bytes[..length]).unwrap();
                let scanned = scan(&cut, |_, _| {}).unwrap();
                assert_eq!(scanned.is_closed, part == 50);
                assert_eq!(scanned.damage.is_empty(), part == 50, "{part} {scanned:?}");
                assert!(scanned.messages >= before);
                before = scanned.messages;
                let chunks = whole.blocks.iter();
                let inside = chunks.filter(|block| block.at.end <= length as u64);
                assert_eq!(scanned.blocks.len(), inside.count());
            }
            assert_eq!(before, 200);
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_is_read_as_far_as_it_makes_sense() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run.mcap");
        file(&path, 60, Some(Compression::Zstd));
        let bytes = fs::read(&path).unwrap();
        let changed = place.path().join("changed.mcap");
        for at in (mcap::MAGIC.len()..bytes.len()).step_by(7) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0xff;
            fs::write(&changed, &bytes).unwrap();
            let scanned = scan(&changed, |_, _| {}).unwrap();
            assert!(scanned.messages <= 60, "{at} {scanned:?}");
        }
    }

    #[test]
    fn a_chunk_that_is_damaged_is_left_out_and_told() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run.mcap");
        let whole = file(&path, 100, None);
        let mut bytes = fs::read(&path).unwrap();
        let second = &whole.blocks[1];
        let last = second.at.end as usize - 1;
        bytes[last] ^= 0xff;
        fs::write(&path, &bytes).unwrap();
        let scanned = scan(&path, |_, _| {}).unwrap();
        assert!(scanned.is_closed);
        assert_eq!(scanned.blocks.len(), whole.blocks.len() - 1);
        assert!(scanned.damage[0].contains("CRC"), "{scanned:?}");
    }

    #[test]
    fn files_of_other_programs_without_chunks_are_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("other.mcap");
        let output = std::io::BufWriter::new(fs::File::create(&path).unwrap());
        let options = mcap::WriteOptions::new()
            .use_chunks(false)
            .compression(None);
        let mut writer = options.create(output).unwrap();
        let none = BTreeMap::new();
        let channel = writer.add_channel(0, "/chatter", "cdr", &none).unwrap();
        for n in 0..10 {
            let header = mcap::records::MessageHeader {
                channel_id: channel,
                sequence: n,
                log_time: u64::from(n),
                publish_time: u64::from(n),
            };
            writer.write_to_known_channel(&header, b"cdr").unwrap();
        }
        writer.finish().unwrap();
        drop(writer);
        let scanned = scan(&path, |_, _| {}).unwrap();
        assert_eq!((scanned.messages, scanned.chunks), (10, 0));
        assert!(
            scanned.is_closed && scanned.damage.is_empty(),
            "{scanned:?}"
        );
        let [channel] = &scanned.channels.values().cloned().collect::<Vec<_>>()[..] else {
            panic!("{scanned:?}");
        };
        assert_eq!(channel.encoding, "cdr");
        assert_eq!(channel.own, Ok(None));
    }
}
