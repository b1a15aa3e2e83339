//! Who publishes the messages of which channel.

use super::channel::{ChannelType, Form};
use super::parse::Patterns;
use super::parts;
use super::scan::{Channel, Message, Scanned};
use crate::meeting::{self, Meeting};
use crate::session::Session;
use crate::values::Values;
use crate::world::World;
use mproc::{CLOCK, CodecKind, Error, ErrorKind, PublisherOptions, RawPublisher, TypeInfo};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Which topics are played, and under which names.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// All if there are none.
    pub(crate) topics: Patterns,
    pub(crate) excluded: Patterns,
    pub(crate) remap: Vec<(String, String)>,
}

impl Selection {
    fn has(&self, topic: &str) -> bool {
        (self.topics.is_empty() || self.topics.first(topic).is_some())
            && self.excluded.first(topic).is_none()
    }

    fn name(&self, topic: &str) -> String {
        let new = self.remap.iter().find(|(old, _)| old == topic);
        new.map_or_else(|| topic.to_owned(), |(_, new)| new.clone())
    }
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) published: u64,
    /// Subscribers that were full and had said that they are to be left out then.
    pub(crate) refused: u64,
    /// A subscriber that waits for all had no room within the limit.
    pub(crate) timed_out: u64,
    /// The message is none of its type.
    pub(crate) unreadable: u64,
    /// The topic does not take it any more.
    pub(crate) failed: u64,
}

/// One publisher.
pub(crate) struct Outlet {
    pub(crate) topic: String,
    pub(crate) sent: Sent,
    /// The last error, for people.
    pub(crate) error: Option<String>,
    publisher: RawPublisher,
    values: Values,
    /// The parts of the value with this sequence number, which comes next.
    parts: Option<(u32, Vec<u8>)>,
}

/// A channel that is not played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) channel: String,
    pub(crate) messages: u64,
    pub(crate) why: String,
}

/// All publishers, and which channel each is for.
pub(crate) struct Outlets {
    pub(crate) all: Vec<Outlet>,
    pub(crate) skipped: Vec<Skipped>,
    /// By file and channel.
    ways: Vec<BTreeMap<u16, (usize, Form)>>,
}

impl Outlets {
    /// Makes a publisher for each channel that is selected and can be played.
    pub(crate) fn new(
        session: &Session,
        files: &[Scanned],
        selection: &Selection,
        world: &World,
    ) -> Self {
        let mut outlets = Self {
            all: Vec::new(),
            skipped: Vec::new(),
            ways: Vec::new(),
        };
        let mut known = HashMap::<(String, u64, u32), usize>::new();
        for file in files {
            let mut ways = BTreeMap::new();
            for (id, channel) in &file.channels {
                let way = outlets.way(session, channel, selection, world, &mut known);
                match way {
                    Ok(Some(way)) => {
                        ways.insert(*id, way);
                    }
                    Ok(None) => {}
                    Err(why) => outlets.skipped.push(Skipped {
                        channel: channel.name.clone(),
                        messages: channel.messages,
                        why,
                    }),
                }
            }
            outlets.ways.push(ways);
        }
        outlets
    }

    /// `None` if it is not selected. The error says why it cannot be played.
    fn way(
        &mut self,
        session: &Session,
        channel: &Channel,
        selection: &Selection,
        world: &World,
        known: &mut HashMap<(String, u64, u32), usize>,
    ) -> Result<Option<(usize, Form)>, String> {
        let own = channel.own.clone()?;
        let topic = own.as_ref().map_or(&channel.name, |own| &own.topic);
        if !selection.has(topic) {
            return Ok(None);
        }
        if topic == CLOCK.name() {
            return Err("domain time is driven with --clock".to_owned());
        }
        let name = selection.name(topic);
        let (info, form, publisher) = match own {
            Some(ChannelType {
                info,
                form,
                publisher,
                ..
            }) => (info, form, publisher),
            None => {
                let (info, form) = foreign(channel, &name, world)?;
                (info, form, 0)
            }
        };
        let values = Values::new(&info);
        if matches!(form, Form::Json | Form::JsonValue) && !values.is_readable() {
            return Err(format!("values of type {} have no schema", info.type_name));
        }
        let key = (name.clone(), info.type_hash, publisher);
        if let Some(outlet) = known.get(&key) {
            return Ok(Some((*outlet, form)));
        }
        let publisher = session
            .raw_publisher(&name, &info, PublisherOptions::new())
            .map_err(|error| error.to_string())?;
        let outlet = self.all.len();
        known.insert(key, outlet);
        self.all.push(Outlet {
            topic: name,
            sent: Sent::default(),
            error: None,
            publisher,
            values,
            parts: None,
        });
        Ok(Some((outlet, form)))
    }

