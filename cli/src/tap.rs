//! Hearing topics without holding anybody back.
//!
//! A tap is a subscription that drops the oldest sample when its queue is full, so no publisher waits for it. Two things could
//! still cost a publisher something, and are avoided here:
//!
//! - What is queued occupies the publisher's shared memory, also while the command is stopped or its output is not read. So
//!   [`queue`] bounds the queue by the size of the values.
//! - Waking a thread that sleeps is a system call of the publisher. Above [`BUSY_HZ`] a tap does not sleep until somebody
//!   wakes it: it takes all that has come, and rests for a fixed time.

use crate::failure::{Code, Failure, Outcome};
use crate::output::note;
use crate::session::Session;
use crate::unanswered::Unanswered;
use crate::world::{TopicView, World, is_internal};
use mproc::{
    CodecKind, Pattern, PublisherId, Raw, RecvError, Sample, Schema, Subscription,
    SubscriptionOptions, TopicId, TryRecvError, TypeInfo, WhenFull,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// From this rate on a tap rests between its turns.
const BUSY_HZ: f64 = 1000.0;
const REST_MAX: Duration = Duration::from_millis(10);
const REST_MIN: Duration = Duration::from_micros(500);
/// What is queued for a tap may occupy so much of a publisher's shared memory, as far as that is known.
const QUEUED_BYTES_MAX: usize = 32 << 20;
/// How long programs may take to say that nobody publishes any more: meanwhile nothing is shown. Who takes longer has not gone.
const ASK_LIMIT: Duration = Duration::from_millis(500);
/// After so long without a sample it is asked whether anybody publishes at all.
const SILENCE: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// The places of a tap's queue for values of these types.
fn queue<'a>(types: impl Iterator<Item = &'a TypeInfo>) -> usize {
    let of = |info: &TypeInfo| match (info.codec, Schema::of(info)) {
        (CodecKind::Plain, Some(schema)) => {
            (QUEUED_BYTES_MAX / schema.bytes().max(1)).clamp(4, 1024)
        }
        // Pictures and the like: nobody knows how large.
        (CodecKind::Plain | CodecKind::Slices, _) => 32,
        _ => 512,
    };
    types.map(of).min().unwrap_or(256)
}

/// Which topics are meant.
#[derive(Clone, Debug)]
enum Wanted {
    Name(String),
    Matching(Pattern),
}

impl Wanted {
    fn new(text: &str) -> Outcome<Self> {
        if !text.contains('*') {
            return Ok(Self::Name(text.to_owned()));
        }
        let pattern =
            Pattern::new(text).map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
        Ok(Self::Matching(pattern))
    }

    fn is(&self, name: &str) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Matching(pattern) => {
                pattern.matches(name)
                    && (!is_internal(name) || pattern.to_string().starts_with("mproc/"))
            }
        }
    }

    fn of<'a>(&self, world: &'a World) -> Vec<TopicView<'a>> {
        let mut topics = world.topics();
        topics.retain(|topic| self.is(topic.name));
        topics
    }
}

/// How a tap is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TapOptions {
    /// The places of its queue, if it was said.
    pub(crate) queue: Option<usize>,
    /// It never rests: samples are taken as soon as they come.
    pub(crate) is_prompt: bool,
}

/// What came next.
pub(crate) enum Heard {
    Sample(Sample<Raw>),
    /// Nothing until the deadline.
    Nothing,
    /// The command is to end.
    End,
}

/// A tap, and whether anybody publishes what it hears.
#[derive(Debug)]
pub(crate) struct Tap<'a> {
    session: &'a Session,
    text: String,
    wanted: Wanted,
    subscription: Subscription<Raw>,
    capacity: usize,
    is_prompt: bool,
    /// What the domain said when it was asked last.
    world: World,
    unanswered: Unanswered,
    /// Samples taken since then, for the rate.
    taken: (Instant, u32),
    /// Whether anybody published when it was asked last, and when to ask next.
    is_published: bool,
    ask_at: Instant,
    silence: Duration,
    /// Samples that were lost, and when that was told last.
    lost: u64,
    heard: u64,
    /// In the order in which they were heard first.
    publishers: BTreeMap<TopicId, Vec<PublisherId>>,
    /// One moment by both clocks: so samples have the distances in unix time that they have in steady time.
    moment: (Instant, SystemTime),
}

