//! Who publishes bytes, and what is checked of them.

use super::told::TYPE_NAME_BYTES_MAX;
use super::{Raw, TypeInfo, intern, messagepack, tap};
use crate::codec::CodecKind;
use crate::error::PublishError;
use crate::events::Event;
use crate::fan_out::Delivered;
use crate::graph::{Graph, is_internal};
use crate::id::PublisherId;
use crate::publisher::{Publisher, PublisherOptions, Wait};
use crate::schema::Schema;
use crate::snapshot::PublisherSnapshot;
use crate::topic::{self, Topic};
use mproc_runtime::{Error, ErrorKind, Runtime};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Publishes bytes on a topic whose Rust type this program does not have. Cheap to clone: clones are one publisher, with
/// one sequence. Dropping the last one ends it; what is queued is still delivered.
///
/// See [`Graph::raw_publisher`].
#[derive(Clone)]
pub struct RawPublisher {
    to: Arc<dyn RawSink>,
    check: Arc<Check>,
    topic: Arc<str>,
}

/// Where bytes go: to a topic that is declared without its type, or, decoded, to one that is declared with it.
pub(crate) trait RawSink: Send + Sync {
    fn publish(&self, bytes: &[u8], parts: Vec<Vec<u8>>, wait: Wait) -> Published;
    fn wait_for_subscribers(&self, count: usize, limit: Duration) -> Result<(), Error>;
    fn subscriber_count(&self) -> usize;
    fn flush(&self, limit: Duration) -> Result<(), Error>;
    fn close(&self);
    fn id(&self) -> PublisherId;
    fn snapshot(&self) -> PublisherSnapshot;
}

type Published = Result<Delivered, PublishError<()>>;

/// Publishes bytes as they are.
struct AsTheyAre {
    publisher: Publisher<Raw>,
    info: Arc<TypeInfo>,
}

/// Publishes what bytes are decoded to.
pub(crate) struct Decoding<T: ?Sized + Send + Sync + 'static>(pub(crate) Publisher<T>);

/// What bytes must be.
enum Check {
    MessagePack,
    /// A value of this schema, if it is known.
    Value(Option<Schema>),
    /// Any number of them.
    Values(Option<Schema>),
}

impl Check {
    fn of(info: &TypeInfo) -> Self {
        match info.codec {
            CodecKind::Plain => Self::Value(Schema::of(info)),
            CodecKind::Slices => Self::Values(Schema::of(info)),
            CodecKind::Serde | CodecKind::Local => Self::MessagePack,
        }
    }

    fn check(&self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::MessagePack => messagepack::check(bytes)
                .map_err(|wrong| format!("the bytes are not one value of MessagePack: {wrong}")),
            Self::Value(Some(schema)) => schema.check(bytes).map_err(|wrong| wrong.to_string()),
            Self::Values(Some(schema)) => schema
                .check_values(bytes)
                .map_err(|wrong| wrong.to_string()),
            Self::Value(None) | Self::Values(None) => Ok(()),
        }
    }
}

fn refused(error: Error) -> PublishError<()> {
    PublishError::Refused { value: (), error }
}

impl RawSink for AsTheyAre {
    fn publish(&self, bytes: &[u8], parts: Vec<Vec<u8>>, wait: Wait) -> Published {
        if self.publisher.is_idle() {
            return Ok(Delivered::default());
        }
        let raw = Raw::own(&self.info, bytes);
        let published = self.publisher.publish_value(raw, parts, wait, None);
        published.map_err(|error| error.map(drop))
    }

    fn wait_for_subscribers(&self, count: usize, limit: Duration) -> Result<(), Error> {
        self.publisher.wait_for_subscribers(count, limit)
    }

    fn subscriber_count(&self) -> usize {
        self.publisher.subscriber_count()
    }

    fn flush(&self, limit: Duration) -> Result<(), Error> {
        self.publisher.flush(limit)
    }

    fn close(&self) {
        self.publisher.close();
    }

    fn id(&self) -> PublisherId {
        self.publisher.id()
    }

    fn snapshot(&self) -> PublisherSnapshot {
        self.publisher.snapshot()
    }
}

impl<T: ?Sized + Send + Sync + 'static> RawSink for Decoding<T> {
    fn publish(&self, bytes: &[u8], parts: Vec<Vec<u8>>, wait: Wait) -> Published {
        let value = self.0.codec().decode(bytes);
        let value = value.map_err(|error| {
            let text = format!("cannot publish on {:?}: {error}", self.0.topic_label());
            refused(Error::new(ErrorKind::Codec, text))
        })?;
        let published = self.0.publish_boxed_with(value, parts, wait, None);
        published.map_err(|error| error.map(drop))
    }

    fn wait_for_subscribers(&self, count: usize, limit: Duration) -> Result<(), Error> {
        self.0.wait_for_subscribers(count, limit)
    }

    fn subscriber_count(&self) -> usize {
        self.0.subscriber_count()
    }

    fn flush(&self, limit: Duration) -> Result<(), Error> {
        self.0.flush(limit)
    }

    fn close(&self) {
        self.0.close();
    }

    fn id(&self) -> PublisherId {
        self.0.id()
    }

    fn snapshot(&self) -> PublisherSnapshot {
        self.0.snapshot()
    }
}

