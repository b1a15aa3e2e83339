//! Which topics a tap hears, here and at other nodes.

use super::{Raw, TypeInfo, reading::Bare, told};
use crate::codec::CodecKind;
use crate::graph::{Graph, Matches};
use crate::id::TopicId;
use crate::pattern::Pattern;
use crate::reader::{Reader, RemoteNode};
use crate::remote::Seeks;
use crate::subscription::{Subscription, SubscriptionOptions};
use crate::topic;
use crate::transport::TopicKey;
use mproc_runtime::{Error, ErrorKind, Name, Runtime};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Graph {
    /// A subscription to pull from, to topics of any type, of this process and of others, now and later: values come as the
    /// bytes in which they travel. `pattern` is a name (`camera/frames`), a pattern (`robot/**`), or an id as text (`7:1`),
    /// as [`Topic::label`](crate::Topic::label) gives it. Patterns leave out the library's own topics, under `mproc/`, unless
    /// they begin with `mproc/`; these do not leave their process. Samples of topics that are [connected](Self::connect) to a
    /// tapped one come, too; those of topics of this process only if that one is declared in it.
    ///
    /// It is a subscription as any other, with a queue, a policy, leases and gaps. So publishers wait for it unless the options
    /// say otherwise ([`SubscriptionOptions::when_full`]): with [`DropOldest`](mproc_runtime::WhenFull::DropOldest) a tap that
    /// takes nothing holds nobody back. A filter that looks at the bytes has each value encoded on its publisher's thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] for an impossible name or pattern; [`ErrorKind::InvalidSetting`] for a capacity of 0;
    /// [`ErrorKind::Closed`] if the node has ended; [`ErrorKind::Io`] if it belongs to a domain and cannot join it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_pubsub::{Graph, Schema, SubscriptionOptions, Topic};
    /// use mproc_runtime::Runtime;
    ///
    /// const POINT: Topic<[f32; 2]> = Topic::plain("point");
    ///
    /// let node = Runtime::simulated(1);
    /// let graph = Graph::of(&node);
    /// let tap = graph.tap(&node, "**", SubscriptionOptions::new())?;
    /// graph.publisher(&node, &POINT)?.publish([0.5, 2.0])?;
    ///
    /// let sample = tap.recv().wait()?;
    /// assert_eq!(sample.topic(), "point");
    /// assert_eq!(sample.info().type_name, "[f32; 2]");
    /// assert_eq!(sample.bytes().len(), 8);
    /// assert!(Schema::of(sample.info()).is_some());
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn tap(
        self: &Arc<Self>,
        runtime: &Runtime,
        pattern: &str,
        options: SubscriptionOptions<Raw>,
    ) -> Result<Subscription<Raw>, Error> {
        let (matches, name, id) = if pattern.contains('*') {
            let matches = Matches::Names(Pattern::new(pattern)?);
            // For people, who read who has no room. A pattern may be longer than a name.
            let name = Name::new(pattern).map_or("", |_| topic::intern(pattern));
            (matches, name, TopicId::from_name(pattern))
        } else {
            let (name, id) = named(&format!("cannot tap {pattern:?}"), pattern)?;
            (Matches::Label(pattern.to_owned()), name, id)
        };
        let delivery = options.delivery(runtime, name, id)?;
        let subscription = Subscription::new(self, runtime, delivery.clone());
        self.attach_raw(runtime, matches, pattern, &delivery)?;
        Ok(subscription)
    }
}

/// The topic that is called so: its name, and its id. Of one that is called by id the name is empty.
pub(super) fn named(cannot: &str, label: &str) -> Result<(&'static str, TopicId), Error> {
    Name::new(label)
        .map_err(|error| Error::new(ErrorKind::InvalidName, format!("{cannot}: {error}")))?;
    Ok(match id_of(label) {
        Some(id) => ("", id),
        None => (topic::intern(label), TopicId::from_name(label)),
    })
}

