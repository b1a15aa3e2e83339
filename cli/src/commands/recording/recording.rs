//! What is recorded: topics, channels, and when one file follows another.

use super::channel::{ChannelType, Form, codec_name};
use super::file::{Closed, File, FileOptions};
use super::times::Times;
use super::topic::{Counts, Encoding, Topic};
use super::{parts, times};
use crate::failure::Outcome;
use mcap::records::MessageHeader;
use mproc::TypeInfo;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// When one file follows another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// A file with as many bytes is full.
    pub(crate) bytes_max: Option<u64>,
    /// A file that began so long ago is full.
    pub(crate) span_ns_max: Option<u64>,
    /// Another file follows one that is full. Without it the recording is over.
    pub(crate) is_split: bool,
}

/// One sample, as it is recorded.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    /// Which publisher of the topic, from 1.
    pub(crate) publisher: u32,
    pub(crate) sequence: u64,
    pub(crate) published_ns: u64,
    pub(crate) logged_ns: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) parts: &'a [&'a [u8]],
}

/// Whether a sample was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    Yes,
    /// It was left out: see [`Counts::unreadable`].
    No,
    /// The file is full, and no other follows.
    Full,
}

/// All that is recorded, over all files.
pub(crate) struct Recording {
    path: PathBuf,
    options: FileOptions,
    limits: Limits,
    encoding: Encoding,
    times: Times,
    domain: String,
    topics: Vec<Topic>,
    /// By name and type hash.
    numbers: HashMap<String, Vec<(u64, usize)>>,
    file: Option<File>,
    /// Of the file that is open: when it began, and what its channels are.
    began_ns: u64,
    channels: HashMap<(usize, u32, Form), u16>,
    /// Of the last file.
    number: usize,
    closed: Vec<Closed>,
    /// The value as JSON.
    text: Vec<u8>,
    messages: u64,
}

/// `run_002.mcap` is the second file of `run.mcap`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|e| e.to_string_lossy());
    let extension = extension.map_or_else(String::new, |e| format!(".{e}"));
    path.with_file_name(format!("{stem}_{number:03}{extension}"))
}

impl Recording {
    /// Creates the first file.
    pub(crate) fn create(
        path: &Path,
        options: FileOptions,
        limits: Limits,
        encoding: Encoding,
        times: Times,
        domain: &str,
    ) -> Outcome<Self> {
        let mut recording = Self {
            path: path.to_owned(),
            options,
            limits,
            encoding,
            times,
            domain: domain.to_owned(),
            topics: Vec::new(),
            numbers: HashMap::new(),
            file: None,
            began_ns: times.unix_ns(),
            channels: HashMap::new(),
            closed: Vec::new(),
            number: 0,
            text: Vec::new(),
            messages: 0,
        };
        // A chunk is not divided between files.
        if let Some(bytes_max) = limits.bytes_max {
            let chunk_bytes = recording.options.chunk_bytes;
            recording.options.chunk_bytes = chunk_bytes.min((bytes_max / 4).max(1024));
        }
        recording.open(times.unix_ns())?;
        Ok(recording)
    }

    fn open(&mut self, now_ns: u64) -> Outcome {
        self.number += 1;
        // A later number that an older recording has left is passed over: what is recorded now must not end for it.
        while self.number > 1
            && !self.options.overwrite
            && numbered(&self.path, self.number).exists()
        {
            self.number += 1;
        }
        let path = if self.limits.is_split {
            numbered(&self.path, self.number)
        } else {
            self.path.clone()
        };
        self.file = Some(File::create(&path, &self.options)?);
        self.began_ns = now_ns;
        self.channels.clear();
        Ok(())
    }

    /// The file that is written now, or the last.
    pub(crate) fn path(&self) -> &Path {
        let closed = || self.closed.last().map(|closed| closed.path.as_path());
        let open = self.file.as_ref().map(File::path);
        open.or_else(closed).unwrap_or(&self.path)
    }

    pub(crate) fn topics(&self) -> &[Topic] {
        &self.topics
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// In all files, with what waits to be compressed.
    pub(crate) fn bytes(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|closed| closed.bytes).sum();
        closed + self.file.as_ref().map_or(0, File::bytes)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.topics.iter().map(|topic| topic.counts().dropped).sum()
    }

    /// The number of a topic that is known.
    pub(crate) fn number(&self, name: &str, type_hash: u64) -> Option<usize> {
        let known = self.numbers.get(name)?;
        // The last one is that of which most is known.
        known
            .iter()
            .rev()
            .find(|(hash, _)| *hash == type_hash)
            .map(|(_, number)| *number)
    }

    /// Adds a topic, which is not known, with all that is known of its type. Returns its number.
    pub(crate) fn add(&mut self, name: &str, info: &TypeInfo) -> usize {
        let number = self.topics.len();
        self.topics.push(Topic::new(name, info));
        let same_name = self.numbers.entry(name.to_owned()).or_default();
        same_name.push((info.type_hash, number));
        number
    }

    pub(crate) fn count_dropped(&mut self, number: usize, count: u64) {
        self.topics[number].now.dropped += count;
    }

