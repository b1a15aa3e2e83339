//! The series as a file: one line for each value, so that any tool can filter and plot it without knowing the metrics.

use std::{fs::File, io, path::Path};

use crate::{metric::Unit, rates::Rates};

/// Writes `time_s,metric,unit,value`.
pub(crate) struct Series<W: io::Write> {
    writer: ::csv::Writer<W>,
    rows: u64,
}

impl Series<File> {
    /// Creates the file, or empties the one that is there.
    ///
    /// # Errors
    ///
    /// Names the file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| {
            let message = format!("cannot write {}: {error}", path.display());
            io::Error::new(error.kind(), message)
        };
        Self::new(File::create(path).map_err(named)?).map_err(named)
    }
}

impl<W: io::Write> Series<W> {
    pub(crate) fn new(out: W) -> io::Result<Self> {
        let mut writer = ::csv::Writer::from_writer(out);
        writer.write_record(["time_s", "metric", "unit", "value"])?;
        Ok(Self { writer, rows: 0 })
    }

    pub(crate) fn write(&mut self, rates: &Rates) -> io::Result<()> {
        let seconds = format!("{:.3}", rates.at.as_secs_f64());
        for value in &rates.values {
            let unit = match value.metric.unit() {
                Unit::Percent => "percent",
                Unit::Bytes => "bytes",
                Unit::BytesPerSecond => "bytes_per_second",
            };
            let metric = value.metric.to_string();
            let value = format!("{:.3}", value.value);
            self.writer
                .write_record([seconds.as_str(), metric.as_str(), unit, value.as_str()])?;
            self.rows += 1;
        }
        Ok(())
    }

    /// Writes what is buffered and returns the number of values. Dropping a series would write it too, and hide an error.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.writer.flush()?;
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{metric::Metric, rates::Value};

    #[test]
    fn one_line_for_each_value_with_strange_names_quoted() {
        let mut out = Vec::new();
        let mut series = Series::new(&mut out).unwrap();
        let rates = Rates {
            at: Duration::from_millis(1250),
            values: vec![
                Value {
                    metric: Metric::Cpu,
                    value: 12.5,
                },
                Value {
                    metric: Metric::ProcessMemory {
                        pid: 7,
                        comm: "a,\"b\"".to_owned(),
                    },
                    value: 8192.0,
                },
            ],
            went_back: 0,
        };
        series.write(&rates).unwrap();
        assert_eq!(series.finish().unwrap(), 2);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "time_s,metric,unit,value\n\
             1.250,cpu,percent,12.500\n\
             1.250,\"process memory a,\"\"b\"\" (7)\",bytes,8192.000\n"
        );
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("missing").join("series.csv");
        let error = Series::create(&path).err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("cannot write {}: ", path.display())),
            "{error}"
        );
    }
}