/// The id that this is the text of, as [`Topic::label`](crate::Topic::label) gives it.
pub(crate) fn id_of(label: &str) -> Option<TopicId> {
    let (mid, cmd) = label.split_once(':')?;
    let id = TopicId::new(mid.parse().ok()?, cmd.parse().ok()?);
    // One that is written otherwise ("07:1") is a name, and so is one that no pair has.
    (id.to_string() == label).then_some(id)
}

/// How many names of topics that are not tapped a tap remembers.
const NAMES_MAX: usize = 1 << 16;

/// Topics of other nodes, of any type.
pub(crate) struct AsBytes {
    matches: Arc<Matches>,
    /// What other nodes have said that they publish. Samples that come over connected topics have the id of theirs only.
    names: Names,
    /// What is known of the types of topics that were heard first without a schema.
    infos: Mutex<BTreeMap<(TopicId, u64, CodecKind), SharedInfo>>,
}

/// What is known of a type, which may become more: a schema that is announced later.
pub(super) type SharedInfo = Arc<Mutex<Arc<TypeInfo>>>;

/// Names of topics, by their ids.
pub(super) type Names = Arc<Mutex<BTreeMap<TopicId, String>>>;

impl AsBytes {
    pub(crate) fn new(matches: Arc<Matches>) -> Self {
        Self {
            matches,
            names: Names::default(),
            infos: Mutex::default(),
        }
    }

    /// Another node has said this of a topic that is heard: whoever does not know its schema learns it, as in one process.
    fn learn(&self, theirs: &TopicKey) {
        let info = told::heard(&theirs.type_name, theirs.type_hash, theirs.codec);
        if info.schema.is_none() {
            return;
        }
        let infos = self.infos.lock();
        if let Some(known) = infos.get(&(theirs.id, theirs.type_hash, theirs.codec)) {
            let mut known = known.lock();
            if known.schema.is_none() {
                *known = Arc::new(info);
            }
        }
    }

    /// What is known of the type of a topic of another node, now and later.
    fn info(&self, theirs: &TopicKey) -> SharedInfo {
        let info = told::heard(&theirs.type_name, theirs.type_hash, theirs.codec);
        let made = SharedInfo::new(Mutex::new(Arc::new(info)));
        if made.lock().schema.is_some() {
            return made;
        }
        let mut infos = self.infos.lock();
        let key = (theirs.id, theirs.type_hash, theirs.codec);
        // They come from outside, without end perhaps.
        if infos.len() >= NAMES_MAX && !infos.contains_key(&key) {
            return made;
        }
        infos.entry(key).or_insert(made).clone()
    }
}

impl Seeks<Raw> for AsBytes {
    fn wants(&self, theirs: &TopicKey, graph: &Graph) -> Result<bool, Error> {
        let mut names = self.names.lock();
        // They come from outside: only what is true, and no more than there is room for.
        if names.len() < NAMES_MAX && TopicId::from_name(&theirs.name) == theirs.id {
            names
                .entry(theirs.id)
                .or_insert_with(|| theirs.name.clone());
        }
        drop(names);
        let wants = self.matches.matches(&theirs.name, theirs.id)
            || graph.leads_to_match(theirs.id, &self.matches);
        if wants {
            self.learn(theirs);
        }
        Ok(wants)
    }

    fn reader(&self, theirs: &TopicKey, from: Arc<RemoteNode>, _: &Graph) -> Arc<dyn Reader<Raw>> {
        let info = self.info(theirs);
        let name = topic::intern(&theirs.name);
        Arc::new(Bare::new(name, theirs.id, info, from, self.names.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_id_is_that_id_and_all_else_is_a_name() {
        assert_eq!(id_of("7:1"), Some(TopicId::new(7, 1)));
        assert_eq!(id_of("0:0"), Some(TopicId::new(0, 0)));
        for name in [
            "",
            "7",
            "7:",
            ":1",
            "07:1",
            "+7:1",
            "7:1:2",
            "4294967295:0",
            "7:4294967296",
            "a:b",
        ] {
            assert_eq!(id_of(name), None, "{name}");
        }
    }
}