impl Graph {
    /// A publisher of bytes on the topic `name`, which has values of the type that `info` describes. Typed subscribers of other
    /// processes whose type has this hash get them as values, and taps as bytes. `name` may be the text of an id (`7:1`).
    ///
    /// Declared this way, the topic has no Rust type in this process: a typed publisher or subscription of it is refused, and
    /// so is one of another `info`; who subscribes to dynamic messages gets samples of [`Raw`]. If it was declared with its Rust type before, bytes are decoded here, on the publishing
    /// thread, and published as values.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::TypeConflict`], naming both: the topic has another type, or its values travel otherwise.
    /// - [`ErrorKind::InvalidName`]: no topic has this name, or it is one of the library's own, under `mproc/`.
    /// - [`ErrorKind::InvalidSetting`]: values of a local topic have no bytes; the schema is none; the type's name has more
    ///   than 1,024 bytes; a bound of 0 samples in flight.
    /// - [`ErrorKind::Closed`]: the node has ended. [`ErrorKind::Io`]: it belongs to a domain and cannot join it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_pubsub::{Graph, PublisherOptions, Topic, TypeInfo};
    /// use mproc_runtime::Runtime;
    ///
    /// const WORDS: Topic<String> = Topic::new("words");
    ///
    /// let node = Runtime::simulated(1);
    /// let graph = Graph::of(&node);
    /// let words = graph.subscription(&node, &WORDS)?;
    /// let info = TypeInfo::serde("String");
    /// let raw = graph.raw_publisher(&node, "words", &info, PublisherOptions::new())?;
    /// raw.publish(b"\xa5hello", &[])?;
    /// assert_eq!(*words.recv().wait()?, "hello");
    ///
    /// let refused = raw.publish(b"\xa5hell", &[]).unwrap_err();
    /// assert!(refused.to_string().ends_with("byte 5: the bytes end inside a value"));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn raw_publisher(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
        info: &TypeInfo,
        options: PublisherOptions,
    ) -> Result<RawPublisher, Error> {
        let cannot = format!("cannot publish on {name:?}");
        let (name, id) = tap::named(&cannot, name)?;
        check_info(&cannot, name, info)?;
        if options.allows_nothing() {
            let text = format!("{cannot}: a bound on samples in flight must be at least 1, not 0");
            return Err(Error::new(ErrorKind::InvalidSetting, text));
        }
        self.check_here()?;
        let made = RawPublisher {
            check: Arc::new(Check::of(info)),
            topic: topic::label(name, id).into(),
            to: match self.decoding(runtime, &cannot, (name, id), info, options)? {
                Some(decoding) => decoding,
                None => {
                    let topic = Topic::raw(name, id, intern(info));
                    let publisher = self.publisher_with(runtime, &topic, options)?;
                    let info = Arc::new(info.clone());
                    Arc::new(AsTheyAre { publisher, info })
                }
            },
        };
        Ok(made)
    }

    /// A publisher of values, if the topic was declared with its type.
    fn decoding(
        self: &Arc<Self>,
        runtime: &Runtime,
        cannot: &str,
        (name, id): (&'static str, crate::TopicId),
        info: &TypeInfo,
        options: PublisherOptions,
    ) -> Result<Option<Arc<dyn RawSink>>, Error> {
        // Of another name: declaring it again says what is wrong.
        let Some(known) = self.find(id).filter(|known| known.name() == name) else {
            return Ok(None);
        };
        let theirs = known.info();
        if theirs.codec != info.codec || theirs.type_hash != info.type_hash {
            let text = format!(
                "{cannot}: it has type {} that travels as {:?}, not {} as {:?}, or these have other layouts",
                theirs.type_name, theirs.codec, info.type_name, info.codec
            );
            return Err(Error::new(ErrorKind::TypeConflict, text));
        }
        let Some(made) = known.clone().decoding_publisher(self, runtime, options) else {
            return Ok(None);
        };
        self.offer(runtime, id)?;
        self.tell(Event::PublisherMatched {
            topic: known.label(),
            publishers: known.publisher_count(),
        });
        Ok(Some(made))
    }
}

fn check_info(cannot: &str, name: &str, info: &TypeInfo) -> Result<(), Error> {
    let wrong = |kind, what: String| Err(Error::new(kind, format!("{cannot}: {what}")));
    if is_internal(name) {
        let what = "names under \"mproc/\" are the library's own".to_owned();
        return wrong(ErrorKind::InvalidName, what);
    }
    if info.codec == CodecKind::Local {
        let what = "values of a local topic have no bytes".to_owned();
        return wrong(ErrorKind::InvalidSetting, what);
    }
    if info.type_name.len() > TYPE_NAME_BYTES_MAX {
        let bytes = info.type_name.len();
        let what = format!("the type's name has {bytes} bytes, more than {TYPE_NAME_BYTES_MAX}");
        return wrong(ErrorKind::InvalidSetting, what);
    }
    if let (Some(schema), CodecKind::Plain | CodecKind::Slices) = (&info.schema, info.codec)
        && let Err(error) = Schema::parse(schema)
    {
        return wrong(ErrorKind::InvalidSetting, error.to_string());
    }
    Ok(())
}

