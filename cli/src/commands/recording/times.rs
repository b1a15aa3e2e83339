//! From the steady clock to the time of day, and the time of day as text.

use std::time::{Duration, Instant, SystemTime};

/// One pair of readings of both clocks. All times of a recording come from it, so that their differences are those of the
/// steady clock, whatever becomes of the time of day meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    steady: Instant,
    unix_ns: u64,
}

/// Now, in nanoseconds since 1970.
pub(crate) fn unix_now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, nanoseconds)
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Times {
    /// The pair of the steady clock, which shows `steady` now, and the time of day.
    pub(crate) fn new(steady: Instant, unix_ns: u64) -> Self {
        Self { steady, unix_ns }
    }

    /// The time of day of the pair.
    pub(crate) fn unix_ns(&self) -> u64 {
        self.unix_ns
    }

    /// How far the time of day has moved against the steady clock since the pair: it is set, and it runs a little faster or slower.
    pub(crate) fn drift_ns(&self) -> i64 {
        let steady = self.unix(Instant::now());
        unix_now_ns().wrapping_sub(steady).cast_signed()
    }

    /// What the time of day was when the steady clock showed this, in nanoseconds since 1970.
    pub(crate) fn unix(&self, steady: Instant) -> u64 {
        match steady.checked_duration_since(self.steady) {
            Some(later) => self.unix_ns.saturating_add(nanoseconds(later)),
            None => {
                let earlier = self.steady.saturating_duration_since(steady);
                self.unix_ns.saturating_sub(nanoseconds(earlier))
            }
        }
    }
}

/// The days, months and years of a number of days since 1970 (the algorithm is Howard Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// `2026-11-21 20:29:43.123456789 UTC`.
pub(crate) fn text(unix_ns: u64) -> String {
    let (seconds, ns) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ns:09} UTC")
}

/// `2026-11-21_20-29-43`, for names of files.
pub(crate) fn name(unix_ns: u64) -> String {
    let text = text(unix_ns);
    text[..19].replace(' ', "_").replace(':', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_the_pair_are_exact() {
        let now = Instant::now() + Duration::from_secs(100);
        let times = Times::new(now, 5_000_000_000);
        assert_eq!(times.unix(now + Duration::from_nanos(7)), 5_000_000_007);
        assert_eq!(times.unix(now - Duration::from_nanos(7)), 4_999_999_993);
        assert_eq!(times.unix(now - Duration::from_secs(50)), 0);
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(text(0), "1970-01-01 00:00:00.000000000 UTC");
        assert_eq!(
            text(951_827_696_000_000_001),
            "2000-02-29 12:34:56.000000001 UTC"
        );
        assert_eq!(
            text(1_735_689_599_999_999_999),
            "2024-12-31 23:59:59.999999999 UTC"
        );
        assert_eq!(name(1_795_292_983_000_000_000), "2026-11-21_20-29-43");
        assert_eq!(text(u64::MAX), "2554-07-21 23:34:33.709551615 UTC");
    }
}