    pub(crate) fn count_throttled(&mut self, number: usize) {
        self.topics[number].now.throttled += 1;
    }

    fn is_full(&self, now_ns: u64) -> bool {
        let bytes = self.file.as_ref().map_or(0, File::bytes);
        self.limits.bytes_max.is_some_and(|max| bytes >= max)
            || self
                .limits
                .span_ns_max
                .is_some_and(|max| now_ns.saturating_sub(self.began_ns) >= max)
    }

    /// Writes a sample of the topic with this number.
    pub(crate) fn write(&mut self, number: usize, sample: &Incoming<'_>) -> Outcome<Wrote> {
        if self.is_full(sample.logged_ns) {
            if !self.limits.is_split {
                return Ok(Wrote::Full);
            }
            self.close_file()?;
            self.open(sample.logged_ns)?;
        }
        let mut text = std::mem::take(&mut self.text);
        let done = self.write_as(number, sample, &mut text);
        self.text = text;
        done
    }

    fn write_as(
        &mut self,
        number: usize,
        sample: &Incoming<'_>,
        text: &mut Vec<u8>,
    ) -> Outcome<Wrote> {
        let form = self.topics[number].form(self.encoding, sample.bytes, text);
        let Some(form) = form else {
            self.topics[number].now.unreadable += 1;
            return Ok(Wrote::No);
        };
        let data = match form {
            Form::Bytes | Form::Parts => sample.bytes,
            Form::Json | Form::JsonValue => text,
        };
        let mut bytes = data.len();
        if !sample.parts.is_empty() {
            let parts = parts::join(sample.parts);
            bytes += parts.len();
            self.write_message(number, Form::Parts, sample, &parts)?;
        }
        self.write_message(number, form, sample, data)?;
        let counts = &mut self.topics[number].now;
        counts.messages += 1;
        counts.bytes += bytes as u64;
        self.messages += 1;
        Ok(Wrote::Yes)
    }

    fn write_message(
        &mut self,
        number: usize,
        form: Form,
        sample: &Incoming<'_>,
        data: &[u8],
    ) -> Outcome {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let key = (number, sample.publisher, form);
        let channel = match self.channels.get(&key) {
            Some(channel) => *channel,
            None => {
                let topic = &self.topics[number];
                let channel = ChannelType {
                    topic: topic.name.clone(),
                    info: topic.info.clone(),
                    form,
                    publisher: sample.publisher,
                };
                let schema = topic.json_schema(form, data);
                let schema = schema
                    .as_ref()
                    .map(|text| (topic.info.type_name.as_str(), "jsonschema", text.as_bytes()));
                let id = file.channel(&channel, schema)?;
                self.channels.insert(key, id);
                id
            }
        };
        let header = MessageHeader {
            channel_id: channel,
            // The low bits: the format has no more.
            sequence: sample.sequence as u32,
            log_time: sample.logged_ns,
            publish_time: sample.published_ns,
        };
        file.write(&header, data)
    }

    /// Has all that was recorded so far in the file.
    pub(crate) fn flush(&mut self) -> Outcome {
        match &mut self.file {
            Some(file) => file.flush(),
            None => Ok(()),
        }
    }

    fn close_file(&mut self) -> Outcome {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let dropped: u64 = self.topics.iter().map(|topic| topic.now.dropped).sum();
        let now_ns = times::unix_now_ns();
        let mut all = BTreeMap::new();
        let mut put = |key: &str, text: String| all.insert(key.to_owned(), text);
        put("mproc_version", env!("CARGO_PKG_VERSION").to_owned());
        put("domain", self.domain.clone());
        put("file", (self.closed.len() + 1).to_string());
        put("closed_unix_ns", now_ns.to_string());
        put("dropped", dropped.to_string());
        // All times are that of the pair plus what the steady clock has gone since. The drift is what the time of day differs
        // by then.
        put("clock_pair_unix_ns", self.times.unix_ns().to_string());
        put("clock_drift_ns", self.times.drift_ns().to_string());
        file.metadata("mproc/recording", all)?;
        for topic in &mut self.topics {
            let counts = std::mem::take(&mut topic.now);
            topic.before.add(&counts);
            if counts == Counts::default() {
                continue;
            }
            let mut all = counts.to_metadata();
            let mut put = |key: &str, text: &str| all.insert(key.to_owned(), text.to_owned());
            put("topic", &topic.name);
            put("type_name", &topic.info.type_name);
            put("codec", codec_name(topic.info.codec));
            file.metadata("mproc/topic", all)?;
        }
        self.closed.push(file.close()?);
        Ok(())
    }

