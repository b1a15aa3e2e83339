//! Sizes, times and names in arguments.

use mproc::Pattern;
use std::time::Duration;

/// The longest time that an argument may say: over thirty years.
const SECONDS_MAX: f64 = 1e9;

/// A time in seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "it is no number of seconds")?;
    if !(0.0..=SECONDS_MAX).contains(&number) {
        return Err(format!("it must be from 0 to {SECONDS_MAX} seconds"));
    }
    Ok(Duration::from_secs_f64(number))
}

/// A rate of playing.
pub(crate) fn play_rate(text: &str) -> Result<f64, String> {
    positive(text, 0.001, 1000.0)
}

/// A frequency in Hz.
pub(crate) fn frequency(text: &str) -> Result<f64, String> {
    positive(text.trim_end_matches("Hz").trim_end(), 1e-6, 1e9)
}

fn positive(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it is no number")?;
    if !(least..=most).contains(&number) {
        return Err(format!("it must be from {least} to {most}"));
    }
    Ok(number)
}

/// A number of bytes: `500`, `64KiB`, `1.5 GiB`, `10MB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(at.unwrap_or(text.len()));
    let factor = match unit.trim() {
        "" | "B" => 1.0,
        "k" | "kB" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        "K" | "Ki" | "KiB" => 1024.0,
        "Mi" | "MiB" => 1024.0 * 1024.0,
        "Gi" | "GiB" => 1024.0 * 1024.0 * 1024.0,
        "Ti" | "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        other => {
            return Err(format!(
                "{other:?} is no unit: use KiB, MiB, GiB, kB, MB or GB"
            ));
        }
    };
    let number: f64 = number.parse().map_err(|_| "it is no size, as 500MiB is")?;
    let bytes = number * factor;
    if !(1.0..=1e18).contains(&bytes) {
        return Err("it must be from 1 byte to 1000000 TB".to_owned());
    }
    Ok(bytes as u64)
}

/// A name or pattern of topics.
pub(crate) fn topics(text: &str) -> Result<String, String> {
    Pattern::new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// `old=new`, two names of topics.
pub(crate) fn remap(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or("it must be OLD=NEW")?;
    for name in [old, new] {
        topics(name)?;
        if name.contains('*') {
            return Err(format!("{name:?} is a pattern; it must be a name"));
        }
    }
    Ok((old.to_owned(), new.to_owned()))
}

/// True for the text of a topic's id, as in 7:1. Patterns do not match it where topics are tapped.
pub(crate) fn is_id(topic: &str) -> bool {
    let pair = topic.split_once(':');
    pair.is_some_and(|(mid, cmd)| mid.parse::<u32>().is_ok() && cmd.parse::<u32>().is_ok())
}

/// Names and patterns of topics.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Vec<(String, Pattern)>);

impl Patterns {
    /// Of texts that [`topics`] has let through.
    pub(crate) fn new(texts: &[String]) -> Self {
        let known = texts
            .iter()
            .filter_map(|text| Some((text.clone(), Pattern::new(text).ok()?)));
        Self(known.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which is the first that matches this topic.
    pub(crate) fn first(&self, topic: &str) -> Option<usize> {
        self.0
            .iter()
            .position(|(_, pattern)| pattern.matches(topic))
    }

    /// Which is the first that a tap for it would hear this topic by.
    pub(crate) fn tapped(&self, topic: &str) -> Option<usize> {
        if is_id(topic) {
            return self.0.iter().position(|(text, _)| text == topic);
        }
        self.first(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("500"), Ok(500));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(size("10MB"), Ok(10_000_000));
        for wrong in [
            "",
            "x",
            "1 x",
            "-1",
            "0",
            "1e9",
            "..",
            "99999999999TB",
            "GiB",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_and_rates_are_in_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(frequency("10 Hz"), Ok(10.0));
        for wrong in ["", "x", "-1", "NaN", "inf", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
            assert!(play_rate(wrong).is_err(), "{wrong}");
            assert!(frequency(wrong).is_err(), "{wrong}");
        }
        assert!(play_rate("0").is_err());
    }

    #[test]
    fn names_are_remapped_by_pairs() {
        assert_eq!(remap("a/b=c"), Ok(("a/b".to_owned(), "c".to_owned())));
        for wrong in ["a", "=a", "a=", "a*=b", "a=**"] {
            assert!(remap(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let patterns = Patterns::new(&["a/*".to_owned(), "a/b".to_owned(), "7:1".to_owned()]);
        assert_eq!(patterns.first("a/b"), Some(0));
        assert_eq!(patterns.first("7:1"), Some(2));
        let all = Patterns::new(&["**".to_owned(), "7:1".to_owned()]);
        assert_eq!((all.first("7:1"), all.tapped("7:1")), (Some(0), Some(1)));
        assert_eq!(all.tapped("a/b"), Some(0));
        assert_eq!(patterns.first("c"), None);
    }
}