    /// Publishes a message of a file. Returns false if it is not one to be played: its channel is left out, or it has the
    /// parts of the next.
    pub(crate) fn play(&mut self, file: usize, message: Message) -> bool {
        let way = self
            .ways
            .get(file)
            .and_then(|ways| ways.get(&message.channel));
        let Some((outlet, form)) = way.copied() else {
            return false;
        };
        let outlet = &mut self.all[outlet];
        if form == Form::Parts {
            outlet.parts = Some((message.sequence, message.data));
            return false;
        }
        outlet.play(form, &message);
        true
    }

    /// True if the next message of that channel is one that is published.
    pub(crate) fn is_played(&self, file: usize, channel: u16) -> bool {
        let way = self.ways.get(file).and_then(|ways| ways.get(&channel));
        way.is_some_and(|(_, form)| *form != Form::Parts)
    }

    /// What became of all messages.
    pub(crate) fn sent(&self) -> Sent {
        let mut all = Sent::default();
        for Outlet { sent, .. } in &self.all {
            all.published += sent.published;
            all.refused += sent.refused;
            all.timed_out += sent.timed_out;
            all.unreadable += sent.unreadable;
            all.failed += sent.failed;
        }
        all
    }
}

impl Outlets {
    /// Whom each publisher is going to meet.
    pub(crate) fn meetings(&self, world: &World) -> Vec<Meeting<'_>> {
        let all = self.all.iter().map(|outlet| Meeting {
            publisher: &outlet.publisher,
            expected: meeting::expected(world, &outlet.topic, outlet.values.info()),
        });
        all.collect()
    }
}

impl Outlet {
    pub(crate) fn wait_for_subscribers(&self, count: usize, limit: Duration) -> Result<(), Error> {
        self.publisher.wait_for_subscribers(count, limit)
    }

    pub(crate) fn flush(&self, limit: Duration) -> Result<(), Error> {
        self.publisher.flush(limit)
    }

    fn play(&mut self, form: Form, message: &Message) {
        let parts = self.parts.take();
        let parts = parts.filter(|(sequence, _)| *sequence == message.sequence);
        let parts = parts.as_ref().map(|(_, parts)| parts::split(parts));
        let bytes = self.bytes(form, &message.data);
        let (bytes, parts) = match (bytes, parts) {
            (Ok(bytes), Some(Some(parts))) => (bytes, parts),
            (Ok(bytes), None) => (bytes, Vec::new()),
            (Ok(_), Some(None)) => {
                self.sent.unreadable += 1;
                self.error = Some("the parts of a value cannot be read".to_owned());
                return;
            }
            (Err(why), _) => {
                self.sent.unreadable += 1;
                self.error = Some(why);
                return;
            }
        };
        let bytes = bytes.as_deref().unwrap_or(&message.data);
        match self.publisher.publish(bytes, &parts) {
            Ok(delivered) => {
                self.sent.published += 1;
                self.sent.refused += delivered.refused.len() as u64;
            }
            Err(error) => {
                let error = Error::from(error);
                match error.kind() {
                    ErrorKind::Timeout => self.sent.timed_out += 1,
                    ErrorKind::Codec => self.sent.unreadable += 1,
                    _ => self.sent.failed += 1,
                }
                self.error = Some(error.to_string());
            }
        }
    }

    /// The bytes in which a message travels: `None` if these are its own.
    fn bytes(&self, form: Form, data: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if form == Form::Bytes || form == Form::Parts {
            return Ok(None);
        }
        let value: Value = serde_json::from_slice(data).map_err(|error| error.to_string())?;
        let value = match (form, value) {
            (Form::JsonValue, Value::Object(mut fields)) => fields
                .remove("value")
                .ok_or("the message has no \"value\"")?,
            (_, value) => value,
        };
        let bytes = self.values.write(&value);
        bytes.map(Some).map_err(|error| error.to_string())
    }
}

/// How a channel that another program has written can be played: as the topic of that name in the domain, else as a type
/// that is called as its schema.
fn foreign(channel: &Channel, topic: &str, world: &World) -> Result<(TypeInfo, Form), String> {
    let form = match channel.encoding.as_str() {
        "json" => Form::Json,
        "msgpack" => Form::Bytes,
        other => {
            return Err(format!(
                "another program wrote it, in encoding {other:?}; of those, json and msgpack can be played"
            ));
        }
    };
    let topics = world.topics();
    let known = topics.iter().find(|known| known.name == topic);
    let info = match known.and_then(|known| known.info()) {
        Some(info) => info.clone(),
        None if channel.schema_name.is_empty() => {
            return Err(format!(
                "its type is not known: it has no schema, and the domain has no topic {topic:?}"
            ));
        }
        None => TypeInfo::serde(&channel.schema_name),
    };
    if form == Form::Bytes && info.codec != CodecKind::Serde {
        return Err(format!("topic {topic:?} is not one of MessagePack"));
    }
    Ok((info, form))
}