impl<'a> Tap<'a> {
    /// A tap of `text`: a name, a pattern, or an id as text. Says so if nobody publishes there yet.
    pub(crate) fn open(session: &'a Session, text: &str, options: TapOptions) -> Outcome<Self> {
        let wanted = Wanted::new(text)?;
        let world = session.look()?;
        let topics = wanted.of(&world);
        let is_local =
            |topic: &TopicView<'_>| topic.types.iter().all(|t| t.codec == CodecKind::Local);
        if !topics.is_empty() && topics.iter().all(is_local) {
            let failure = Failure::new(
                Code::Failed,
                format!("values of {text:?} do not leave their process: it is a local topic"),
            );
            return Err(failure.hint("Topic::new or Topic::plain in the program"));
        }
        let capacity = options
            .queue
            .unwrap_or_else(|| queue(topics.iter().flat_map(|topic| &topic.types)));
        let subscription = session
            .tap(
                text,
                SubscriptionOptions::new()
                    .capacity(capacity)
                    .when_full(WhenFull::DropOldest),
            )
            .map_err(|error| match error.kind() {
                mproc::ErrorKind::InvalidName | mproc::ErrorKind::InvalidSetting => {
                    Failure::new(Code::Usage, error.to_string())
                }
                _ => Failure::from(error),
            })?;
        let is_published = topics.iter().any(|topic| !topic.publishers.is_empty());
        if !is_published {
            let nearest = match &wanted {
                Wanted::Name(name) if topics.is_empty() => {
                    let topics = world.topics();
                    let published = topics.iter().filter(|t| !t.publishers.is_empty());
                    crate::failure::nearest(name, published.map(|topic| topic.name))
                        .map(str::to_owned)
                }
                _ => None,
            };
            let nearest = nearest.map_or(String::new(), |near| format!("; there is {near:?}"));
            let silent = match world.silent.len() {
                0 => String::new(),
                n => format!("; {n} of the programs do not answer"),
            };
            note(&format!(
                "waiting: nobody publishes {text:?} yet{nearest}{silent}"
            ));
        }
        let now = session.now();
        Ok(Self {
            session,
            text: text.to_owned(),
            wanted,
            subscription,
            capacity,
            is_prompt: options.is_prompt,
            world,
            unanswered: Unanswered::default(),
            taken: (now, 0),
            is_published,
            ask_at: now + SILENCE,
            silence: SILENCE,
            lost: 0,
            publishers: BTreeMap::new(),
            heard: 0,
            moment: (now, SystemTime::now()),
        })
    }

    /// True if it hears more than one topic, so that each sample's must be told.
    pub(crate) fn is_pattern(&self) -> bool {
        matches!(self.wanted, Wanted::Matching(_))
    }

    /// A sample that has come already.
    pub(crate) fn try_next(&mut self) -> Option<Sample<Raw>> {
        let sample = self.subscription.try_recv().ok()?;
        self.note_sample(&sample);
        Some(sample)
    }

    /// Whose sample it is: the publishers of a topic by the order in which they were heard first. 1 is the first.
    pub(crate) fn publisher(&mut self, sample: &Sample<Raw>) -> usize {
        let known = self.publishers.entry(sample.topic_id()).or_default();
        let id = sample.publisher();
        let at = known.iter().position(|known| *known == id);
        at.unwrap_or_else(|| {
            known.push(id);
            known.len() - 1
        }) + 1
    }

    /// How many publishers of this sample's topic were heard.
    pub(crate) fn publisher_count(&self, sample: &Sample<Raw>) -> usize {
        self.publishers.get(&sample.topic_id()).map_or(0, Vec::len)
    }