/// That the schema of a topic is one of its type.
pub(crate) fn check_schema<T: ?Sized + 'static>(topic: &Topic<T>) -> Result<(), Error> {
    let Some(schema) = topic.schema() else {
        return Ok(());
    };
    let wrong = |what: String| {
        let text = format!("cannot declare topic {:?}: {what}", topic.label());
        Err(Error::new(ErrorKind::InvalidSetting, text))
    };
    let Some(bytes) = topic.codec_ref().value_bytes() else {
        return wrong("it has a schema, and its values are no plain data".to_owned());
    };
    match Schema::parse(schema) {
        Err(error) => wrong(error.to_string()),
        Ok(schema) if schema.bytes() != bytes => wrong(format!(
            "its schema has {} bytes, and its type {bytes}",
            schema.bytes()
        )),
        Ok(_) => Ok(()),
    }
}

impl RawPublisher {
    /// Publishes a value, given as its bytes, with `parts` that travel with it. Waits for room as
    /// [`Publisher::publish`].
    ///
    /// The bytes are checked as far as that is possible: MessagePack must be one value, with nothing after it; plain data must
    /// have as many bytes as its schema says, if one is [known](Schema::of). That MessagePack has the right fields only the
    /// receivers know: who cannot decode a value drops it as [`Undecodable`](mproc_runtime::DropCause::Undecodable).
    ///
    /// # Errors
    ///
    /// Nobody got the value. [`PublishError::Refused`] with [`ErrorKind::Codec`], saying what is wrong: it is no value of the
    /// type. The rest as [`Publisher::publish`].
    ///
    /// # Deadlocks
    ///
    /// As [`Publisher::publish`].
    pub fn publish(&self, bytes: &[u8], parts: &[&[u8]]) -> Result<Delivered, PublishError<()>> {
        self.publish_waiting(bytes, parts, Wait::Limit)
    }

    /// As [`publish`](Self::publish), waiting at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    ///
    /// # Deadlocks
    ///
    /// As [`Publisher::publish_timeout`].
    pub fn publish_timeout(
        &self,
        bytes: &[u8],
        parts: &[&[u8]],
        limit: Duration,
    ) -> Result<Delivered, PublishError<()>> {
        self.publish_waiting(bytes, parts, Wait::AtMost(limit))
    }

    /// As [`publish`](Self::publish), without waiting.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); [`PublishError::Full`] if a `Wait` subscription has no room.
    pub fn try_publish(
        &self,
        bytes: &[u8],
        parts: &[&[u8]],
    ) -> Result<Delivered, PublishError<()>> {
        self.publish_waiting(bytes, parts, Wait::No)
    }

    fn publish_waiting(&self, bytes: &[u8], parts: &[&[u8]], wait: Wait) -> Published {
        self.check.check(bytes).map_err(|what| {
            let text = format!("cannot publish on {:?}: {what}", &*self.topic);
            refused(Error::new(ErrorKind::Codec, text))
        })?;
        let parts = parts.iter().map(|part| part.to_vec()).collect();
        self.to.publish(bytes, parts, wait)
    }

    /// Waits until at least `count` subscriptions listen, at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`Publisher::wait_for_subscribers`].
    ///
    /// # Deadlocks
    ///
    /// As [`Publisher::wait_for_subscribers`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by waiting, and it can be waited for again.
    pub fn wait_for_subscribers(&self, count: usize, limit: Duration) -> Result<(), Error> {
        self.to.wait_for_subscribers(count, limit)
    }

    /// How many subscriptions a value would reach now.
    pub fn subscriber_count(&self) -> usize {
        self.to.subscriber_count()
    }

    /// Waits until every sample of every value has been given back, at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`Publisher::flush`].
    ///
    /// # Deadlocks
    ///
    /// As [`Publisher::flush`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by waiting, and it can be waited for again.
    pub fn flush(&self, limit: Duration) -> Result<(), Error> {
        self.to.flush(limit)
    }

    /// Ends it, also for its clones. What is queued is still delivered.
    pub fn close(&self) {
        self.to.close();
    }

    /// The publisher's id.
    pub fn id(&self) -> PublisherId {
        self.to.id()
    }

    /// The name of its topic, or its id as text.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What is known of it now.
    pub fn snapshot(&self) -> PublisherSnapshot {
        self.to.snapshot()
    }
}

impl fmt::Debug for RawPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawPublisher({} on {:?})", self.id().get(), &*self.topic)
    }
}