    /// Closes the last file in order, and returns all of them.
    pub(crate) fn close(&mut self) -> Outcome<&[Closed]> {
        self.close_file()?;
        Ok(&self.closed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::ordered::{Order, Ordered};
    use super::super::scan::{Scanned, scan};
    use super::*;
    use mcap::Compression;
    use std::time::Instant;

    fn recording(path: &Path, limits: Limits, compression: Option<Compression>) -> Recording {
        let options = FileOptions {
            compression,
            chunk_bytes: 1000,
            overwrite: false,
        };
        let times = Times::new(Instant::now(), 0);
        Recording::create(path, options, limits, Encoding::Auto, times, "default").unwrap()
    }

    fn write(recording: &mut Recording, topic: usize, n: u64, bytes: &[u8]) -> Wrote {
        let sample = Incoming {
            publisher: 1,
            sequence: n,
            published_ns: 1_000_000 - n,
            logged_ns: 2_000_000 + n,
            bytes,
            parts: &[],
        };
        recording.write(topic, &sample).unwrap()
    }

    /// A file with `count` messages, which were published in the opposite order.
    pub(crate) fn file(path: &Path, count: u64, compression: Option<Compression>) -> Scanned {
        let mut recording = recording(path, Limits::default(), compression);
        let info = TypeInfo::serde("Text");
        let topic = recording.add("text", &info);
        for n in 0..count {
            let bytes = rmp_serde::to_vec(&format!("{n:050}")).unwrap();
            assert_eq!(write(&mut recording, topic, n, &bytes), Wrote::Yes);
        }
        recording.count_dropped(topic, 7);
        recording.close().unwrap();
        scan(path, |_, _| {}).unwrap()
    }

    #[test]
    fn a_file_says_what_it_holds() {
        let place = tempfile::tempdir().unwrap();
        for compression in [None, Some(Compression::Zstd), Some(Compression::Lz4)] {
            let path = place.path().join(format!("{compression:?}.mcap"));
            let scanned = file(&path, 100, compression);
            assert_eq!(scanned.messages, 100);
            assert!(
                scanned.is_closed && scanned.damage.is_empty(),
                "{scanned:?}"
            );
            assert!(scanned.chunks > 3);
            let of_topic: Vec<_> = scanned.metadata("mproc/topic").collect();
            assert_eq!(of_topic.len(), 1);
            assert_eq!(of_topic[0]["dropped"], "7");
            assert_eq!(of_topic[0]["messages"], "100");
            let of_all: Vec<_> = scanned.metadata("mproc/recording").collect();
            assert_eq!(of_all[0]["dropped"], "7");
            assert_eq!(of_all[0]["domain"], "default");
        }
    }

    #[test]
    fn messages_come_in_either_order() {
        let place = tempfile::tempdir().unwrap();
        let scanned = [file(&place.path().join("a.mcap"), 100, None)];
        let sequences = |order, from, to| -> Vec<u32> {
            let messages = Ordered::new(&scanned, order, from, to);
            messages.map(|next| next.message.sequence).collect()
        };
        assert!(sequences(Order::Log, 0, u64::MAX).into_iter().eq(0..100));
        let opposite = sequences(Order::Publish, 0, u64::MAX);
        assert!(opposite.into_iter().eq((0..100).rev()));
        assert_eq!(sequences(Order::Log, 2_000_010, 2_000_013), [10, 11, 12]);
        assert_eq!(sequences(Order::Publish, 999_990, 999_992), [10, 9]);
    }

    #[test]
    fn files_are_split_and_counted_each_for_itself() {
        let place = tempfile::tempdir().unwrap();
        let limits = Limits {
            bytes_max: Some(20_000),
            span_ns_max: None,
            is_split: true,
        };
        let mut recording = recording(&place.path().join("run.mcap"), limits, None);
        let info = TypeInfo::serde("Text");
        let topic = recording.add("text", &info);
        for n in 0..100 {
            let bytes = rmp_serde::to_vec(&"x".repeat(1000)).unwrap();
            assert_eq!(write(&mut recording, topic, n, &bytes), Wrote::Yes);
        }
        let files = recording.close().unwrap().to_vec();
        assert!((5..=8).contains(&files.len()), "{files:?}");
        assert_eq!(files[0].path, place.path().join("run_001.mcap"));
        assert_eq!(files.iter().map(|file| file.messages).sum::<u64>(), 100);
        for file in &files {
            let scanned = scan(&file.path, |_, _| {}).unwrap();
            assert_eq!(scanned.messages, file.messages);
            let of_topic: Vec<_> = scanned.metadata("mproc/topic").collect();
            assert_eq!(of_topic[0]["messages"], file.messages.to_string());
        }
        assert_eq!(recording.topics()[0].counts().messages, 100);
    }

    #[test]
    fn a_file_that_took_its_time_is_full() {
        let place = tempfile::tempdir().unwrap();
        let limits = Limits {
            bytes_max: None,
            span_ns_max: Some(2_000_003),
            is_split: false,
        };
        let mut recording = recording(&place.path().join("run.mcap"), limits, None);
        let topic = recording.add("text", &TypeInfo::serde("Text"));
        let wrote: Vec<Wrote> = (0..5)
            .map(|n| write(&mut recording, topic, n, &[0xc0]))
            .collect();
        assert_eq!(
            wrote,
            [Wrote::Yes, Wrote::Yes, Wrote::Yes, Wrote::Full, Wrote::Full]
        );
    }
}