    /// The next sample; `Nothing` at the `deadline`, if there is one.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Outcome<Heard> {
        loop {
            match self.subscription.try_recv() {
                Ok(sample) => {
                    self.note_sample(&sample);
                    return Ok(Heard::Sample(sample));
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed | TryRecvError::Disconnected) => return Ok(Heard::End),
            }
            let now = self.session.now();
            if self.session.is_ending() {
                return Ok(Heard::End);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Heard::Nothing);
            }
            if let Some(rest) = self.rest(now) {
                let rest = left.map_or(rest, |left| rest.min(left));
                // Ctrl-C ends it, and is seen above.
                let _ended_early = self.session.steady_clock().sleep(rest).wait();
                continue;
            }
            let until_asked = self.ask_at.saturating_duration_since(now);
            let limit = left.map_or(until_asked, |left| left.min(until_asked));
            match self.subscription.recv_timeout(limit) {
                Ok(sample) => {
                    self.note_sample(&sample);
                    return Ok(Heard::Sample(sample));
                }
                Err(RecvError::Timeout) if self.session.now() >= self.ask_at => self.ask()?,
                Err(RecvError::Timeout) => {}
                Err(RecvError::Interrupted | RecvError::Closed | RecvError::Disconnected) => {
                    return Ok(Heard::End);
                }
                Err(error) => return Err(Failure::from(mproc::Error::from(error))),
            }
        }
    }

    fn note_sample(&mut self, sample: &Sample<Raw>) {
        self.taken.1 += 1;
        self.heard += 1;
        self.lost += sample.gap();
        if !self.is_published {
            self.is_published = true;
            if self.heard > 1 {
                note(&format!("{:?} is published again", self.text));
            }
        }
        self.silence = SILENCE;
        self.publisher(sample);
    }

    /// How long to leave the queue alone, if samples come so fast that it is worth it.
    fn rest(&mut self, now: Instant) -> Option<Duration> {
        let (since, taken) = self.taken;
        if taken > 0 {
            self.ask_at = now + self.silence;
        }
        let hz = f64::from(taken) / now.duration_since(since).as_secs_f64().max(1e-6);
        if self.is_prompt {
            self.taken = (now, 0);
            return None;
        }
        // A few say nothing of a rate.
        if taken < 16 {
            if now.duration_since(since) > Duration::from_millis(16) {
                self.taken = (now, 0);
            }
            return None;
        }
        self.taken = (now, 0);
        let quarter = Duration::from_secs_f64(self.capacity as f64 / hz / 4.0);
        (hz > BUSY_HZ).then(|| quarter.clamp(REST_MIN, REST_MAX))
    }

    /// Asks whether anybody publishes, after a silence, and says so if that has changed.
    fn ask(&mut self) -> Outcome {
        self.silence = (self.silence * 2).min(SILENCE_MAX);
        self.look_for(ASK_LIMIT.min(self.session.look_limit()))?;
        self.ask_at = self.session.now() + self.silence;
        let topics = self.wanted.of(&self.world);
        let is_published = topics.iter().any(|topic| !topic.publishers.is_empty());
        // A program that does not answer may be the one: it has not gone.
        if self.is_published && !is_published && self.world.silent.is_empty() {
            self.is_published = false;
            note(&format!(
                "nobody publishes {:?} any more; waiting for it to come again",
                self.text
            ));
        }
        Ok(())
    }

    fn look_for(&mut self, limit: Duration) -> Outcome {
        match self.session.look_for(limit) {
            Ok(world) => self.world = world,
            // Ctrl-C: the next turn ends.
            Err(_) if self.session.is_ending() => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// What is known of the type of this sample's values: also the layout of plain data, which only the programs can tell.
    pub(crate) fn info(&mut self, sample: &Sample<Raw>) -> Outcome<TypeInfo> {
        let info = sample.info();
        if info.codec == CodecKind::Serde || Schema::of(info).is_some() {
            return Ok(info.clone());
        }
        let topic = sample.topic();
        if let Some(known) = self.known(&topic, info) {
            return Ok(known);
        }
        self.look_for(self.session.look_limit())?;
        if let Some(known) = self.known(&topic, info) {
            self.unanswered.settle(&topic, info.type_hash);
            return Ok(known);
        }
        // Who does not answer may be the one that knows.
        match self.world.silent.is_empty() {
            true => self.unanswered.settle(&topic, info.type_hash),
            false => self
                .unanswered
                .put_off(&topic, info.type_hash, self.session.now()),
        }
        Ok(info.clone())
    }

    /// True if [`info`](Self::info) did not know all of this topic's type, and it is time to ask it again.
    pub(crate) fn may_know_more(&self, topic: &str, type_hash: u64) -> bool {
        self.unanswered.is_due(topic, type_hash, self.session.now())
    }

    fn known(&self, topic: &str, info: &TypeInfo) -> Option<TypeInfo> {
        let topics = self.world.topics();
        let topic = topics.into_iter().find(|known| known.name == topic)?;
        let same = |known: &TypeInfo| {
            known.type_hash == info.type_hash && known.codec == info.codec && known.schema.is_some()
        };
        topic.types.into_iter().find(same)
    }

    /// When `moment` was, in nanoseconds since 1970 began, by this host's wall clock.
    pub(crate) fn unix_ns(&self, moment: Instant) -> u64 {
        let (steady, wall) = self.moment;
        // Another process has said when it was: it may be any moment.
        let wall = match moment.checked_duration_since(steady) {
            Some(later) => wall.checked_add(later),
            None => wall.checked_sub(steady.duration_since(moment)),
        };
        let since = wall.and_then(|wall| wall.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
    }

    /// Says how many samples it has not seen, if any.
    pub(crate) fn tell_lost(&self) {
        if self.lost > 0 {
            note(&format!(
                "{} samples were not seen, {} were: they came faster than they were taken. Nobody waited for this; try --queue \
                 with more than {}",
                self.lost, self.heard, self.capacity
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_holds_little_of_large_values() {
        let places = |info: TypeInfo| queue([info].iter());
        let plain = |name: &str| TypeInfo::new(name, 1, CodecKind::Plain);
        assert_eq!(places(plain("f64")), 1024);
        assert_eq!(places(plain("[u8; 6220800]")), 5);
        assert_eq!(places(plain("[[u64; 4096]; 4096]")), 4);
        // Nobody knows how large.
        assert_eq!(places(plain("camera::Frame")), 32);
        assert_eq!(places(TypeInfo::new("[u8]", 1, CodecKind::Slices)), 32);
        assert_eq!(places(TypeInfo::serde("Pose")), 512);
        assert_eq!(queue([].iter()), 256);
    }

    #[test]
    fn a_pattern_leaves_out_what_is_internal_unless_it_names_it() {
        let is = |wanted: &str, name| Wanted::new(wanted).unwrap().is(name);
        assert!(is("**", "a/b") && !is("**", "mproc/events"));
        assert!(is("mproc/**", "mproc/events") && is("mproc/events", "mproc/events"));
        assert!(Wanted::new("a*").is_err());
    }
}
