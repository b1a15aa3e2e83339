//! Numbers as people read them.

use std::time::Duration;

/// With three digits that count, and a prefix: `12.3 k`.
fn scaled(number: f64, step: f64, prefixes: &[&str]) -> (String, usize) {
    let mut value = number;
    let mut prefix = 0;
    while value.abs() >= step * 0.9995 && prefix + 1 < prefixes.len() {
        value /= step;
        prefix += 1;
    }
    let digits = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    (format!("{value:.digits$}"), prefix)
}

/// How many: exact below ten thousand, then `12.3k`.
pub(crate) fn count(number: u64) -> String {
    if number < 10_000 {
        return number.to_string();
    }
    const PREFIXES: [&str; 5] = ["", "k", "M", "G", "T"];
    let (text, prefix) = scaled(number as f64, 1000.0, &PREFIXES);
    format!("{text}{}", PREFIXES[prefix])
}

/// How often: `12.3 kHz`.
pub(crate) fn rate(per_second: f64) -> String {
    const PREFIXES: [&str; 4] = ["Hz", "kHz", "MHz", "GHz"];
    let (text, prefix) = scaled(per_second, 1000.0, &PREFIXES);
    format!("{text} {}", PREFIXES[prefix])
}

/// How many bytes: `1.50 MiB`.
pub(crate) fn data(bytes: u64) -> String {
    const PREFIXES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (text, prefix) = scaled(bytes as f64, 1024.0, &PREFIXES);
    format!("{text} {}", PREFIXES[prefix])
}

/// How long: `1.25 ms`; from a minute on `2m 5s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        86_400.. => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
        _ => {
            const PREFIXES: [&str; 4] = ["ns", "us", "ms", "s"];
            let (text, prefix) = scaled(time.as_nanos() as f64, 1000.0, &PREFIXES);
            format!("{text} {}", PREFIXES[prefix])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        assert_eq!(count(0), "0");
        assert_eq!(count(9999), "9999");
        assert_eq!(count(12_345), "12.3k");
        assert_eq!(count(u64::MAX), "18446744T");
        assert_eq!(rate(0.5), "0.50 Hz");
        assert_eq!(rate(999.9), "1.00 kHz");
        assert_eq!(rate(100_000.0), "100 kHz");
        assert_eq!(data(1023), "1023 B");
        assert_eq!(data(1_572_864), "1.50 MiB");
        assert_eq!(duration(Duration::from_nanos(1250)), "1.25 us");
        assert_eq!(duration(Duration::from_millis(59_000)), "59.0 s");
        assert_eq!(duration(Duration::from_secs(125)), "2m 5s");
        assert_eq!(duration(Duration::from_secs(90_000)), "1d 1h");
    }
}
